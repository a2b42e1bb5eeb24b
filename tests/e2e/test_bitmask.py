"""A project that paints with bitmasks: clicked, accepted, corrected, saved and opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_task import middle, open_person
from numpy.typing import NDArray
from running_demo import Demo
from studio import Studio, answered

from ihp_backend.demo.project import plain_label_config
from ihp_backend.label_studio.bitmask import decode
from ihp_backend.parts import LIP

pytestmark = pytest.mark.e2e

HEIGHT, WIDTH = 450, 300
LABELS = ("Face", "Hair", "Upper-clothes", "Pants")


def mask_of(region: dict[str, Any]) -> NDArray[np.bool_]:
    return decode(region["value"]["imageDataURL"], region["original_height"], region["original_width"])


def test_bitmasks_are_clicked_corrected_and_kept(demo: Demo, studio: Studio, tmp_path: Path) -> None:
    config = plain_label_config(LABELS).replace("BrushLabels", "BitmaskLabels")
    config = config.replace("<Image ", '<Image smoothing="false" ')
    project, task, truth = open_person(demo, studio, tmp_path, "Bitmasks", config, (HEIGHT, WIDTH))
    made = {}
    for label, part in (("Face", "face"), ("Upper-clothes", "upper-clothes")):
        studio.pick(label)
        made[label] = answered(studio.click(*middle(truth == LIP.names.index(part))))
        assert made[label]["type"] == "bitmasklabels"
        assert [label] in [suggestion["labels"] for suggestion in studio.suggestions]
        studio.accept()
    assert sorted(region["labels"][0] for region in studio.regions) == ["Face", "Upper-clothes"]
    studio.shot("bitmask-1-two-parts")

    studio.wait_until_saved(2)
    studio.page.wait_for_timeout(7000)  # a draft of a mask and a keypoint counts two, too; the next one has both masks
    studio.pick("Upper-clothes")
    x, y = middle(truth == LIP.names.index("left-arm"))
    changed = answered(studio.click(x, y))  # beside it: a click inside of an accepted bitmask selects it
    assert changed["id"] == made["Upper-clothes"]["id"]
    assert mask_of(changed)[int(y * HEIGHT), int(x * WIDTH)]
    assert (mask_of(changed) & mask_of(made["Upper-clothes"])).any()
    studio.accept()
    studio.pick("Pants")
    pants = middle(truth == LIP.names.index("pants"))
    answered(studio.click(*pants))
    studio.pick("Pants")
    x, y = pants[0], pants[1] + 0.06
    cut = answered(studio.click(x, y, negative=True))  # before it is accepted
    assert not mask_of(cut)[int(y * HEIGHT), int(x * WIDTH)]
    studio.reject()
    studio.shot("bitmask-2-corrected")
    studio.submit()

    (annotation,) = demo.client.annotations(task)
    kept = {r["value"]["bitmasklabels"][0]: r for r in annotation["result"] if r["type"] == "bitmasklabels"}
    assert set(kept) == {"Face", "Upper-clothes"}
    assert np.array_equal(mask_of(kept["Face"]), mask_of(made["Face"]))
    assert np.array_equal(mask_of(kept["Upper-clothes"]), mask_of(changed))

    studio.open(project, task)
    assert sorted(region["labels"][0] for region in studio.regions) == ["Face", "Upper-clothes"]
    studio.shot("bitmask-3-opened-again")
