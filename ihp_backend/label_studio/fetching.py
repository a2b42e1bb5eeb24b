"""One guarded HTTP request: the address is checked and then connected to, bytes and time are bounded.

The name is resolved once, the addresses are checked, and the connection goes to one of them, so a name that
resolves differently a moment later (DNS rebinding) gains nothing. Redirects are not followed: each hop is the caller's
to judge. No proxy, ``.netrc`` or cookie takes part. The one thing without a bound of ours is the name's resolution,
which has the system resolver's.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv6Address, ip_address
from threading import Timer
from time import monotonic
from typing import Self
from urllib.parse import urlsplit

import certifi
from requests.exceptions import InvalidURL
from requests.utils import requote_uri

_PORTS = {"http": 80, "https": 443}
_CHUNK = 1 << 18
_ERROR_BYTES = 4096
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


class FetchError(ValueError):
    """A download failed; the message says why.

    Attributes:
        is_temporary: Another try may go well: the host was busy, down or slow.
        status: The HTTP status that refused it, if one did.
    """

    def __init__(self, message: str, *, is_temporary: bool = False, status: int | None = None) -> None:
        super().__init__(message)
        self.is_temporary = is_temporary
        self.status = status


@dataclass(frozen=True)
class HttpUrl:
    """An http(s) URL, taken apart.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Lower-case ASCII name, or an address without brackets.
        port: The port, explicit or the scheme's.
        path: Path and query, percent-encoded; begins with a slash.
    """

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """Takes an absolute URL apart.

        Raises:
            FetchError: If it is not an http(s) URL with a host, or carries a user or password.
        """
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").rstrip(".").encode("idna" if ":" not in (parts.hostname or "") else "ascii")
            port = parts.port if parts.port is not None else _PORTS.get(parts.scheme)
            path = requote_uri((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
        except (ValueError, InvalidURL):
            raise FetchError("it is not a valid URL") from None
        if parts.scheme not in _PORTS:
            raise FetchError(f"its scheme is {parts.scheme!r}; expected http or https")
        if parts.username is not None or parts.password is not None:
            raise FetchError("it has a user or password in it, which are not sent")
        if not port or not _HOST.fullmatch(name := host.decode().lower()):
            raise FetchError("it has no valid host")
        return cls(parts.scheme, name, port, path if path.startswith("/") else f"/{path}")

    @property
    def origin(self) -> str:
        """Scheme, host and port as text; a port that is the scheme's own is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")

    def __str__(self) -> str:
        """Returns the URL."""
        return self.origin + self.path


@dataclass(frozen=True)
class Reply:
    """What a server answered. Header names are lower-case; after an error the body is its beginning."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def is_public(address: str) -> bool:
    """Whether an IP address, in text, is one of the public internet."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
        # What wraps an IPv4 address, or is local under an old rule, is not told apart further.
        if parsed.sixtofour is not None or parsed.teredo is not None or parsed.is_site_local:
            return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


def get(
    target: HttpUrl,
    headers: Mapping[str, str],
    *,
    allow_private: bool,
    max_bytes: int,
    deadline: float,
    posted: bytes | None = None,
) -> Reply:
    """Sends one GET request, or a POST, and reads the answer.

    Args:
        target: Where to.
        headers: Sent as they are, beside Host and the like.
        allow_private: Whether addresses that are not of the public internet may be connected to.
        max_bytes: Largest body; what the server claims about its length is not relied on.
        deadline: When the last byte must be there, by the monotonic clock, however slowly they drip.
        posted: Body of a POST.

    Raises:
        FetchError: If the host is unknown, refused or unreachable, or the answer is too large, too slow or broken.
    """
    addresses = _resolve(target, allow_private)
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.auto_open = 0  # it must never connect to an address that was not checked
    watchdog = _Watchdog(max(deadline - monotonic(), 0))
    try:
        connection.sock = _connect(target, addresses, deadline, watchdog)
        connection.request(
            "GET" if posted is None else "POST",
            target.path,
            posted,
            headers={
                "Accept-Encoding": "identity",
                "Connection": "close",
                **headers,
                "Host": target.origin[len(target.scheme) + 3 :],
            },
        )
        with connection.getresponse() as response:
            reply = _read(response, max_bytes)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if watchdog.barked or isinstance(error, TimeoutError):
            raise _too_slow() from None
        if isinstance(error, FetchError):
            raise
        raise FetchError(f"{target.origin} cannot be reached: {_reason(error)}", is_temporary=True) from None
    finally:
        watchdog.cancel()
        connection.close()
    if watchdog.barked:
        raise _too_slow()
    return reply


class _Watchdog:
    """Shuts the socket down after a time. A socket's own time-out starts afresh with every byte that drips in."""

    def __init__(self, timeout_s: float) -> None:
        self.barked = False
        self.socket: socket.socket | None = None
        self._timer = Timer(timeout_s, self._bark)
        self._timer.daemon = True
        self._timer.start()
        self.cancel = self._timer.cancel

    def _bark(self) -> None:
        self.barked = True
        if self.socket is not None:
            # Not SSLSocket's own, which another thread may be using.
            with suppress(OSError):
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


def _resolve(target: HttpUrl, allow_private: bool) -> list[str]:
    """Returns the host's addresses that may be connected to; at least one."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError(f"the host {target.host} is not known ({_reason(error)})", is_temporary=True) from None
    addresses = [str(address[0]) for *_, address in found]
    allowed = [address for address in addresses if allow_private or is_public(address)]
    if not allowed:
        raise FetchError(
            f"the host {target.host} has a private address ({addresses[0]}), from which images are not fetched: "
            f"if it is Label Studio, set IHP_LABEL_STUDIO_URL={target.origin}; else IHP_ALLOW_PRIVATE_ADDRESSES=true "
            "lifts this"
        )
    return allowed


def _connect(target: HttpUrl, addresses: list[str], deadline: float, watchdog: _Watchdog) -> socket.socket:
    failure: OSError = TimeoutError()
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        opened = watchdog.socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            left = deadline - monotonic()
            if left <= 0 or watchdog.barked:
                raise TimeoutError
            opened.settimeout(left)
            opened.connect((address, target.port))
            if target.scheme == "https":
                # In two steps, so that the watchdog has the socket during the handshake.
                secure = _tls().wrap_socket(opened, server_hostname=target.host, do_handshake_on_connect=False)
                opened = watchdog.socket = secure
                secure.do_handshake()
            return opened
        except OSError as error:
            opened.close()
            failure = error
    raise failure


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()  # the system's certificates, or those of SSL_CERT_FILE
    context.load_verify_locations(certifi.where())
    return context


def _read(response: http.client.HTTPResponse, max_bytes: int) -> Reply:
    headers = {name.lower(): value for name, value in response.getheaders()}
    is_error = response.status != 200
    limit = _ERROR_BYTES if is_error else max_bytes
    if not is_error and (response.length or 0) > max_bytes:
        raise FetchError(_too_large(max_bytes))
    chunks, size = [], 0
    while size <= limit and (chunk := response.read1(_CHUNK)):
        chunks.append(chunk)
        size += len(chunk)
    if not is_error and size > max_bytes:
        raise FetchError(_too_large(max_bytes))
    if not is_error and response.length:
        text = f"the download broke off after {size:,} bytes, {response.length:,} are missing"
        raise FetchError(text, is_temporary=True)
    return Reply(response.status, headers, b"".join(chunks)[:limit])


def _too_large(max_bytes: int) -> str:
    return f"it is larger than {max_bytes:,} bytes (IHP_MAX_IMAGE_BYTES)"


def _too_slow() -> FetchError:
    return FetchError("it took longer than IHP_FETCH_TIMEOUT_S allows", is_temporary=True)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
