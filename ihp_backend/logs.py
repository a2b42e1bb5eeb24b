"""Structured log lines: one line an event, ``key=value`` fields, the request's id on each."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import warnings
from contextvars import ContextVar
from typing import Any

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that is being answered, empty outside of one."""

_LONGEST_MESSAGE = 4_000
_LONGEST_VALUE = 200
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What would move a terminal's cursor, colour it, turn the text around, or cannot be written."""
_PLAIN = re.compile(r"[^\s\"=]+")


def fields(**values: Any) -> dict[str, Any]:
    """Wraps fields for a log call: ``logger.info("predicted", extra=fields(tasks=1))``."""
    return {"fields": values}


class LineFormatter(logging.Formatter):
    """Formats ``time level logger message key=value ...``; values with spaces are quoted as in JSON.

    A message never spans lines, and is cut where it is very long, whatever a request put into it; only a traceback
    follows on lines of its own.
    """

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the standard library's name)
        """Formats one record, less its traceback."""
        message = _shown(" ".join(record.message[:_LONGEST_MESSAGE].splitlines()))
        parts = [self.formatTime(record), record.levelname, record.name, message]
        values: dict[str, Any] = dict(getattr(record, "fields", {}))
        if identifier := request_id.get():
            values["request"] = identifier
        parts += [f"{key}={_quoted(value)}" for key, value in values.items()]
        return " ".join(parts)

    def formatException(self, ei: Any) -> str:  # noqa: N802 (the standard library's name)
        """Formats a traceback: it may hold what a request put into an error's message."""
        return "\n".join(map(_shown, super().formatException(ei).split("\n")))

    def usesTime(self) -> bool:  # noqa: N802 (the standard library's name)
        """Tells that each line begins with its time."""
        return True


def _quoted(value: Any) -> str:
    text = f"{value:.1f}" if isinstance(value, float) else str(value)[:_LONGEST_VALUE]
    return _shown(text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False))


def _shown(text: str) -> str:
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def configure(level: str) -> None:
    """Sends everything at or above a level to standard error, in place of earlier handlers."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # a line for each damaged entry of a photo
    # At INFO, urllib3's debug lines and the like would drown ours.
    for name in ("urllib3", "PIL", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
