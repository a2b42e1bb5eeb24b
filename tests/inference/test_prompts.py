"""What a request gives the network, and what of it cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from ihp_backend.clicks import Click
from ihp_backend.inference.prompts import Prompts
from ihp_backend.parts import LIP

FACE, HAIR = Click(1, 1, "face"), Click(2, 2, "hair")


def test_without_labels_they_are_the_schemas_own() -> None:
    assert Prompts().parts(LIP) == {name: (name,) for name in LIP.names}
    assert Prompts(labels={"Head": ("face", "hair")}).parts(LIP) == {"Head": ("face", "hair")}


def test_the_prompts_after_other_clicks_keep_all_but_earlier_ones() -> None:
    masks = {"hat": np.ones((4, 5), bool)}
    prompts = Prompts([FACE, HAIR], wanted=["face"], earlier_clicks=[HAIR], masks=masks, everyone=True)
    after = prompts.after([FACE])
    assert (after.clicks, after.earlier_clicks) == ((FACE,), ())
    assert (after.wanted, after.masks, after.everyone) == (["face"], masks, True)


@pytest.mark.parametrize(
    "prompts",
    [
        Prompts([Click(1, 1, "wing")]),
        Prompts(earlier_clicks=[Click(1, 1, "wing")]),
        Prompts(masks={"wing": np.ones((4, 5), bool)}),
    ],
)
def test_an_unknown_label_is_named_beside_those_there_are(prompts: Prompts) -> None:
    with pytest.raises(ValueError, match="'wing' is not among the labels: background, hat"):
        prompts.check(LIP, 4, 5)


@pytest.mark.parametrize("shape", [(5, 4), (4, 6), (3, 5)])
def test_a_mask_of_another_shape_is_told(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"'hat' has shape \({shape[0]}, {shape[1]}\), the image \(4, 5\)"):
        Prompts(masks={"hat": np.ones(shape, bool)}).check(LIP, 4, 5)
    Prompts([FACE], masks={"hat": np.ones((4, 5), bool)}).check(LIP, 4, 5)
