"""Schemas, and a project's own labels behind them."""

from __future__ import annotations

import pytest

from ihp_backend.parts import IGNORE, LIP, OPEN, get_schema


def test_own_labels_follow_the_schema() -> None:
    schema = LIP.extended(["Left-hand", "Backpack", "Right hand"])
    assert schema.names == (*LIP.names, "Left-hand", "Backpack", "Right hand")
    assert schema.find("backpack") == 21
    assert schema.find("Trousers") == LIP.find("Trousers")
    assert schema.mirrored[20:] == (22, 21, 20)  # a mirror image turns the left hand into the right one
    assert schema.mirrored[:20] == LIP.mirrored
    assert len(set(schema.colours[20:])) == 3
    assert LIP.extended([]) is LIP
    assert LIP.extended(["Left-hand"]).mirrored[20:] == (IGNORE,)  # a right hand, for which there is no label


@pytest.mark.parametrize(
    ("own", "expected"),
    [(["Tattoo", "Trousers"], "knows Trousers already"), (["Tattoo", "tat-too"], "comes twice")],
)
def test_own_labels_must_be_new(own: list[str], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        LIP.extended(own)


def test_schemas_by_name() -> None:
    assert get_schema("lip") is LIP
    assert get_schema("open") is OPEN
    with pytest.raises(ValueError, match="expected one of lip, cihp"):
        get_schema("none-such")
