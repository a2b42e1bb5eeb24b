"""A training run: it learns, goes on after a kill as if nothing had been, and stops before it breaks anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn import CONFIG, PARSER, Drawn
from safetensors.torch import load_file

from ihp_backend.network.parser import HumanParser
from ihp_backend.network.weights import load_parser
from ihp_backend.simulation.sampling import SamplingConfig
from ihp_backend.training.curves import draw_curves
from ihp_backend.training.run_folder import TrainerError
from ihp_backend.training.trainer import Trainer


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"base_loss": "focal", "sp_loss": "pairs"},
        {"sp_loss": "none", "parser": replace(PARSER, prototypes=False, late_fusion=False, previous=False)},
        {"parser": replace(PARSER, early_fusion=True, maps="disk", open_channels=0)},
        {"parser": replace(PARSER, early_fusion=True, late_fusion=False, previous=False, prototypes=False)},
        {"backbone_rate": 0.0, "frozen_norms": True, "balance": 0.5, "rare_classes": 0.3},
        {"sampling": SamplingConfig(random_sampling=False, error_rounds=0, drop_all=0)},
    ],
)
def test_every_component_can_be_switched(changes: dict[str, Any], tmp_path: Path) -> None:
    config = replace(CONFIG, **changes)
    Trainer(config, Drawn(), tmp_path).run(2)
    parser, info = load_parser(tmp_path / "best")
    assert parser.config == config.parser
    assert info["training"] == json.loads((tmp_path / "config.json").read_text())
    named = {line.split(",")[1] for line in (tmp_path / "log.csv").read_text().splitlines()}
    assert {config.base_loss, "lovasz"} <= named
    assert ("sp" in named) == (config.sp_loss != "none")


@pytest.mark.parametrize("sp_loss", ["none", "pairs", "prototypes"])
def test_the_sp_loss_reaches_the_features_without_prototypes(sp_loss: str, tmp_path: Path) -> None:
    parser = replace(PARSER, early_fusion=True, late_fusion=False, previous=False, prototypes=False)
    sampling = SamplingConfig(drop_all=0, some_parts=0, error_rounds=0)
    trainer = Trainer(replace(CONFIG, sp_loss=sp_loss, parser=parser, sampling=sampling), Drawn(), tmp_path)
    before = trainer.parser.decoder.embedding.weight.detach().clone()
    trainer.run(1)
    after = trainer.parser.decoder.embedding.weight.detach()
    assert torch.equal(after, before) == (sp_loss == "none")


def test_going_on_after_a_kill_gives_the_same_weights(tmp_path: Path) -> None:
    Trainer(CONFIG, Drawn(), tmp_path / "whole").run()
    Trainer(CONFIG, Drawn(), tmp_path / "cut").run(2)
    again = Trainer(CONFIG, Drawn(), tmp_path / "cut")
    assert again.step == 2
    again.run()
    whole, cut = weights(tmp_path / "whole/best"), weights(tmp_path / "cut/best")
    for name, value in whole.items():
        assert torch.allclose(value.float(), cut[name].float(), atol=1e-5), name


def test_it_learns(tmp_path: Path) -> None:
    config = replace(CONFIG, steps=100, batch=3, rate=3e-3, validate_every=100, average=0.5)
    Trainer(config, Drawn(), tmp_path).run()
    rows = [line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines()]
    losses = [float(value) for _, name, value in rows if name == "ce"]
    assert losses[-1] < 0.8 * 3  # ln 20 = 3.0 at the start
    draw_curves(tmp_path / "log.csv", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_the_best_is_kept_by_its_score(tmp_path: Path) -> None:
    scores = iter([0.5, 0.3])
    trainer = Trainer(CONFIG, Drawn(), tmp_path, validate=lambda parser: {"score": next(scores)}, info={"version": "v"})
    trainer.run()
    assert trainer.best == 0.5
    _, info = load_parser(tmp_path / "best")
    assert info["step"] == 3
    assert info["version"] == "v"


def test_it_stops_early_and_stays_stopped(tmp_path: Path) -> None:
    scores = iter([0.5, 0.4, 0.3, 0.2])
    config = replace(CONFIG, steps=40, validate_every=2, patience=2)
    Trainer(config, Drawn(), tmp_path, validate=lambda parser: {"score": next(scores)}).run()
    again = Trainer(config, Drawn(), tmp_path, validate=lambda parser: {"score": next(scores)})
    again.run()
    assert (again.step, again.best) == (6, 0.5)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    Trainer(CONFIG, Drawn(), tmp_path).run(3)
    good = (tmp_path / "last.pt").read_bytes()
    trainer = Trainer(CONFIG, Drawn(), tmp_path)
    with torch.no_grad():
        trainer.parser.decoder.coarse.weight.fill_(float("nan"))
    with pytest.raises(TrainerError, match=r"loss is nan at step 3, photos [abc], [abc]; the last good state"):
        trainer.run()
    assert (tmp_path / "last.pt").read_bytes() == good


def test_the_photo_that_breaks_it_is_named(tmp_path: Path) -> None:
    trainer = Trainer(replace(CONFIG, batch=3), Drawn(), tmp_path)
    batch = trainer.batches.make(0)
    batch.images[1, :, 5, 5] = float("nan")
    trainer.batches.run = lambda *_, **__: iter([batch])  # type: ignore[method-assign]
    with pytest.raises(TrainerError, match=f"loss is nan at step 0, photos {batch.names[1]};"):
        trainer.run()


def test_a_validation_that_was_stopped_is_made_up_for(tmp_path: Path) -> None:
    def killed(parser: HumanParser) -> dict[str, float]:
        raise KeyboardInterrupt

    for step in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            Trainer(CONFIG, Drawn(), tmp_path, validate=killed).run(step)
        scores: list[float] = []

        def validate(parser: HumanParser, scores: list[float] = scores) -> dict[str, float]:
            scores.append(0.5)
            return {"score": 0.5}

        again = Trainer(CONFIG, Drawn(), tmp_path, validate=validate)
        again.run(step)
        assert (again.step, scores) == (step, [0.5])
        assert (tmp_path / "best/model.safetensors").exists()
    again.run()
    assert scores == [0.5]  # once is enough


def test_a_gradient_that_is_no_number_reaches_no_weight(tmp_path: Path) -> None:
    trainer = Trainer(CONFIG, Drawn(), tmp_path)
    trainer.parser.decoder.coarse.weight.register_hook(lambda gradient: gradient * float("nan"))
    before = {k: v.clone() for k, v in trainer.parser.state_dict().items() if "running" not in k and "num_b" not in k}
    with pytest.raises(TrainerError, match=r"norm of the gradient is nan at step 0.*no state was saved before"):
        trainer.run()
    assert all(torch.equal(v, trainer.parser.state_dict()[k]) for k, v in before.items())


@pytest.mark.parametrize("everyone", [0.0, 1.0])
def test_where_a_click_means_everyone_the_network_sees_its_click_free_prediction(
    everyone: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    decode = HumanParser.decode

    def noted(self: HumanParser, features: Sequence[torch.Tensor], maps: torch.Tensor, prev_mask: torch.Tensor) -> Any:
        if torch.is_grad_enabled():
            seen.append(prev_mask)
        return decode(self, features, maps, prev_mask)

    monkeypatch.setattr(HumanParser, "decode", noted)
    sampling = SamplingConfig(drop_all=0, some_parts=0, error_rounds=0)
    Trainer(replace(CONFIG, everyone=everyone, sampling=sampling), Drawn(), tmp_path).run(1)
    (prev_mask,) = seen
    shares = prev_mask.sum(1)  # probabilities of all channels, and whole masks over them
    assert bool((shares > 0.99).all()) is (everyone == 1.0)
