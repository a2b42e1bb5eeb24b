from __future__ import annotations

import logging
import re

import pytest

from ihp_backend import logs


def line(message: str, *args: object, **fields: object) -> str:
    record = logging.LogRecord("a.b", logging.INFO, __file__, 1, message, args, None)
    for key, value in logs.fields(**fields).items():
        setattr(record, key, value)
    return logs.LineFormatter().format(record)


def test_a_line_has_time_level_name_message_and_fields() -> None:
    text = line("took %s", "long", ms=12.345, path="/predict", task=None)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO a\.b took long ms=12\.3 path=/predict task=None", text
    )


def test_the_request_in_hand_is_named() -> None:
    token = logs.request_id.set("abc")
    try:
        assert line("x").endswith(" request=abc")
    finally:
        logs.request_id.reset(token)
    assert "request" not in line("x")


@pytest.mark.parametrize("value", ["two words", 'a"b', "k=v", "line\nbreak", ""])
def test_values_cannot_be_taken_for_other_fields(value: str) -> None:
    text = line("x", key=value, last=1)
    assert re.search(r' key="(?:[^"\\\n]|\\.)*" last=1$', text)


def test_a_line_is_never_as_long_as_a_request() -> None:
    text = line("m" * 10_000_000, key="k" * 10_000_000, last=1)
    assert len(text) < 5_000
    assert text.endswith(" last=1")


def test_a_message_stays_on_its_line() -> None:
    assert "\n" not in line("first\nforged line %s", "a\nb")


@pytest.mark.parametrize("control", ["\x1b[31m", "\x7f", "\x9b2J", "\u202e", "\u2028", "\x00", "\b", "\ud800"])
def test_nothing_moves_a_terminals_cursor_or_turns_text_around(control: str) -> None:
    text = line("an id %s", f"a{control}b", path=f"/{control}x", plain=control)
    assert control[0] not in text
    text.encode()
    try:
        raise ValueError(f"a{control}b")
    except ValueError as error:
        record = logging.LogRecord("a", logging.ERROR, __file__, 1, "x", (), (type(error), error, error.__traceback__))
    assert control[0] not in logs.LineFormatter().format(record)
