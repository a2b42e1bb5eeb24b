"""Who may ask: decided by a request's head alone, before its body is read."""

from __future__ import annotations

import base64
import hmac
from contextlib import suppress
from wsgiref.types import WSGIEnvironment

from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import HTTPException, Unauthorized

from ihp_backend.settings import Settings

_OPEN = ("/live", "/ready")
"""Routes without secrets, for who watches the process."""


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

    def refusal(self, environ: WSGIEnvironment) -> HTTPException | None:
        """Returns why a request is not served; ``None`` if it is."""
        if environ.get("PATH_INFO") in _OPEN:
            return None
        return self._password(environ)

    def _password(self, environ: WSGIEnvironment) -> HTTPException | None:
        if not self._expected:
            return None
        offered = _offered(environ.get("HTTP_AUTHORIZATION", ""))
        # In constant time: how long the answer takes must not tell how much of the password was right. Label Studio
        # sends Latin-1, browsers and curl UTF-8.
        if any(hmac.compare_digest(offered, known) for known in self._expected):
            return None
        return Unauthorized(
            "user or password missing or wrong; Label Studio's model settings have fields for them",
            www_authenticate=WWWAuthenticate("basic", {"realm": "interactive human parsing"}),
        )


def _offered(header: str) -> bytes:
    kind, _, encoded = header.partition(" ")
    try:
        return base64.b64decode(encoded.strip(), validate=True) if kind.lower() == "basic" else b""
    except ValueError:
        return b""
