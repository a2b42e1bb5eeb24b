"""Requests to one Label Studio as one user: tokens, limits on answers, errors that say what to do."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from math import isfinite
from threading import Lock
from time import monotonic
from typing import Any

import requests
import urllib3

from ihp_backend.label_studio.fetching import FetchError, HttpUrl, get

_TOKEN = re.compile(r"[\x21-\x7e]+")
_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*")
_RENEW_BEFORE_S = 30.0
_DEFAULT_LIFE_S = 300.0
_TOKEN_BYTES = 100_000
ANSWER_BYTES = 500_000_000
"""A page of tasks has all their masks."""
LONGEST_ANSWER = 10
"""An answer may take so many times the longest silence."""
_PIECE = 1 << 14
"""Bytes that are unpacked at a time: a thousand times as many may come out."""


class LabelStudioError(RuntimeError):
    """Label Studio refused, failed, or could not be reached.

    Attributes:
        status: The HTTP status of its answer; ``None`` if there was no answer.
        reason: What happened.
        remedy: What to do about it; may be empty.
    """

    def __init__(self, reason: str, *, status: int | None = None, remedy: str = "") -> None:
        super().__init__(f"{reason}; {remedy}" if remedy else reason)
        self.status = status
        self.reason = reason
        self.remedy = remedy


class ApiSession:
    """Talks to one Label Studio as one user. May be shared between threads.

    A personal access token is exchanged for short-lived ones, which are renewed before they expire and when
    Label Studio refuses one.

    Args:
        url: Label Studio's address, such as ``"http://127.0.0.1:8080"``.
        token: A legacy token or a personal access token; both are on its page "Account & Settings".
        timeout_s: Longest silence of Label Studio, in seconds.
        answer_bytes: Longest answer; its objects may take some thirty times as much.
    """

    def __init__(self, url: str, token: str, timeout_s: float = 30.0, answer_bytes: int = ANSWER_BYTES) -> None:
        self.url = url.rstrip("/")
        self._answer_bytes = answer_bytes
        self.timeout_s = timeout_s
        self.token = token.strip()
        self._session = requests.Session()
        # With a session cookie, Label Studio would ask for a CSRF token.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._access = ""
        self._renew_at = 0.0
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"Client({self.url!r}, {self.token_kind} token)"

    @property
    def token_kind(self) -> str:
        """``"personal"`` (a JWT, to be exchanged) or ``"legacy"`` (sent as it is)."""
        return "personal" if _JWT.fullmatch(self.token) else "legacy"

    def auth_headers(self, rejected: Mapping[str, str] | None = None) -> dict[str, str]:
        """Returns the headers that authenticate a request to this Label Studio, and to nobody else.

        Args:
            rejected: The headers that Label Studio has just answered with 401, if so.

        Raises:
            LabelStudioError: If the personal access token cannot be exchanged, or is no token at all.
        """
        if not self.token:
            return {}
        if not _TOKEN.fullmatch(self.token):
            # Whoever sends it would show it in the error.
            raise LabelStudioError("the access token has blanks or characters that no token has; copy it again")
        if self.token_kind == "legacy":
            return {"Authorization": f"Token {self.token}"}
        with self._lock:
            # Of several threads that were refused at once, the first renews for all.
            is_rejected = rejected is not None and rejected.get("Authorization") == f"Bearer {self._access}"
            if not self._access or is_rejected or monotonic() >= self._renew_at:
                self._access = self._exchange()
                self._renew_at = monotonic() + max(_life_s(self._access) - _RENEW_BEFORE_S, 1.0)
            return {"Authorization": f"Bearer {self._access}"}

    def request(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Sends a request to Label Studio, ``path`` below its address, and returns the answer of status 2xx.

        Args:
            method: Such as ``"GET"``.
            path: Such as ``"/api/projects/"``.
            kwargs: Of ``requests.request``: params, json, data, files, stream, timeout.

        Raises:
            LabelStudioError: If Label Studio cannot be reached, or answers anything else.
        """
        headers = self.auth_headers()
        response = self._send(method, path, headers, **kwargs)
        if response.status_code == 401 and self.token_kind == "personal" and not kwargs.get("files"):
            response.close()
            response = self._send(method, path, self.auth_headers(rejected=headers), **kwargs)
        if not response.ok or response.is_redirect:
            raise self._error(method, path, response)
        return response

    def get(self, path: str, **params: Any) -> Any:
        """Returns the JSON of a GET; ``params`` go into the query."""
        return self._json(self.request("GET", path, params=params))

    def post(self, path: str, json: Any = None, **kwargs: Any) -> Any:
        """Posts JSON and returns the answer's JSON."""
        return self._json(self.request("POST", path, json=json, **kwargs))

    def patch(self, path: str, json: Any) -> Any:
        """Patches with JSON and returns the answer's JSON."""
        return self._json(self.request("PATCH", path, json=json))

    def delete(self, path: str) -> None:
        """Deletes what is at the path."""
        self.request("DELETE", path)

    def _object(self, path: str, **params: Any) -> dict[str, Any]:
        answer = self.get(path, **params)
        if not isinstance(answer, dict):
            raise LabelStudioError(
                f"{path} of {self.url} answered a {type(answer).__name__}; expected an object",
                remedy="is this Label Studio's address?",
            )
        return answer

    def _list(self, path: str, **params: Any) -> list[dict[str, Any]]:
        answer = self.get(path, **params)
        if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
            raise LabelStudioError(
                f"{path} of {self.url} answered no list of objects", remedy="is this Label Studio's address?"
            )
        return answer

    def _exchange(self) -> str:
        """Exchanges the personal token; bytes and time are bounded, for anybody may have told the address."""
        path = "/api/token/refresh"
        try:
            reply = get(
                HttpUrl.parse(self.url + path),
                {"Content-Type": "application/json"},
                allow_private=True,
                max_bytes=_TOKEN_BYTES,
                deadline=monotonic() + self.timeout_s,
                posted=json.dumps({"refresh": self.token}).encode(),
            )
        except FetchError as error:
            raise LabelStudioError(
                f"Label Studio at {self.url} cannot be reached ({self._blank(str(error))})",
                remedy="is it running, and is the address right, seen from this machine?",
            ) from None
        try:
            access = json.loads(reply.body)
        except (ValueError, RecursionError):
            access = None
        if reply.status != 200:
            detail = access.get("detail") if isinstance(access, dict) else None
            raise LabelStudioError(
                self._blank(f"POST {path} got {reply.status} from {self.url}: {detail or 'no reason given'!s:.500}"),
                status=reply.status,
                remedy=_REMEDIES.get(reply.status, ""),
            )
        token = access.get("access") if isinstance(access, dict) else None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise LabelStudioError(f"{self.url}{path} gave no access token")
        return token

    def _send(self, method: str, path: str, headers: Mapping[str, str], **kwargs: Any) -> requests.Response:
        def authenticate(request: requests.PreparedRequest) -> requests.PreparedRequest:
            # As `auth`, not as headers: else requests puts what ~/.netrc says in their place.
            request.headers.update(headers)
            return request

        try:
            response = self._session.request(
                method,
                self.url + path,
                auth=authenticate,
                timeout=kwargs.pop("timeout", self.timeout_s),
                # A POST that is redirected becomes a GET, and the token goes where nobody named.
                allow_redirects=False,
                **kwargs | {"stream": True},
            )
            if not kwargs.get("stream"):
                self._read(response)
            return response
        except requests.Timeout:
            raise LabelStudioError(
                f"Label Studio at {self.url} did not answer {method} {path} in time",
                remedy="look at its log, or whether the address is right",
            ) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError, ValueError) as error:
            raise LabelStudioError(
                f"Label Studio at {self.url} cannot be reached ({self._blank(_root_cause(error))})",
                remedy="is it running, and is the address right, seen from this machine?",
            ) from None

    def _read(self, response: requests.Response) -> None:
        """Reads an answer's body, within limits on its bytes, as they are unpacked, and on its time."""
        until, parts, size = monotonic() + LONGEST_ANSWER * self.timeout_s, [], 0
        while part := response.raw.read1(_PIECE, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > self._answer_bytes or monotonic() > until:
                response.close()
                raise LabelStudioError(
                    f"{self.url} answers without an end: {size} bytes are there",
                    remedy="is this Label Studio's address?",
                )
        response._content = b"".join(parts)  # where requests keeps it

    def _json(self, response: requests.Response) -> Any:
        if response.status_code == 204 or not response.content:
            return None
        try:
            return response.json()
        except (ValueError, RecursionError):
            raise LabelStudioError(
                f"{response.url} answered something that is not JSON "
                f"({response.headers.get('Content-Type', 'no content type')})",
                status=response.status_code,
                remedy="is this Label Studio's address?",
            ) from None

    def _error(self, method: str, path: str, response: requests.Response) -> LabelStudioError:
        status = response.status_code
        if response.is_redirect:
            target = response.headers.get("Location", "")
            reason, remedy = f"{method} {path} is redirected to {target[:200]}", "use that address instead"
        else:
            reason = f"{method} {path} got {status} from {self.url}: {_detail(response)}"
            remedy = _REMEDIES.get(status, "look at Label Studio's log" if status >= 500 else "")
        return LabelStudioError(self._blank(reason), status=status, remedy=remedy)

    def _blank(self, text: str) -> str:
        for secret in (self.token, self._access):
            text = text.replace(secret, "***") if secret else text
        return text


_REMEDIES = {
    401: 'copy the token again from Label Studio\'s page "Account & Settings"; legacy tokens may be off there',
    403: "the token's user has no right to this",
    404: "is this Label Studio's address, and does what is asked for still exist?",
    429: "try again later",
}


def _life_s(access: str) -> float:
    """Returns for how long an access token is good, in seconds: by its own dates, not by this clock."""
    try:
        payload = access.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        life = float(claims["exp"]) - float(claims["iat"])
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError):
        return _DEFAULT_LIFE_S
    return life if isfinite(life) else _DEFAULT_LIFE_S


def _detail(response: requests.Response) -> str:
    try:
        body = response.json()
        said = [str(body[name]) for name in ("detail", "validation_errors") if body.get(name)]
        return ": ".join(said or [str(body)])[:500]
    except (ValueError, AttributeError, RecursionError):
        return response.reason or "no reason given"


def _root_cause(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error)[:200] or type(error).__name__
