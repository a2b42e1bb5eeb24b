"""The picture of a training's figures."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

from matplotlib.axes import Axes
from PIL import Image

from ihp_backend.training.curves import draw_curves


def test_losses_and_scores_are_drawn_apart(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("1,loss,3.5\n1,seconds,9\n5,loss,2.5\n5,miou at 1,0.4\n5,score,0.4\n")
    with patch.object(Axes, "plot", autospec=True, side_effect=Axes.plot) as plot:
        draw_curves(log, tmp_path / "curves.png")
    drawn = {call.kwargs["label"]: ([*call.args[1]], [*call.args[2]]) for call in plot.call_args_list}
    assert drawn == {"loss": ([1, 5], [3.5, 2.5]), "miou at 1": ([5], [0.4])}
    losses, scores = (call.args[0] for call in plot.call_args_list)
    assert losses is not scores
    assert scores.get_ylim() == (0, 1)
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] > 500
