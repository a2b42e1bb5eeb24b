"""A training run: it learns, goes on after a kill as if nothing had been, and stops before it breaks anything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import CONFIG, PARSER, Drawn
from safetensors.torch import load_file, save_file

from ihp_backend.data.augment import ViewConfig
from ihp_backend.data.sample import Sample
from ihp_backend.network.backbone import MobileNetV2
from ihp_backend.network.parser import HumanParser
from ihp_backend.network.weights import load_parser
from ihp_backend.parts import LIP
from ihp_backend.simulation.sampling import SamplingConfig
from ihp_backend.training.batches import Batches
from ihp_backend.training.config import TrainConfig
from ihp_backend.training.curves import draw_curves
from ihp_backend.training.trainer import Trainer, TrainerError, load_start


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
def test_every_component_can_be_switched(changes: dict, tmp_path: Path) -> None:
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


def test_a_full_disk_is_named_and_overwrites_nothing(tmp_path: Path) -> None:
    """Files may grow to 100 KB: what a full disk does to the writer."""
    Trainer(CONFIG, Drawn(), tmp_path).run(3)
    before = {path: path.read_bytes() for path in (tmp_path / "last.pt", tmp_path / "best/model.safetensors")}
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "support")!r})
from pathlib import Path
from ihp_backend.training.trainer import WriteError
from drawn import CONFIG, Drawn
from ihp_backend.training.trainer import Trainer
trainer = Trainer(CONFIG, Drawn(), Path({str(tmp_path)!r}))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    trainer.run()
except WriteError as error:
    print("told:", error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "told:" in done.stdout, done.stderr
    assert "cannot be written" in done.stdout
    assert {path: path.read_bytes() for path in before} == before
    assert not list(tmp_path.glob(".new-*"))
    Trainer(CONFIG, Drawn(), tmp_path).run()  # and it goes on when there is room again


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
    trainer.batches.run = lambda start, stop: iter([batch])  # type: ignore[method-assign]
    with pytest.raises(TrainerError, match=f"loss is nan at step 0, photos {batch.names[1]};"):
        trainer.run()


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    Trainer(CONFIG, Drawn(), tmp_path).run(3)
    last = tmp_path / "last.pt"
    for damaged in (last.read_bytes()[:1000], b"", b"no state"):
        last.write_bytes(damaged)
        with pytest.raises(TrainerError, match=r"last\.pt is no training state.*remove it"):
            Trainer(CONFIG, Drawn(), tmp_path)


def test_a_validation_that_was_stopped_is_made_up_for(tmp_path: Path) -> None:
    def killed(parser: HumanParser) -> dict[str, float]:
        raise KeyboardInterrupt

    for step in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            Trainer(CONFIG, Drawn(), tmp_path, validate=killed).run(step)
        scores: list[float] = []
        again = Trainer(CONFIG, Drawn(), tmp_path, validate=lambda _: (scores.append(0.5), {"score": 0.5})[1])  # noqa: B023
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


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    Trainer(CONFIG, Drawn(), tmp_path)
    with pytest.raises(TrainerError, match="other options"):
        Trainer(replace(CONFIG, rate=1.0), Drawn(), tmp_path)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"speed": 3}, "speed.*known"),
        ({"base_loss": "l2"}, "'l2'.*ce, focal"),
        ({"parser": {"colour": 1}}, "colour"),
        ({"parser": {"maps": "bogus"}}, "'bogus'; expected gaussian or disk"),
        ({"sampling": {"luck": 1}}, "luck"),
        ({"warmup": 0}, "warmup is 0; expected a whole number of at least 1"),
        ({"batch": 0}, "batch is 0"),
        ({"steps": "5"}, "steps is '5'; expected a whole number"),
        ({"rate": True}, "rate is True; expected a number"),
        ({"validate_every": 0.5}, "validate_every is 0.5; expected a whole number"),
        ({"sampling": {"drop_all": 7}}, "drop_all is 7; expected a number from 0 to 1"),
        ({"parser": {"area": 100}}, "area is 100; expected a whole number from 1024"),
        ({"parser": {"semantic": "no"}}, "semantic is 'no'; expected true or false"),
        ({"parser": [1]}, r"parser is \[1\]; expected an object"),
        ({"base_loss": "focal", "rare_classes": 0.3}, "rare_classes weighs"),
    ],
)
def test_options_that_cannot_be(fields: dict, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        TrainConfig.from_dict(fields)


def test_a_configuration_of_an_older_release_is_read() -> None:
    found = TrainConfig.from_dict({"sampling": {"spare": 0.5}, "parser": {"spares": 0}})
    assert (found.sampling.open_classes, found.parser.open_channels) == (0.5, 0)


def test_weights_to_start_from(tmp_path: Path) -> None:
    trunk, parser, target = MobileNetV2(), HumanParser(PARSER), HumanParser(PARSER)
    save_file(trunk.state_dict(), tmp_path / "trunk.safetensors")
    save_file({k: v.contiguous() for k, v in parser.state_dict().items()}, tmp_path / "parser.safetensors")
    load_start(target, tmp_path / "trunk.safetensors")
    assert torch.equal(target.backbone.stem.weight[:, :3], trunk.stem.weight)
    load_start(target, tmp_path / "parser.safetensors")
    assert torch.equal(target.decoder.fine.weight, parser.decoder.fine.weight)
    save_file({"decoder.coarse.weight": parser.decoder.coarse.weight.contiguous()}, tmp_path / "other.safetensors")
    with pytest.raises(TrainerError, match=r"does not fit.*no layer of the backbone"):
        load_start(HumanParser(PARSER), tmp_path / "other.safetensors")


def test_weights_of_another_label_set_give_what_fits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = HumanParser(PARSER)
    save_file({k: v.contiguous() for k, v in known.state_dict().items()}, tmp_path / "lip.safetensors")
    parser = HumanParser(replace(PARSER, schema="helen"))
    fresh = {k: v.clone() for k, v in parser.state_dict().items()}
    with caplog.at_level("INFO"):
        load_start(parser, tmp_path / "lip.safetensors")
    loaded, given = parser.state_dict(), known.state_dict()
    for name, value in loaded.items():
        expected = given[name] if given[name].shape == value.shape else fresh[name]
        assert torch.equal(value, expected), name
    assert torch.equal(loaded["decoder.at8.0.0.weight"], given["decoder.at8.0.0.weight"])
    assert not torch.equal(loaded["decoder.at8.0.0.weight"], fresh["decoder.at8.0.0.weight"])
    assert "decoder.fine" in caplog.text  # named, for it starts anew


@pytest.mark.parametrize("early_fusion", [True, False])
def test_a_start_that_forgets_clicks_sees_the_same(tmp_path: Path, early_fusion: bool) -> None:
    torch.manual_seed(1)
    known = HumanParser(replace(PARSER, early_fusion=False)).eval()
    save_file({k: v.contiguous() for k, v in known.state_dict().items()}, tmp_path / "parser.safetensors")
    parser = HumanParser(replace(PARSER, early_fusion=early_fusion, late_fusion=False, previous=False)).eval()
    fresh = {k: v.clone() for k, v in parser.state_dict().items()}
    load_start(parser, tmp_path / "parser.safetensors", forget_clicks=True)
    loaded, wanted = parser.state_dict(), known.state_dict()
    assert torch.equal(loaded["backbone.stem.weight"][:, :3], wanted["backbone.stem.weight"])
    assert torch.equal(loaded["backbone.stem.weight"][:, 3:], fresh["backbone.stem.weight"][:, 3:])
    at4 = "decoder.at4.0.0.weight"  # the image's channels, without the 48 of the clicks behind them
    assert torch.equal(loaded[at4], wanted[at4][:, :-48])
    similar = "decoder.similar.0.0.weight"
    assert torch.equal(loaded[similar][:, :32], wanted[similar][:, :32])
    assert torch.equal(loaded[similar][:, 32:], fresh[similar][:, 32:])


def test_batches_are_a_function_of_seed_and_step() -> None:
    def batches(seed: int) -> Batches:
        return Batches(Drawn(), PARSER, SamplingConfig(), size=2, seed=seed, area=lambda step: 48 * 32)

    one, again, other = batches(1).make(5), batches(1).make(5), batches(2).make(5)
    assert torch.equal(one.images, again.images)
    assert one.points == again.points
    assert one.names == again.names
    assert one.images.shape != other.images.shape or not torch.equal(one.images, other.images)
    places = [i for step in range(3) for i in batches(1).indices(step)]
    assert sorted(places[:3]) == sorted(places[3:]) == [0, 1, 2]  # every pass sees every photo


def test_rare_classes_weigh_more_and_photos_with_them_come_more_often() -> None:
    class Uneven:
        """Ten photos of background; one of them has a hat in a quarter of its pixels."""

        schema = LIP
        names: Sequence[str] = [str(i) for i in range(10)]

        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> Sample:
            labels = np.zeros((8, 8), np.uint8)
            if index == 3:
                labels[:4, :4] = 1
            return Sample(str(index), np.zeros((8, 8, 3), np.uint8), labels)

    batches = Batches(Uneven(), PARSER, SamplingConfig(), size=1, seed=1, area=lambda step: 48 * 32, balance=0.4)
    shown = [batches.indices(step)[0] for step in range(11)]  # sqrt(0.4 / 0.1) = 2 times of 11
    assert shown.count(3) == 2
    assert set(shown) == set(range(10))
    weights = batches.class_weights(0.5)
    assert weights[1] / weights[0] == pytest.approx((624 / 16) ** 0.5, rel=1e-4)
    assert (weights[20:] == 1).all()


def test_clicks_of_a_batch_lie_on_their_labels() -> None:
    batches = Batches(Drawn(), PARSER, SamplingConfig(drop_all=0), size=3, seed=3, area=lambda step: 96 * 64)
    for step in range(8):
        batch = batches.make(step)
        for labels, points in zip(batch.labels.numpy(), batch.points, strict=True):
            for point in points:
                assert labels[int(point.y), int(point.x)] == point.channel


def test_with_somebody_beside_the_clicked_are_meant() -> None:
    """Without a click both people are labelled and nothing may be clicked later; with clicks, those who have one."""

    class Two(Drawn):
        """In one photo a coat, in the other pants: whoever has a label is told by it."""

        names: Sequence[str] = ("coat", "pants")

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Sample:
            labels = np.zeros((96, 64), np.uint8)
            labels[16:80, 16:48] = (7, 9)[index]
            return Sample(self.names[index], np.zeros((96, 64, 3), np.uint8), labels)

    sampling = SamplingConfig(drop_all=0.5, some_parts=0, open_classes=0)
    batches = Batches(
        Two(), PARSER, sampling, size=4, seed=1, area=lambda step: 96 * 64, neighbours=1.0, views=ViewConfig(detail=0)
    )
    seen = set()
    for batch in (batches.make(step) for step in range(12)):
        for labels, points, accepted, settled in zip(
            batch.labels.numpy(), batch.points, batch.accepted.numpy(), batch.no_clicks_allowed, strict=True
        ):
            parts = {int(i) for i in np.unique(labels)} & {7, 9}
            meant = ({p.channel for p in points} | set(np.flatnonzero(accepted.any((1, 2))))) - {0}
            assert settled is (not meant)
            if meant:
                assert parts == meant
            seen.add((settled, len(parts)))
    assert seen == {(True, 1), (True, 2), (False, 1), (False, 2)}  # two of the same photo have one part


def test_a_half_written_log_does_not_stop_a_run(tmp_path: Path) -> None:
    Trainer(CONFIG, Drawn(), tmp_path).run(3)
    before = (tmp_path / "log.csv").read_text()
    with (tmp_path / "log.csv").open("a") as file:
        file.write("5,ce,0.3\n6,c")
    Trainer(CONFIG, Drawn(), tmp_path).run()
    after = (tmp_path / "log.csv").read_text()
    assert after.startswith(before)
    assert not [line for line in after.splitlines() if line.startswith("5,")]
    draw_curves(tmp_path / "log.csv", tmp_path / "curves.png")
