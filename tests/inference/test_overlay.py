"""Pictures of a prediction show its masks where they are."""

from __future__ import annotations

import numpy as np

from ihp_backend.clicks import Click
from ihp_backend.inference.overlay import draw_overlay, label_colour
from ihp_backend.parts import LIP

RED, BLUE = (250, 0, 0), (0, 0, 250)
IMAGE = np.full((1100, 550, 3), 100, np.uint8)
MASK = np.zeros((1100, 550), bool)
MASK[300:700, 100:400] = True


def test_a_label_has_its_parts_colour_or_one_for_all_unknown_ones() -> None:
    assert label_colour("face", LIP) == LIP.colours[LIP.names.index("face")]
    assert label_colour("Tattoo", LIP) == label_colour("Watch", LIP)
    assert label_colour("Tattoo", LIP) not in LIP.colours


def test_masks_are_coloured_outlined_and_the_rest_is_darker() -> None:
    picture = draw_overlay(IMAGE, {"coat": MASK}, {"coat": RED}, names=False, opacity=0.5)
    assert picture.shape == IMAGE.shape
    assert picture.dtype == np.uint8
    assert tuple(picture[400, 200]) == (175, 50, 50)
    assert tuple(picture[50, 50]) == (55, 55, 55)
    edge = picture[500, 96:104].astype(int)
    assert (edge[:, 0] - edge[:, 1]).max() > 150, "a line in the label's colour"
    weak = draw_overlay(IMAGE, {"coat": MASK}, {"coat": RED}, names=False, opacity=0.1)
    assert tuple(weak[400, 200]) == (115, 90, 90)
    assert np.array_equal(draw_overlay(IMAGE, {}, {}), IMAGE), "without masks the photo as it is"


def test_small_photos_are_enlarged() -> None:
    picture = draw_overlay(IMAGE[:110, :55], {"coat": MASK[300:410, 100:155]}, {"coat": RED})
    assert picture.shape == (1100, 550, 3)


def test_names_are_written_on_their_masks() -> None:
    masks, colours = {"coat": MASK, "hat": np.zeros_like(MASK)}, {"coat": RED, "hat": BLUE}
    named, plain = (draw_overlay(IMAGE, masks, colours, names=names) for names in (True, False))
    rows, columns = np.nonzero((named != plain).any(2))
    assert rows.size > 100
    assert 300 <= rows.min() < rows.max() < 700
    assert 100 <= columns.min() < columns.max() < 400


def test_clicks_are_rings_in_their_labels_colour_with_a_plus_or_a_minus() -> None:
    clicks = [Click(150.5, 900.5, "coat"), Click(350.5, 900.5, "coat", False)]
    picture = draw_overlay(IMAGE, {}, {"coat": RED}, clicks)
    assert tuple(picture[904, 154]) == RED
    assert tuple(picture[908, 150]) != RED, "the ring is as small as that"
    white = [(picture[894:907, x - 6 : x + 7] == 255).all(2) for x in (150, 350)]
    assert white[0][:, 6].sum() > white[1][:, 6].sum(), "an upright bar for a positive click alone"
    assert white[0][6].sum() == white[1][6].sum()
    changed = (picture != IMAGE).any(2)
    assert not changed[:, :135].any()
    assert not changed[:885].any()
