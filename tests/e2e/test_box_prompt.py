"""A box around a part, drawn with the wand's rectangle, is answered with the part's mask; clicks go on from there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_task import open_person
from running_demo import Demo
from studio import Studio, answered, mask_of

from ihp_backend.geometry import box_of
from ihp_backend.parts import LIP

pytestmark = pytest.mark.e2e

HEIGHT, WIDTH = 450, 300
TAGS = '<Label value="Face"/><Label value="Upper-clothes"/>'
CONFIG = f"""<View><Image name="image" value="$image"/>
<KeyPointLabels name="click" toName="image" smart="true">{TAGS}</KeyPointLabels>
<RectangleLabels name="around" toName="image" smart="true">{TAGS}</RectangleLabels>
<BrushLabels name="mask" toName="image" smart="false">{TAGS}</BrushLabels></View>"""


def test_a_box_is_answered_with_the_mask_of_what_is_in_it(demo: Demo, studio: Studio, tmp_path: Path) -> None:
    _, task, truth = open_person(demo, studio, tmp_path, "Boxes", CONFIG, (HEIGHT, WIDTH))
    studio.next_smart_tool()  # the rectangle
    studio.pick("Upper-clothes", control=1)
    box = box_of(truth == LIP.names.index("upper-clothes"))
    assert box is not None
    corners = (box.left / WIDTH, box.top / HEIGHT), (box.right / WIDTH, box.bottom / HEIGHT)
    region = answered(studio.drag(*corners))
    mask = mask_of(region)
    assert region["type"] == "brushlabels"
    assert (mask & (truth == LIP.names.index("upper-clothes"))).sum() > 0.5 * mask.sum()
    outside = np.ones_like(mask)
    outside[box.top - 3 : box.bottom + 3, box.left - 3 : box.right + 3] = False  # the mouse stops at whole pixels
    assert not (mask & outside).any()
    studio.shot("box-1-drawn")
    studio.accept()
    assert [(r["type"], r["labels"]) for r in studio.regions] == [("brushregion", ["Upper-clothes"])]
    studio.wait_until_saved(1)
    studio.shot("box-2-accepted")
    studio.submit()
    (annotation,) = demo.client.annotations(task)
    assert [r["type"] for r in annotation["result"] if r["type"] != "keypointlabels"] == ["brushlabels"]
