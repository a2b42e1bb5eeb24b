"""Which polygons are one mask."""

from __future__ import annotations

from typing import Any

from ihp_backend.label_studio.pieces import mask_and_piece, piece_id, together


def polygon(identifier: str | None, label: str = "Face") -> dict[str, Any]:
    return {"id": identifier, "type": "polygonlabels", "value": {"polygonlabels": [label]}}


def test_a_pieces_id_tells_its_mask() -> None:
    assert [piece_id("abc", number) for number in (1, 2, 12)] == ["abc", "abc.2", "abc.12"]
    assert [mask_and_piece(polygon(piece_id("abc", n))) for n in (1, 2, 12)] == [("abc", 1), ("abc", 2), ("abc", 12)]


def test_other_ids_are_masks_of_their_own() -> None:
    for identifier in ("abc.", "abc.1", "abc.0", "abc.x", ".2", "abc.02"):
        assert mask_and_piece(polygon(identifier)) == (identifier, 1)
    assert mask_and_piece({"id": "abc.2", "type": "brushlabels"}) == ("abc.2", 1)
    assert mask_and_piece({"type": "polygonlabels"}) == ("", 1)


def test_pieces_of_one_label_come_together_where_the_first_is() -> None:
    a, a2, b, other, nameless = (polygon(i) for i in ("a", "a.2", "b", None, None))
    hair = polygon("a.3", "Hair")
    brush = {"id": "a", "type": "brushlabels", "value": {"brushlabels": ["Face"]}}
    found = together([a, b, brush, a2, other, hair, nameless])
    assert found == [[a, a2], [b], [brush], [other], [hair], [nameless]]
