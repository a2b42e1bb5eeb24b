"""Who may ask: decided by a request's head alone, before its body is read."""

from __future__ import annotations

import base64
import hmac
import re
import socket
from contextlib import suppress
from ipaddress import ip_address
from wsgiref.types import WSGIEnvironment

from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, HTTPException, Unauthorized

from ihp_backend.settings import Settings

_OPEN = ("/live", "/ready")
"""Routes without secrets, for who watches the process."""


_HOST = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]{1,5})?")


class Admission:
    """The rules of one deployment.

    Args:
        settings: The deployment's options.
    """

    def __init__(self, settings: Settings) -> None:
        self._expected: set[bytes] = set()
        if settings.basic_auth_password:
            text = f"{settings.basic_auth_user}:{settings.basic_auth_password}"
            self._expected.add(text.encode())
            with suppress(UnicodeEncodeError):
                self._expected.add(text.encode("latin-1"))

        self._names = {"localhost", socket.gethostname().lower(), *settings.served_hosts}

    def refusal(self, environ: WSGIEnvironment) -> HTTPException | None:
        """Returns why a request is not served; ``None`` if it is."""
        if environ.get("PATH_INFO") in _OPEN:
            return None
        return self._password(environ) if self._expected else self._stranger(environ)

    def _stranger(self, environ: WSGIEnvironment) -> HTTPException | None:
        """Refuses web pages: whatever name they make resolve to this machine, their browser tells that name."""
        host, origin = environ.get("HTTP_HOST"), environ.get("HTTP_ORIGIN")
        if not self._is_own(str(host or "")):
            return _not_served("Host", host)
        if origin is not None:
            page = str(origin).rpartition("://")[2]
            # A page may come from any address, so an address alone says nothing of it.
            if not self._is_own(page, any_address=False) and page.lower() != str(host).lower():
                return _not_served("Origin", origin)
        return None

    def _is_own(self, host: str, *, any_address: bool = True) -> bool:
        """Whether a host, perhaps with a port, is no name that anybody else's DNS could give this machine.

        Args:
            host: The host.
            any_address: Whether every IP address will do, or those of loopback alone.
        """
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return False
        name = (match["name"] or match["address"]).rstrip(".")
        if name in self._names or name.endswith(".localhost"):
            return True
        try:
            return ip_address(name).is_loopback or any_address
        except ValueError:
            return False

    def _password(self, environ: WSGIEnvironment) -> HTTPException | None:
        offered = _offered(environ.get("HTTP_AUTHORIZATION", ""))
        # In constant time: how long the answer takes must not tell how much of the password was right. Label Studio
        # sends Latin-1, browsers and curl UTF-8.
        if any(hmac.compare_digest(offered, known) for known in self._expected):
            return None
        return Unauthorized(
            "user or password missing or wrong; Label Studio's model settings have fields for them",
            www_authenticate=WWWAuthenticate("basic", {"realm": "interactive human parsing"}),
        )


def _not_served(header: str, value: object) -> HTTPException:
    return Forbidden(
        f"the request's {header} is {value!r:.100}, and there is no password; expected an address or localhost, and "
        "as Origin one of this machine: if it is a name of this server, add it to IHP_SERVED_HOSTS"
    )


def _offered(header: str) -> bytes:
    kind, _, encoded = header.partition(" ")
    try:
        return base64.b64decode(encoded.strip(), validate=True) if kind.lower() == "basic" else b""
    except ValueError:
        return b""
