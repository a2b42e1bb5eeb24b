"""The steps of post-processing, in their order: from the network's logits to a parse that honours every click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ihp_backend.inference.postprocess.enforce_clicks import EnforceClicksOptions, enforce_clicks
from ihp_backend.inference.postprocess.guided_upsampling import GuidedUpsampling, GuidedUpsamplingOptions
from ihp_backend.inference.postprocess.progressive_merge import ProgressiveMergeOptions, progressive_merge
from ihp_backend.inference.postprocess.remove_small_regions import SmallRegionOptions, remove_small_regions
from ihp_backend.inference.postprocess.remove_wrong_piece import WrongPieceOptions, remove_wrong_piece
from ihp_backend.inference.postprocess.split_people import DEFAULTS as SPLIT
from ihp_backend.inference.postprocess.split_people import Place, SplitPeopleOptions
from ihp_backend.inference.prediction import Parse
from ihp_backend.network.click_maps import Point


@dataclass(frozen=True)
class GuessOptions:
    """Which parts that nobody asked for are worth showing.

    Attributes:
        least_score: From this expected IoU on, 0 to 1.
        least_share: From this share of all pixels that show people on.
    """

    least_score: float = 0.3
    least_share: float = 0.001

    def keeps(self, parse: Parse, label: str) -> bool:
        """Whether a label of a parse is worth showing."""
        size = self.least_share * float(parse.foreground().sum())
        return parse.score(label) >= self.least_score and parse.cells(label) >= size


@dataclass(frozen=True)
class PostprocessConfig:
    """The steps and their options, in their order; ``None`` or ``False`` leaves a step out.

    Attributes:
        flip: Without clicks, the network sees the photo mirrored, too.
        second_size: Without clicks, the network sees the photo in a second size, too.
        split_people: People who touch are told apart by their heads. It serves the steps that ask who is meant.
        remove_wrong_piece: A negative click takes the coherent piece around it.
        enforce_clicks: Each click's part leads at the click.
        remove_small_regions: Small islands of a part become what is around them.
        progressive_merge: A correction changes what it points at.
        guided_upsampling: Edges of masks follow the photo's edges.
        drop_guesses: Doubtful parts that nobody asked for are not suggested.
    """

    flip: bool = True
    second_size: bool = True
    split_people: SplitPeopleOptions | None = SPLIT
    remove_wrong_piece: WrongPieceOptions | None = WrongPieceOptions()
    enforce_clicks: EnforceClicksOptions | None = EnforceClicksOptions()
    remove_small_regions: SmallRegionOptions | None = SmallRegionOptions()
    progressive_merge: ProgressiveMergeOptions | None = ProgressiveMergeOptions()
    guided_upsampling: GuidedUpsamplingOptions | None = GuidedUpsamplingOptions()
    drop_guesses: GuessOptions | None = GuessOptions()

    def without(self, *steps: str) -> Self:
        """Returns the same without some steps.

        Raises:
            ValueError: If there is no step of a name; the message lists those there are.
        """
        if unknown := sorted(set(steps) - set(STEPS)):
            raise ValueError(f"no post-processing step is called {', '.join(unknown)}; expected: {', '.join(STEPS)}")
        left_out = {name: False if isinstance(getattr(self, name), bool) else None for name in steps}
        return replace(self, **left_out)  # type: ignore[arg-type]


STEPS = tuple(step.name for step in fields(PostprocessConfig))
"""Names of all steps, in their order."""


@dataclass(frozen=True)
class Inputs:
    """What the steps know beside the logits. A step has nothing to do where its input is missing.

    Attributes:
        points: The clicks, in pixels of the view.
        embedding: (D, h/2, w/2) float32 features, if the network has them.
        heads: (x, y) in pixels of the view.
        everyone: Whether a click means everyone in the photo.
        previous: The parse before the newest click, for ``progressive_merge``.
        before: (h, w) the leading channels before the newest click, by that parse or the mask prompts, for
            ``remove_wrong_piece``.
        upsampling: For ``guided_upsampling``.
    """

    points: Sequence[Point] = ()
    embedding: NDArray[np.float32] | None = None
    heads: Sequence[Place] = ()
    everyone: bool = False
    previous: Parse | None = None
    before: NDArray[np.intp] | None = None
    upsampling: GuidedUpsampling | None = None


def postprocess(parse: Parse, inputs: Inputs, config: PostprocessConfig) -> Parse:
    """Runs the steps on a parse of the network's own logits, which are changed in place."""
    logits, split = parse.logits, config.split_people
    if config.remove_wrong_piece:
        wrong_piece = config.remove_wrong_piece
        logits = remove_wrong_piece(logits, inputs.embedding, inputs.points, inputs.before, wrong_piece)
    if config.enforce_clicks:
        logits = enforce_clicks(logits, inputs.embedding, inputs.points, config.enforce_clicks)
    if config.remove_small_regions:
        logits = remove_small_regions(
            logits,
            inputs.points,
            inputs.heads,
            one_person=not inputs.everyone,
            options=config.remove_small_regions,
            split=split or SPLIT,
        )
    parse = replace(parse, logits=logits)
    if config.progressive_merge and inputs.previous is not None:
        parse = progressive_merge(inputs.previous, parse, config.progressive_merge)
    if config.guided_upsampling and inputs.upsampling is not None:
        parse = replace(parse, upsampling=inputs.upsampling)
    return parse
