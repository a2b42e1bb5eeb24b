"""From the address in a task's data to pixels: uploads, local files, the web and data URLs."""

from __future__ import annotations

import base64
import hashlib
import os
import posixpath
import re
import stat
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from urllib.parse import parse_qs, unquote_to_bytes, urljoin, urlsplit

import numpy as np
from numpy.typing import NDArray

from ihp_backend.cache import LoadingCache
from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.connections import Connection
from ihp_backend.label_studio.decoding_process import Work, decode_apart
from ihp_backend.label_studio.fetching import FetchError, HttpUrl, Reply, get
from ihp_backend.label_studio.image_address import askable, stored_in
from ihp_backend.label_studio.image_decoding import ImageError, decode_image
from ihp_backend.memory import Lane, MemoryLimitError, reserved
from ihp_backend.settings import Settings

__all__ = ["ImageError", "ImageLoader", "decode_image"]

_LOCAL_FILES = "/data/local-files"
_LOOPBACK = ("127.0.0.1", "::1")
_UPLOADS = "/data/upload/"
_MAX_CLIENTS = 64
_MAX_REDIRECTS = 5
_PAUSE_S = 0.5
ASK_S, ASK_BYTES = 5.0, 4_000_000
"""The server itself asks Label Studio for little; pages of tasks are for commands and trainers."""
_LARGE = 20_000_000
"""Pixels, times the scans of a JPEG."""
_MOST_WAITING, _FEW_WAITING = 100, 4
"""For a place to decode, for each core: a place takes long where an image does, and who waits is one of few."""
_MOST_WAITING_FOR_ONE = 16
"""Requests that wait for the same image while another one loads it: they take places of others."""


class ImageLoader:
    """Loads the images of tasks, and keeps the last ones. May be shared between threads.

    Only Label Studio's own host and IHP_ALLOWED_HOSTS are asked, after every redirect anew; the token goes to Label
    Studio alone. Private addresses are refused, except Label Studio's own, as far as its address is in the settings or
    was told by somebody who may be believed.

    Args:
        settings: Whose hosts, limits and cache size hold.

    Attributes:
        cache: The images kept, by address and token.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.cache: LoadingCache[tuple[str, ...], NDArray[np.uint8]] = LoadingCache(
            settings.image_cache_mb * 1_000_000, lambda image: image.nbytes, _MOST_WAITING_FOR_ONE
        )
        self._clients: OrderedDict[tuple[str, str], Client] = OrderedDict()
        self._lock = Lock()
        cores = os.cpu_count() or 1
        self._decoding = Lane(cores, _MOST_WAITING * cores)  # more at once take more memory, and no less time
        self._decoding_apart = Lane(cores, _FEW_WAITING * cores)
        self._decoding_large = Lane(max(1, cores // 4), _FEW_WAITING * cores)  # large ones do not hold the others up

    def load(self, url: str, *, hostname: str | None, token: str | None, told: str = "") -> NDArray[np.uint8]:
        """Returns the image that a task's data names.

        An address without a host, such as ``/data/upload/...``, is Label Studio's: that of the settings,
        else ``hostname``. Only there goes the token, and the settings' token only to the settings' address.

        Args:
            url: ``/data/upload/...``, ``/data/local-files/?d=...``, http(s), or a data URL, see ``askable``.
            hostname: Label Studio's address, as it told it, such as ``"http://127.0.0.1:8080"``.
            token: Its legacy or personal access token.
            told: Label Studio's address as it calls itself, if that is another one: what begins with it is asked for
                at ``hostname``, or at the address of the settings.

        Returns:
            (H, W, 3) uint8 RGB, turned as a browser shows it, read-only: other threads have it, too.

        Raises:
            ImageError: If the image cannot be had or is not allowed; the message says why.
            LabelStudioError: If the personal access token cannot be exchanged.
        """
        url = askable(url)
        if url[:5].lower() == "data:":
            key: tuple[str, ...] = (hashlib.blake2b(url.encode("utf-8", "replace")).hexdigest(),)
            return self.cache.get(key, lambda: self._decoded(self._inline(url)))
        base, token = self._access(hostname, token)
        absolute = _absolute(url, base, told)
        # Who holds another token may not see the same images.
        key = (absolute, base, hashlib.blake2b(token.encode("utf-8", "replace")).hexdigest())
        return self.cache.get(key, lambda: self._decoded(self._bytes(absolute, base, token, told)))

    def fetch(self, url: str, *, hostname: str | None, token: str | None, told: str = "") -> bytes:
        """Returns an image's file as it is, by the rules of ``load``; nothing is kept. Raises as ``load`` does."""
        url = askable(url)
        if url[:5].lower() == "data:":
            return self._inline(url)
        base, token = self._access(hostname, token)
        return self._bytes(_absolute(url, base, told), base, token, told)

    def check(self, hostname: str, token: str) -> None:
        """Asks Label Studio who the token's user is. Raises as ``ask`` does."""
        self.ask("/api/current-user/whoami", hostname, token)

    def ask(self, path: str, hostname: str, token: str) -> bytes:
        """Asks Label Studio for a small answer, by the same rules as for its images.

        Args:
            path: Of its API, such as ``"/api/projects/1/"``.
            hostname: Its address.
            token: Of the user who asks.

        Raises:
            ImageError: If it cannot be asked, or refuses.
            LabelStudioError: If the personal access token cannot be exchanged.
        """
        try:
            until = monotonic() + min(ASK_S, self._settings.fetch_timeout_s)
            return self._fetched(hostname.rstrip("/") + path, hostname, token, until=until, max_bytes=ASK_BYTES)
        except FetchError as error:
            raise ImageError(str(error), is_temporary=error.is_temporary, status=error.status) from None

    def _access(self, hostname: str | None, token: str | None) -> tuple[str, str]:
        """Label Studio's address and token: those of the settings, else what was told."""
        settings = self._settings
        if settings.label_studio_url:
            return settings.label_studio_url, settings.label_studio_token or token or ""
        return hostname or "", token or ""

    def _bytes(self, url: str, base: str, token: str, told: str) -> bytes:
        try:
            return self._fetched(url, base, token, told)
        except FetchError as error:
            is_temporary = error.is_temporary and bool(base) and _is_within(HttpUrl.parse(url), HttpUrl.parse(base))
            text = f"the image {_short(url)} cannot be had: {error}"
            raise ImageError(text, is_temporary=is_temporary) from None

    def _fetched(
        self, url: str, base: str, token: str, told: str = "", *, until: float = 0.0, max_bytes: int = 0
    ) -> bytes:
        own = HttpUrl.parse(base) if base else None
        deadline = until or monotonic() + self._settings.fetch_timeout_s
        for _ in range(_MAX_REDIRECTS + 1):
            target = HttpUrl.parse(url)
            is_own = own is not None and _is_within(target, own)
            local = _local_name(target) if is_own and self._settings.local_files_root else None
            if local is not None and self._settings.local_files_root:
                return self._local_file(local, self._settings.local_files_root)
            reply = self._get(target, self._client(base, token) if is_own else None, deadline, max_bytes)
            if reply.status == 200:
                return reply.body
            if reply.status == 404 and is_own and (kept := _in_cloud(target)) is not None:
                url = kept
                continue
            if not 300 <= reply.status < 400:
                is_temporary = reply.status == 429 or reply.status >= 500
                raise FetchError(_refusal(reply, target, is_own), is_temporary=is_temporary, status=reply.status)
            try:
                url = urljoin(str(target), reply.headers.get("location", ""))
            except ValueError:
                raise FetchError("it was redirected to what is no address") from None
            url = _absolute(url, base, told)
        raise FetchError(f"it was redirected more than {_MAX_REDIRECTS} times")

    def _get(self, target: HttpUrl, client: Client | None, deadline: float, max_bytes: int) -> Reply:
        """Asks a host, if it may be asked; with the token if it is Label Studio."""
        settings = self._settings
        if client is None and not any(_matches(target, rule) for rule in settings.allowed_hosts):
            raise FetchError(
                f"the host {target.host} is neither Label Studio's nor in IHP_ALLOWED_HOSTS; add it there if images "
                "may come from it"
            )

        is_believed = bool(settings.label_studio_url) or settings.only_known_callers
        allow_private = settings.allow_private_addresses or (client is not None and is_believed)

        def ask(headers: dict[str, str]) -> Reply:
            most = max_bytes or settings.max_image_bytes
            return get(target, headers, allow_private=allow_private, max_bytes=most, deadline=deadline)

        if client is None:
            return ask({})
        if client.token_kind == "personal" and not is_believed:
            # Its exchange is a request of its own, to an address that anybody may have told.
            raise FetchError(
                f"{target.origin} was told by a stranger, and a personal token with it, which is not exchanged there: "
                "if it is Label Studio, set IHP_LABEL_STUDIO_URL and IHP_LABEL_STUDIO_TOKEN"
            )
        headers = client.auth_headers()
        reply = ask(headers)
        if reply.status == 401 and client.token_kind == "personal":
            reply = ask(client.auth_headers(rejected=headers))
        return reply

    def _client(self, base: str, token: str) -> Client:
        """Returns the client that keeps a token's exchange for the next image."""
        key = (base, token)
        with self._lock:
            if key not in self._clients:
                self._clients[key] = Client(base, token, timeout_s=self._settings.fetch_timeout_s)
            self._clients.move_to_end(key)
            while len(self._clients) > _MAX_CLIENTS:
                self._clients.popitem(last=False)
            return self._clients[key]

    def _local_file(self, name: str, root: Path) -> bytes:
        try:
            root = root.resolve(strict=True)
            # Where Label Studio runs on Windows, its paths have backslashes.
            name = name if (root / name).exists() else name.replace("\\", "/").lstrip("/")
            path = (root / name).resolve(strict=True)  # follows links, so that none leads out
            if not path.is_relative_to(root):
                raise ImageError(f"the local file {name[:200]!r} is outside of IHP_LOCAL_FILES_ROOT")
            # Not blocking: a pipe would be waited for at once.
            with open(path, "rb", opener=lambda n, flags: os.open(n, flags | os.O_NONBLOCK | os.O_NOFOLLOW)) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ImageError(f"the local file {name[:200]!r} is not a file")
                data = file.read(self._settings.max_image_bytes + 1)
        except (OSError, ValueError, RuntimeError) as error:
            if isinstance(error, ImageError):
                raise
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ImageError(
                f"the local file {name[:200]!r} below IHP_LOCAL_FILES_ROOT cannot be read: {reason}"
            ) from None
        return data

    def _inline(self, url: str) -> bytes:
        head, comma, body = url.partition(",")
        if not comma:
            raise ImageError(f"the data URL {url[:40]!r} has no comma; expected data:image/png;base64,...")
        if len(body) > 4 * self._settings.max_image_bytes:
            raise self._too_large()
        try:
            data = unquote_to_bytes(body)
            if head.lower().endswith(";base64"):
                data = b"".join(data.split())
                return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
            return data
        except ValueError as error:
            raise ImageError(f"the data URL {url[:40]!r}... is not base64: {error}") from None

    def _too_large(self) -> ImageError:
        return ImageError(f"the file is larger than {self._settings.max_image_bytes} bytes (IHP_MAX_IMAGE_BYTES)")

    def _decoded(self, data: bytes) -> NDArray[np.uint8]:
        if len(data) > self._settings.max_image_bytes:
            raise self._too_large()
        most = self._settings.max_image_pixels
        work = Work.of(data, most)
        is_large = work.pixels * work.scans > _LARGE
        lane = self._decoding_apart if work.is_apart else self._decoding_large if is_large else self._decoding
        try:
            with lane.taken(), reserved(work.memory, f"a photo of {work.pixels / 1e6:.1f} megapixels"):
                if work.is_apart:
                    image = decode_apart(data, max_pixels=most, pixels=work.pixels)
                else:
                    image = decode_image(data, max_pixels=most)
        except MemoryLimitError as error:
            if error.is_temporary:
                raise
            raise ImageError(str(error)) from None
        image.flags.writeable = False
        return image


def fetch_or_ask(images: ImageLoader, url: str, connection: Connection, client: Client) -> bytes:
    """Downloads a photo's file, if need be twice.

    Label Studio answers 500 for an upload that is gone, so a status does not tell whether it is down: it is asked.

    Args:
        images: Fetches it.
        url: As the task's data has it.
        connection: The Label Studio.
        client: Asks it.

    Raises:
        ImageError: If this photo cannot be had.
        LabelStudioError: If Label Studio is down.
    """
    for is_last in (False, True):
        try:
            return images.fetch(url, hostname=connection.hostname, token=connection.token, told=connection.told)
        except ImageError as error:
            client.whoami()
            if is_last or not error.is_temporary:
                raise
            sleep(_PAUSE_S)
    raise AssertionError("unreachable")


def _absolute(url: str, base: str, told: str = "") -> str:
    """Returns a task's address with scheme and host; Label Studio's is ``base``, even if it calls itself otherwise."""
    if url.startswith("//"):  # by the scheme of the page that it is on
        url = f"{'http' if (told or base)[:5].lower() == 'http:' else 'https'}:{url}"
    own = (_below(url, name) for name in (told, base) if name and base)
    url = next((rest for rest in own if rest is not None), url)
    if not url.startswith("/"):
        return url
    if not base:
        raise ImageError(
            f"the image {_short(url)} is in Label Studio, whose address is not known; set "
            "IHP_LABEL_STUDIO_URL, or open the model's settings in Label Studio, which then tells it"
        )
    base = base.rstrip("/")
    # Label Studio below a path, as in https://a.example/ls: its uploads may or may not begin with that path.
    for prefix in map(_path_of, (base, told)):
        if prefix and url.startswith(prefix + "/"):
            url = url.removeprefix(prefix)
            break
    return base + url


def _path_of(base: str) -> str:
    try:
        return urlsplit(base).path.rstrip("/")
    except ValueError:
        return ""


def _below(url: str, told: str) -> str | None:
    """What follows Label Studio's own name in an address; ``None`` if it does not begin with it."""
    try:
        target, own = HttpUrl.parse(url), HttpUrl.parse(told)
    except FetchError:
        return None
    target, own = (replace(t, host="localhost") if t.host in _LOOPBACK else t for t in (target, own))
    return target.path if _is_within(target, own) or _is_within(own, target) else None


def _is_within(target: HttpUrl, own: HttpUrl) -> bool:
    """Whether an address is Label Studio's own; from its http to its https on the usual ports, too."""
    if target.origin == own.origin:
        return True
    return target.host == own.host and (own.scheme, own.port, target.scheme, target.port) == ("http", 80, "https", 443)


def _matches(target: HttpUrl, rule: str) -> bool:
    """Whether a host is meant by an entry of IHP_ALLOWED_HOSTS."""
    name, bracket, port = rule.rpartition(":")
    if not bracket or not port.isdecimal():
        name, port = rule, ""
    if port and int(port) != target.port:
        return False
    name = name.strip("[]")
    return name in ("*", target.host) or (name.startswith("*.") and target.host.endswith(name[1:]))


def _local_name(target: HttpUrl) -> str | None:
    """The file that an address of Label Studio's local storage names; ``None`` for other addresses."""
    parts = urlsplit(target.path)
    if not parts.path.rstrip("/").endswith(_LOCAL_FILES):
        return None
    # As Label Studio reads it: the last one, from the root on, with or without a leading slash.
    return posixpath.normpath(parse_qs(parts.query).get("d", [""])[-1]).lstrip("/")


def _in_cloud(target: HttpUrl) -> str | None:
    """Where Label Studio keeps an upload whose files are in a cloud; ``None`` for what is no upload."""
    head, found, name = str(target).partition(_UPLOADS)
    return f"{head}/storage-data/uploaded/?filepath=upload/{name}" if found and "?" not in head + name else None


def _refusal(reply: Reply, target: HttpUrl, is_own: bool) -> str:
    stored = stored_in(target.path)
    why = {
        401: "the token is missing or wrong: set IHP_LABEL_STUDIO_TOKEN" if is_own else "it asks for a password",
        403: "the token's user may not see it" if is_own else "it is not public",
        404: "it is not there" if stored is None else "no storage that is connected to the project has it",
        424: "the storage that is connected to it does not answer",
    }.get(reply.status, "")
    return f"{target.origin} answered {reply.status}" + (f", {why}" if why else "")


def _short(url: str) -> str:
    """The address as a message shows it: without its query and user, in which secrets may be."""
    url = stored_in(url) or url
    head, slashes, rest = re.split("[?#]", url, maxsplit=1)[0].partition("//")
    host, slash, path = rest.partition("/")
    return repr((head + slashes + host.rpartition("@")[2] + slash + path)[:200])
