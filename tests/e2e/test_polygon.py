"""A project that answers with polygons, and one with rectangles: clicked, accepted, corrected, submitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_task import middle, open_person
from numpy.typing import NDArray
from running_demo import Demo
from studio import Studio

from ihp_backend.demo.project import plain_label_config
from ihp_backend.label_studio.mask_values import decode
from ihp_backend.parts import LIP

pytestmark = pytest.mark.e2e

HEIGHT, WIDTH = 450, 300
LABELS = ("Face", "Hair", "Upper-clothes", "Pants")


def union(regions: list[dict[str, Any]], label: str) -> NDArray[np.bool_]:
    """What the regions of one label cover; those that remove a region cover nothing."""
    own = [r for r in regions if r["value"][r["type"]] == [label] and not r.get("dynamic")]
    return np.logical_or.reduce([decode(region, HEIGHT, WIDTH) for region in own])  # type: ignore[no-any-return]


@pytest.mark.parametrize(("control", "kind"), [("PolygonLabels", "polygon"), ("RectangleLabels", "rectangle")])
def test_outlines_and_boxes_are_clicked_corrected_and_kept(
    demo: Demo, studio: Studio, tmp_path: Path, control: str, kind: str
) -> None:
    xml = plain_label_config(LABELS).replace("BrushLabels", control)
    project, task, truth = open_person(demo, studio, tmp_path, control, xml, (HEIGHT, WIDTH))
    made = {}
    for label, part in (("Face", "face"), ("Upper-clothes", "upper-clothes")):
        studio.pick(label)
        answer = studio.click(*middle(truth == LIP.names.index(part)))["data"]["result"]
        made[label] = [region for region in answer if region["value"][f"{kind}labels"] == [label]]
        assert made[label]
        shown = [s for s in studio.suggestions if s["labels"] == [label]]
        assert {s["id"] for s in shown} == {region["id"] for region in made[label]}
        assert {s["type"] for s in shown} == {f"{kind}region"}
        studio.accept()
    assert {region["labels"][0] for region in studio.regions} == {"Face", "Upper-clothes"}
    assert {region["type"] for region in studio.regions} == {f"{kind}region"}
    studio.shot(f"{kind}-1-two-parts")

    studio.wait_until_saved(len(studio.regions))
    studio.pick("Upper-clothes")
    x, y = middle(truth == LIP.names.index("left-arm"))
    changed = studio.click(x, y, inside=True)["data"]["result"]
    own = [region for region in changed if region["value"][f"{kind}labels"] == ["Upper-clothes"]]
    assert own[0]["id"] == made["Upper-clothes"][0]["id"]
    assert union(own, "Upper-clothes")[int(y * HEIGHT), int(x * WIDTH)]
    studio.accept()
    there = {region["id"] for region in studio.regions if region["labels"] == ["Upper-clothes"]}
    assert there == {region["id"] for region in own if not region.get("dynamic")}
    studio.shot(f"{kind}-2-corrected")
    studio.submit()

    (annotation,) = demo.client.annotations(task)
    kept = [region for region in annotation["result"] if region["type"] == f"{kind}labels"]
    assert {region["value"][region["type"]][0] for region in kept} == {"Face", "Upper-clothes"}
    assert np.array_equal(union(kept, "Face"), union(made["Face"], "Face"))
    assert np.array_equal(union(kept, "Upper-clothes"), union(own, "Upper-clothes"))
    assert all(region["meta"]["ihp"]["clicks"] for region in kept if "." not in region["id"])

    studio.open(project, task)
    assert {region["labels"][0] for region in studio.regions} == {"Face", "Upper-clothes"}
