"""What a project's own labels mean: drawn by hand, against brute force, and on a shared disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.learning.label_meanings import LEAST_IOU, LabelMeanings, Overlaps, meaning, meanings
from ihp_backend.parts import LIP

P = "7.1795392500"
COAT, FACE, HAIR, PANTS = (LIP.names.index(name) for name in ("coat", "face", "hair", "pants"))


def config_of(labels: tuple[str, ...], attributes: str = "") -> LabelConfig:
    tags = "".join(f'<Label value="{label}"/>' for label in labels)
    return LabelConfig.parse(
        f'<View><Image name="i" value="$i"/><KeyPointLabels name="k" toName="i" {attributes}>{tags}</KeyPointLabels>'
        f'<BrushLabels name="b" toName="i">{tags}</BrushLabels></View>'
    )


def drawn(masks: Mapping[str, slice], parts: Mapping[int, slice]) -> Overlaps:
    """Stripes of a photo of 10 x 100 pixels."""
    labels, ids = np.zeros((10, 100), np.uint8), np.zeros((10, 100), np.uint8)
    for k, columns in enumerate(masks.values()):
        labels[:, columns] = k + 1
    for part, columns in parts.items():
        ids[:, columns] = part
    return Overlaps.of(labels, {label: k + 1 for k, label in enumerate(masks)}, ids, LIP)


HEAD = drawn({"Head": slice(0, 20)}, {HAIR: slice(0, 8), FACE: slice(8, 21), COAT: slice(21, 60)})


def test_shares_are_those_of_the_photo() -> None:
    assert HEAD.areas == {"Head": pytest.approx(0.2)}
    assert HEAD.seen == pytest.approx({"hair": 0.08, "face": 0.13, "coat": 0.39})
    assert HEAD.shared["Head"] == pytest.approx({"hair": 0.08, "face": 0.12})


def test_a_label_means_the_parts_that_lie_in_its_masks() -> None:
    assert set(meaning("Head", [HEAD])) == {"hair", "face"}
    assert meaning("Head", [HEAD], excluded=["face"]) == ()  # hair alone is less than half of it
    assert meaning("Tail", [HEAD]) == ()


def test_a_thing_that_the_label_set_does_not_know_means_no_part() -> None:
    bag_before_a_coat = drawn({"Bag": slice(30, 40)}, {COAT: slice(0, 60)})
    watch_beside_a_spot = drawn({"Watch": slice(30, 40)}, {HAIR: slice(33, 36)})  # all of the spot is in the mask
    assert meaning("Bag", [bag_before_a_coat]) == ()
    assert meaning("Watch", [watch_beside_a_spot]) == ()


def test_photos_without_the_label_say_nothing_of_it() -> None:
    others_coat = drawn({"Shoe": slice(90, 100)}, {COAT: slice(0, 60)})
    coat = drawn({"Outerwear": slice(0, 50)}, {COAT: slice(0, 50)})
    assert meaning("Outerwear", [coat, others_coat, others_coat]) == ("coat",)


def test_a_part_is_taken_by_one_label_and_known_labels_keep_theirs() -> None:
    both = drawn({"Outfit": slice(0, 60), "Top": slice(60, 70)}, {COAT: slice(0, 70), PANTS: slice(80, 90)})
    assert meanings(["Top", "Outfit"], [both], (), LIP) == {"Outfit": ("coat",), "Top": ()}
    assert meanings(["Outfit"], [both], ["coat"], LIP) == {"Outfit": ()}


shares = st.floats(0.001, 0.2)


@settings(deadline=None)
@given(st.lists(st.tuples(shares, st.floats(0, 1)), min_size=1, max_size=6), st.floats(0, 0.3))
def test_no_other_union_of_parts_is_more_like_the_masks(parts: list[tuple[float, float]], rest: float) -> None:
    names = LIP.names[1 : len(parts) + 1]
    seen = {name: share for name, (share, _) in zip(names, parts, strict=True)}
    shared = {name: share * inside for name, (share, inside) in zip(names, parts, strict=True)}
    area = sum(shared.values()) + rest

    def iou(union: tuple[str, ...]) -> float:
        inside = sum(shared[name] for name in union)
        whole = area + sum(seen[name] for name in union) - inside
        return inside / whole if whole else 0.0

    found = meaning("L", [Overlaps(seen, {"L": area}, {"L": shared})])
    best = max(iou(union) for union in chain.from_iterable(combinations(names, n) for n in range(len(names) + 1)))
    if found:
        assert iou(found) == pytest.approx(best)
    else:
        assert best < LEAST_IOU + 1e-9


def test_what_was_accepted_is_seen_by_every_replica_and_forgotten_with_it(tmp_path: Path) -> None:
    here, there = LabelMeanings(tmp_path), LabelMeanings(tmp_path)
    config = config_of(("Head", "Coat"))
    assert there.parts(P, config, LIP) == {"Head": (), "Coat": ("coat",)}
    here.note(P, 5, HEAD)
    assert set(there.parts(P, config, LIP)["Head"]) == {"hair", "face"}
    assert there.parts("8.1795392500", config, LIP)["Head"] == ()  # another project
    assert there.parts(None, config, LIP)["Head"] == ()
    here.note(P, 5, drawn({"Head": slice(0, 8)}, {HAIR: slice(0, 8), FACE: slice(8, 20)}))  # corrected
    assert there.parts(P, config, LIP)["Head"] == ("hair",)
    there.forget(P, [5])
    assert here.parts(P, config, LIP)["Head"] == ()


def test_what_the_label_config_says_holds(tmp_path: Path) -> None:
    known = LabelMeanings(tmp_path)
    known.note(P, 5, HEAD)
    assert known.parts(P, config_of(("Head",), 'ihp_meanings="told"'), LIP) == {"Head": ()}
    told = LabelConfig.parse(
        '<View><Image name="i" value="$i"/><KeyPointLabels name="k" toName="i"><Label value="Head"/></KeyPointLabels>'
        '<BrushLabels name="b" toName="i"><Label value="Head" predicted_values="hat"/></BrushLabels></View>'
    )
    assert known.parts(P, told, LIP) == {"Head": ("hat",)}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{" * 5000,
        '{"seen": 3}',
        '{"seen": {"5": {"hair": "x"}}}',
        '{"seen": {"5": {"hair": 0}}, "areas": {"5": {"Head": 0.001}}, "shared": {"5": {}}}',
        '{"seen": {"5": {"wings": 0.5}}, "areas": {"5": {"Head": 0.5}}, "shared": {"5": {"Head": {"wings": 0.5}}}}',
    ],
)
def test_a_file_that_others_damaged_counts_as_empty(tmp_path: Path, content: str) -> None:
    known = LabelMeanings(tmp_path)
    (tmp_path / f"{P}.json").write_text(content)
    assert known.parts(P, config_of(("Head",)), LIP) == {"Head": ()}
    known.note(P, 6, HEAD)
    assert set(known.parts(P, config_of(("Head",)), LIP)["Head"]) == {"hair", "face"}


def test_the_memory_of_a_project_is_bounded(tmp_path: Path) -> None:
    known = LabelMeanings(tmp_path)
    for number in range(303):
        known.note(P, number, HEAD)
    many = {f"l{n}": 0.01 for n in range(100)}
    known.note(P, 1000, Overlaps({"hair": 0.1}, many, {name: {"hair": 0.01} for name in many}))
    kept = json.loads((tmp_path / f"{P}.json").read_text())["seen"]
    assert list(kept) == [str(n) for n in range(3, 303)]  # the newest; an annotation of 100 labels is none of ours


def test_a_project_that_could_not_be_a_file_is_not_looked_for(tmp_path: Path) -> None:
    assert LabelMeanings(tmp_path).parts("../x", config_of(("Head",)), LIP) == {"Head": ()}
    with pytest.raises(ValueError, match="could not be a file's name"):
        LabelMeanings(tmp_path).note("../x", 1, HEAD)
