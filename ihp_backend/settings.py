"""Every IHP_* option, typed. The only reader of the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from errno import ENOSPC
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self, get_type_hints
from urllib.parse import urlsplit

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")
_HOST = re.compile(r"(\*|(\*\.)?[^\s/@:*\[\]]+|\[[0-9a-f:.]+\])(:\d+)?")


class SettingsError(ValueError):
    """An IHP_* variable has a value that cannot be."""


def _option(default: Any, doc: str, **limits: float) -> Any:
    metadata = {"doc": doc, **limits}
    return field(default=default, metadata=metadata, repr="token" not in doc and "assword" not in doc)


@dataclass(frozen=True)
class Settings:
    """The deployment's options; each is read from the variable IHP_ and its name in capitals.

    Secrets may come from a file instead: IHP_LABEL_STUDIO_TOKEN_FILE, IHP_BASIC_AUTH_PASSWORD_FILE.
    """

    host: str = _option("127.0.0.1", "Address to listen on.")
    port: int = _option(9090, "Port to listen on; 0 takes a free one.", least=0, most=65535)
    threads: int = _option(
        0, "Predictions computed at the same time; 0: two, or one for each 4 cores.", least=0, most=256
    )
    torch_threads: int = _option(0, "CPU threads of one prediction; 0: the cores, shared by those under way.", least=0)
    queue_limit: int = _option(64, "Requests waiting or running before new ones get 503.", least=1)
    max_body_mb: int = _option(64, "Largest request, in MB; every request carries the draft's masks.", least=1)
    request_memory_mb: int = _option(
        1000, "Memory that requests may take together, in MB; over it they wait, or get 413 or 503.", least=100
    )
    data_dir: Path = _option(Path(".ihp"), "Where connections, versions and caches are kept.")
    weights: str = _option(
        "lip",
        "Weights that answer for their own label set: a name in model_weights/, or a folder. Other label sets are "
        "answered by model_weights/cihp, helen, lip and pascal-person-part.",
    )
    device: str = _option("auto", "auto, cpu, cuda or cuda:N.")
    label_studio_url: str = _option("", "Label Studio's address; default: what it says of itself.")
    label_studio_token: str = _option("", "An access token of Label Studio, legacy or personal.")
    basic_auth_user: str = _option("", "User that Label Studio must give; empty: none is asked for.")
    basic_auth_password: str = _option("", "Password of that user.")
    allow_anonymous: bool = _option(False, "Listen beyond loopback without user and password.")
    served_hosts: tuple[str, ...] = _option(
        (), "Names by which callers without a password may call this server, beside addresses and localhost."
    )
    allowed_hosts: tuple[str, ...] = _option(
        (), "Hosts, beside Label Studio's, whose images may be fetched: a.example, a.example:9000, *.a.example, *."
    )
    allow_private_addresses: bool = _option(
        False, "Fetch images from private addresses, too. Label Studio's own may be private anyway."
    )
    local_files_root: Path | None = _option(None, "Folder that /data/local-files/ stands for, to read it directly.")
    max_image_bytes: int = _option(100_000_000, "Largest image file, in bytes.", least=1)
    max_image_pixels: int = _option(100_000_000, "Largest image, in pixels.", least=1, most=2**30)
    fetch_timeout_s: float = _option(20.0, "Longest download of an image, in seconds.", least=0.01, most=600)
    image_cache_mb: int = _option(104, "Memory for decoded images, in MB.", least=0)
    prefetch_next: bool = _option(True, "Make the next photo of a project ready while its annotator looks at this one.")
    base_models_in_memory: int = _option(4, "Label sets whose base weights are kept in memory.", least=1)
    models_in_memory: int = _option(4, "Projects whose own versions are kept in memory.", least=1)
    kept_versions: int = _option(5, "Versions of a project whose weights are kept; older ones are deleted.", least=2)
    trainer: bool = _option(True, "Start a trainer beside the server.")
    train_after: int = _option(5, "Train after so many new or changed annotations; 0: when asked only.", least=0)
    train_steps: int = _option(0, "Steps of one training; 0: what is usual.", least=0)
    base_data: Path | None = _option(None, "Folder data set that trainings rehearse, so that nothing is forgotten.")
    queue_url: str = _option(
        "", "Where trainings are queued, such as redis://:password@host:6379/0; default: a file in IHP_DATA_DIR."
    )
    training_cache_mb: int = _option(2000, "Disk space for the photos of trainings, in MB.", least=0)
    log_level: str = _option("INFO", "DEBUG, INFO, WARNING or ERROR.")

    def __post_init__(self) -> None:
        """Checks what a type cannot say."""
        for option in fields(self):
            value = getattr(self, option.name)
            least, most = option.metadata.get("least"), option.metadata.get("most")
            if (least is not None and not value >= least) or (most is not None and not value <= most):
                bounds = f"at least {least}" if most is None else f"{least} to {most}"
                raise SettingsError(f"{variable(option.name)} is {value}; expected {bounds}")
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise SettingsError(f"IHP_LOG_LEVEL is {self.log_level!r}; expected DEBUG, INFO, WARNING or ERROR")
        if self.device not in ("auto", "cpu", "cuda") and not (
            self.device.startswith("cuda:") and self.device[5:].isdecimal()
        ):
            raise SettingsError(f"IHP_DEVICE is {self.device!r}; expected auto, cpu, cuda or cuda:N")
        if "@" in self.label_studio_url.partition("//")[2].partition("/")[0]:
            raise SettingsError("IHP_LABEL_STUDIO_URL has a user or password in it; use IHP_LABEL_STUDIO_TOKEN instead")
        if self.label_studio_url and not is_web_address(self.label_studio_url):
            raise SettingsError(
                f"IHP_LABEL_STUDIO_URL is {self.label_studio_url!r}; expected such as http://127.0.0.1:8080"
            )
        if self.queue_url and urlsplit(self.queue_url).scheme not in ("redis", "rediss", "unix"):
            raise SettingsError(
                f"IHP_QUEUE_URL begins with {self.queue_url.partition(':')[0]!r}; expected such as redis://host:6379/0"
            )
        for host in self.allowed_hosts:
            if not _HOST.fullmatch(host):
                raise SettingsError(
                    f"IHP_ALLOWED_HOSTS has {host!r}; expected such as a.example, a.example:9000, *.a.example or *"
                )
        if bool(self.basic_auth_user) != bool(self.basic_auth_password):
            raise SettingsError("IHP_BASIC_AUTH_USER and IHP_BASIC_AUTH_PASSWORD go together; one of them is not set")

    @property
    def only_known_callers(self) -> bool:
        """Whether only who has the password, or is on this machine, can call: what they tell can be believed."""
        return bool(self.basic_auth_password) or is_loopback(self.host)

    def make_data_dir(self) -> None:
        """Makes IHP_DATA_DIR if it is not there.

        Raises:
            SettingsError: If it cannot be used: nothing that annotators teach would be kept.
        """
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.data_dir):
                pass
        except OSError as error:
            if error.errno == ENOSPC:
                return  # it may have room later
            raise SettingsError(
                f"IHP_DATA_DIR is {self.data_dir}, where nothing can be kept ({error.strerror}); expected a folder "
                "that this user may write to"
            ) from None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Reads the IHP_* variables.

        Args:
            environ: The environment; default: that of the process.

        Raises:
            SettingsError: If a variable is unknown or has a value that cannot be; the message says which and what
                was expected.
        """
        environ = os.environ if environ is None else environ
        types = get_type_hints(cls)
        known = {variable(option.name): option.name for option in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in environ.items():
            if not name.startswith("IHP_"):
                continue
            if f"{name}_FILE" in environ and name in known:
                raise SettingsError(f"{name} and {name}_FILE are both set; expected one of them")
            if name in known:
                values[known[name]] = _read(name, text, types[known[name]])
            elif name.removesuffix("_FILE") in known:
                values[known[name.removesuffix("_FILE")]] = _read_file(name, text)
            else:
                raise SettingsError(f"unknown variable {name}; known are {', '.join(known)}")
        return cls(**values)

    @classmethod
    def table(cls) -> str:
        """Returns all options as a Markdown table."""
        lines = ["| variable | default | what it does |", "| --- | --- | --- |"]
        for option in fields(cls):
            default = option.default if option.default not in (MISSING, None, "", ()) else ""
            lines.append(f"| `{variable(option.name)}` | {default} | {option.metadata['doc']} |")
        return "\n".join(lines)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is this machine's own."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def variable(name: str) -> str:
    """Returns the environment variable of an option."""
    return f"IHP_{name.upper()}"


def is_web_address(url: str) -> bool:
    """Whether an address has http or https, a host, and a port that can be."""
    try:
        parts = urlsplit(url)
        # Reading the port checks it.
        has_host = bool(parts.hostname) and not re.search(r"\s", url)
        return parts.scheme in ("http", "https") and has_host and (parts.port or 1) > 0
    except ValueError:
        return False


def _read(name: str, text: str, kind: Any) -> Any:
    if kind is bool:
        if text.lower() not in _TRUE + _FALSE:
            raise SettingsError(f"{name} is {text!r}; expected true or false")
        return text.lower() in _TRUE
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise SettingsError(f"{name} is {text!r}; expected {what}") from None
    if kind == tuple[str, ...]:
        return tuple(host.strip().lower() for host in text.split(",") if host.strip())
    if kind == Path | None or kind is Path:
        return Path(text).expanduser() if text or kind is Path else None
    return text.strip() if name == variable("label_studio_url") else text


def _read_file(name: str, path: str) -> str:
    if not name.endswith(("_TOKEN_FILE", "_PASSWORD_FILE", "_QUEUE_URL_FILE")):
        raise SettingsError(f"unknown variable {name}; only tokens, passwords and IHP_QUEUE_URL are read from files")
    try:
        text = Path(path).read_text(encoding="utf-8-sig").strip()  # Windows' editors begin with a mark
        if not text:
            raise SettingsError(f"{name}: {path} is empty; expected the secret in it")
        return text
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name}: {path} is not text in UTF-8; write it anew") from error
    except OSError as error:
        raise SettingsError(f"{name}: {path} cannot be read: {error.strerror}") from error
