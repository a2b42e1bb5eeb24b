"""Fine-tuning: what it leaves behind, when it is better, and that it goes on after a kill."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ihp_backend.data.sample import DataError, Sample
from ihp_backend.data.synthetic import draw_person
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import SHIPPED, load_parser, save_parser
from ihp_backend.parts import HELEN, LIP
from ihp_backend.training import finetune as module
from ihp_backend.training.config import TrainConfig
from ihp_backend.training.finetune import FinetuneConfig, Outcome, finetune, least_gain_of
from ihp_backend.training.pseudo_labels import Samples
from ihp_backend.training.trainer import Trainer

PARSER = ParserConfig(width=32, area=48 * 32)
CONFIG = FinetuneConfig(steps=4, batch=2)
CLOTHES = [LIP.names.index(name) for name in ("upper-clothes", "coat", "dress", "pants", "skirt")]


class Drawn:
    """Drawn people whose annotators know faces and one label of their own."""

    labels: Mapping[str, tuple[str, ...]] = MappingProxyType({"Face": ("face",), "Costume": ()})

    def __init__(self, *seeds: int, height: int = 96, broken: int | None = None) -> None:
        self.seeds, self.height, self.broken = seeds, height, broken
        self.names: Sequence[str] = [str(seed) for seed in seeds]

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> Sample:
        if self.seeds[index] == self.broken:
            raise DataError("its image is gone")
        image, ids = draw_person(np.random.default_rng(self.seeds[index]), self.height, 2 * self.height // 3)
        labels = np.where(ids == LIP.find("face"), 1, np.where(np.isin(ids, CLOTHES), 2, 0)).astype(np.uint8)
        return Sample(self.names[index], image, labels)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base")
    save_parser(HumanParser(PARSER), folder, {"version": "tiny-1", "licence": "none"})
    return folder


def test_it_leaves_weights_with_the_projects_own_label(base: Path, tmp_path: Path) -> None:
    before = (base / "model.safetensors").read_bytes()
    told: list[tuple[str, float]] = []
    outcome = finetune(
        base,
        Drawn(1, 2, 3, broken=2),
        Drawn(4),
        tmp_path,
        version="tiny-1+p7.1",
        base=base,
        config=CONFIG,
        report=lambda stage, share: told.append((stage, share)),
    )
    parser, info = load_parser(tmp_path)
    assert parser.config.parts.names[20:] == ("Costume",)
    assert (info["version"], info["parent"], info["data"]) == ("tiny-1+p7.1", "tiny-1", "2 photos of a project")
    assert info["metrics"] == {"before": outcome.before, "after": outcome.after}
    assert {"miou_at_0", "miou_at_1", "miou_at_2"} <= set(outcome.before)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["info.json", "model.safetensors"]
    assert (base / "model.safetensors").read_bytes() == before
    done = list(dict.fromkeys(stage for stage, share in told if share == 1.0))
    assert done == ["read", "measure before", "cross-validate", "train", "measure after"]
    backbone = {k: v for k, v in load_parser(base)[0].state_dict().items() if k.startswith("backbone")}
    assert all(torch.equal(v, parser.state_dict()[k]) for k, v in backbone.items())  # it is left as it is


def test_base_data_of_another_label_set_is_left_out_and_told(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "faces"
    for folder, array in (("images", np.zeros((40, 40, 3), np.uint8)), ("labels", np.ones((40, 40), np.uint8))):
        (data / folder).mkdir(parents=True)
        Image.fromarray(array).save(data / folder / "a.png")
    (data / "splits").mkdir()
    for split in ("train", "val"):
        (data / "splits" / f"{split}.txt").write_text("a\n")
    classes = [{"id": i, "name": name, "colour": [i, 0, 0]} for i, name in enumerate(HELEN.names)]
    (data / "classes.json").write_text(json.dumps({"classes": classes, "flip_pairs": []}))
    options = {"version": "tiny-1+p7.1", "base": base, "config": CONFIG}
    with_it = finetune(base, Drawn(1, 2), Drawn(4), tmp_path / "with", base_data=data, **options)  # type: ignore[arg-type]
    without = finetune(base, Drawn(1, 2), Drawn(4), tmp_path / "without", **options)  # type: ignore[arg-type]
    assert (with_it.before, with_it.after) == (without.before, without.after)
    assert "helen, not of lip: it is left out" in caplog.text


def test_a_left_hand_is_learnt_without_a_right_one(base: Path, tmp_path: Path) -> None:
    photos = Drawn(1, 2, 3)
    photos.labels = {"Face": ("face",), "Left-hand": ()}
    finetune(base, photos, photos, tmp_path, version="tiny-1+p1.001", base=base, config=CONFIG, device="cpu")
    assert load_parser(tmp_path)[0].config.custom_classes == ("Left-hand",)


def test_a_version_can_learn_again(base: Path, tmp_path: Path) -> None:
    finetune(base, Drawn(1, 2), Drawn(4), tmp_path / "1", version="v1", base=base, config=CONFIG)
    photos, held_back = Drawn(1, 2), Drawn(4)
    photos.labels = held_back.labels = {"Hat": ("hat",), "Cape": (), "Costume": ()}
    finetune(tmp_path / "1", photos, held_back, tmp_path / "2", version="v2", base=base, config=CONFIG)
    parser, info = load_parser(tmp_path / "2")
    assert parser.config.custom_classes == ("Costume", "Cape")
    assert info["parent"] == "v1"


def test_it_goes_on_after_a_kill(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (base, Drawn(1, 2), Drawn(4, 5, 6, 7, 8))
    config = replace(CONFIG, steps=30)
    whole = finetune(*words, tmp_path / "whole", version="v", base=base, config=config)

    def killed(stage: str, share: float) -> None:
        if stage == "train":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(*words, tmp_path / "cut", version="v", base=base, config=config, report=killed)
    assert not (tmp_path / "cut/info.json").exists()
    steps: list[int] = []
    run = Trainer.run

    def watched(self: Trainer, until: int | None = None) -> None:
        steps.append(self.step)
        run(self, until)

    monkeypatch.setattr(Trainer, "run", watched)
    again = finetune(*words, tmp_path / "cut", version="v", base=base, config=config)
    assert steps[0] == 20
    assert again.after == whole.after


@pytest.mark.parametrize(("train", "held_back"), [((), (4,)), ((1,), ()), ((2,), (4,))])
def test_too_few_photos_are_told(base: Path, tmp_path: Path, train: tuple[int], held_back: tuple[int]) -> None:
    outcome = finetune(
        base, Drawn(*train, broken=2), Drawn(*held_back), tmp_path, version="v", base=base, config=CONFIG
    )
    assert not outcome.is_better
    assert "at least one of each is needed" in outcome.reason
    assert not (tmp_path / "model.safetensors").exists()


def test_few_photos_must_gain_more() -> None:
    assert [least_gain_of(FinetuneConfig(least_gain=0.002, measured=16), n) for n in (16, 5, 4, 1)] == [
        0.002,
        0.002,
        0.004,
        0.008,
    ]


def test_what_nobody_annotates_is_not_forgotten(base: Path, tmp_path: Path) -> None:
    """The base's classes are told apart as before, wherever clicks are; without ``keep``, they are not."""

    def divergence(keep: float) -> float:
        out = tmp_path / str(keep)
        config = replace(CONFIG, steps=40, rate=5e-3, keep=keep)
        finetune(base, Drawn(1, 2), Drawn(4, 5, 6, 7, 8), out, version="v", base=base, config=config)
        parsers = [load_parser(folder)[0] for folder in (base, out)]
        image = torch.from_numpy(draw_person(np.random.default_rng(9), 96, 64)[0]).permute(2, 0, 1)[None] / 127.5 - 1
        said = []
        for parser in parsers:
            channels = parser.config.channels
            maps, prev_mask = torch.zeros(1, channels, 96, 64), torch.zeros(1, channels, 48, 32)
            maps[0, 13, 10:20, 30:40] = 1.0
            with torch.no_grad():
                said.append(parser(image, maps, prev_mask).logits[:, : len(LIP)].log_softmax(1))
        return float((said[0].exp() * (said[0] - said[1])).sum(1).mean())

    assert divergence(10.0) < 0.2 * divergence(0.0)


def test_few_held_back_photos_get_help_from_those_learnt_from(base: Path, tmp_path: Path) -> None:
    outcome = finetune(base, Drawn(1, 2, 3), Drawn(4), tmp_path / "few", version="v", base=base, config=CONFIG)
    assert "of 4 photos, 3 of them by cross-validation" in outcome.reason
    enough = Drawn(4, 5, 6, 7, 8)
    outcome = finetune(base, Drawn(1, 2, 3), enough, tmp_path / "enough", version="v", base=base, config=CONFIG)
    assert "of 5 photos, are better" in outcome.reason


@pytest.mark.parametrize(("photos", "trainings"), [(16, 2), (15, 3)])
def test_one_short_training_measures_what_is_left_out_if_enough_is_left(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: int, trainings: int
) -> None:
    sizes = []

    class Counted(Trainer):
        def __init__(self, config: TrainConfig, data: Samples, *args: Any, **options: Any) -> None:
            sizes.append(len({sample.name for sample in data.samples}))
            super().__init__(config, data, *args, **options)

    monkeypatch.setattr("ihp_backend.training.finetune.Trainer", Counted)
    config = replace(CONFIG, steps=1)
    outcome = finetune(
        base, Drawn(*range(photos)), Drawn(*range(20, 24)), tmp_path, version="v", base=base, config=config
    )
    assert "of 8 photos, 4 of them by cross-validation" in outcome.reason
    assert len(sizes) == trainings
    assert sum(photos - size for size in sizes) == 4, "each of the four is left out once"


def test_only_the_last_layers_learn(base: Path, tmp_path: Path) -> None:
    finetune(base, Drawn(1, 2), Drawn(4), tmp_path, version="v", base=base, config=replace(CONFIG, rate=0.01))
    old, new = (load_parser(folder)[0].decoder.state_dict() for folder in (base, tmp_path))
    changed = {
        name.partition(".")[0]
        for name, value in new.items()
        if value.shape != old[name].shape or (value != old[name]).any()
    }
    assert {"similar", "fine", "coarse"} <= changed
    assert changed <= {"similar", "coarse", "narrow", "at2", "fine", "clicks"}
    assert torch.equal(new["clicks.to8.weight"], old["clicks.to8.weight"])


@pytest.mark.slow
def test_the_shipped_weights_learn_a_label_of_their_own(tmp_path: Path) -> None:
    base = SHIPPED / "lip"
    train, held_back = Drawn(*range(10), height=300), Drawn(*range(20, 24), height=300)
    outcome: Outcome = finetune(
        base, train, held_back, tmp_path, version="v", base=base, config=FinetuneConfig(steps=80)
    )
    assert outcome.is_better, outcome.reason
    assert outcome.after["miou_at_0"] > outcome.before["miou_at_0"] + 0.1
    assert json.loads((tmp_path / "info.json").read_text())["architecture"]["custom_classes"] == ["Costume"]


@pytest.mark.parametrize(("version", "is_the_bases"), [("tiny-1+p1.001", True), ("tiny-0+p1.001", False)])
def test_forgetting_is_measured_from_the_base(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, is_the_bases: bool
) -> None:
    """Of a version of this base; weights that the base has replaced are another matter."""
    save_parser(HumanParser(PARSER), tmp_path / "start", {"version": version})

    def miou(predictor: Predictor, data: object, budgets: Sequence[float], **_: bool) -> dict[str, float]:
        return {f"miou_at_{b:g}": 0.9 if predictor.version == "tiny-1" else 0.5 for b in budgets}

    monkeypatch.setattr(module, "miou", miou)
    monkeypatch.setattr(module, "has_parts", lambda data: True)
    config = replace(CONFIG, rate=0.0)  # it learns nothing: what differs is the base's figure
    outcome = finetune(
        tmp_path / "start", Drawn(1, 2), Drawn(3), tmp_path / "out", version="v", base=base, config=config
    )
    assert outcome.before["base"] == (0.9 if is_the_bases else 0.5)
    assert outcome.after["base"] == 0.5
    assert outcome.reason.startswith("it forgets" if is_the_bases else "it is not better")
