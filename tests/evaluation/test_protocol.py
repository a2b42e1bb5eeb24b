"""The protocol, on a predictor whose every answer is known beforehand."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.data.sample import DataError, Sample
from ihp_backend.evaluation.metrics import mean_iou
from ihp_backend.evaluation.protocol import Evaluation, ProtocolConfig, evaluate
from ihp_backend.evaluation.report import summarise, summary, write_report
from ihp_backend.inference.label_channels import Channels
from ihp_backend.inference.predictor import Predictor
from ihp_backend.inference.prompts import Prompts
from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.parts import CIHP, LIP


def with_rows(*rows: int) -> NDArray[np.uint8]:
    """Five rows of one class each, 20 pixels high: a click leaves out the pixels around it."""
    return np.repeat(np.array([[row] * 100 for row in rows], np.uint8), 20, axis=0)


LABELS = with_rows(13, 13, 9, 9, 0)  # face above, pants below, then the background


class OnePhoto:
    schema = LIP
    names: Sequence[str] = ("one",)

    def __init__(self, labels: NDArray[np.uint8] = LABELS) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return Sample("one", np.zeros((*self.labels.shape, 3), np.uint8), self.labels)


class Answer:
    channels = Channels(LIP, 0, {name: (name,) for name in LIP.names})

    def __init__(self, ids: NDArray[np.uint8]) -> None:
        self.ids = ids

    def score(self, label: str) -> float:
        return float((self.ids == LIP.names.index(label)).mean())

    def mask(self, label: str) -> NDArray[np.bool_]:
        return np.asarray(self.ids == LIP.names.index(label))

    def label_map(self, allowed: Sequence[int] | None = None) -> NDArray[np.uint8]:
        return self.ids if allowed is None else np.where(np.isin(self.ids, allowed), self.ids, 0).astype(np.uint8)


class Scripted:
    """Answers by the number of clicks, whatever they are."""

    schema = LIP
    version = "scripted"

    def __init__(self, answers: Mapping[int, NDArray[np.uint8]]) -> None:
        self.answers = answers
        self.seen: list[tuple[int, bool]] = []
        self.meant_everyone: list[bool] = []

    def suggested(self, parse: Answer, labels: Any) -> list[str]:
        return [LIP.names[i] for i in np.unique(parse.ids) if i]

    def open(self, image: Any, key: str | None = None) -> Scripted:
        return self

    def parse(self, prompts: Prompts, previous: Any = None) -> Answer:
        self.seen.append((len(prompts.clicks), previous is not None))
        self.meant_everyone += [prompts.everyone] if prompts.clicks else []
        known = max(n for n in self.answers if n <= len(prompts.clicks))
        return Answer(self.answers[known])


def run(answers: Mapping[int, NDArray[np.uint8]], **options: Any) -> tuple[Evaluation, Scripted]:
    predictor = Scripted(answers)
    return evaluate(predictor, OnePhoto(), ProtocolConfig(**options), quiet=True), predictor  # type: ignore[arg-type]


def test_other_parts_may_be_background_but_what_runs_over_them_is_wrong() -> None:
    hat, all_face = with_rows(13, 13, 9, 9, 1), with_rows(13, 13, 9, 9, 13)
    result, _ = run({0: hat, 2: all_face, 3: hat}, only_present=True)
    assert result.photos[0].ious == pytest.approx([1, (10 / 15 + 1 + 0) / 3, 1])
    assert run({0: hat})[0].photos[0].ious[0] < 1


def test_budgets_by_hand() -> None:
    """Nothing at 0 clicks, half the pants at 2 (1 per class), all but a row at 3 (1.5), all at 4 (2)."""
    zero, two = with_rows(13, 0, 0, 0, 0), with_rows(13, 13, 9, 0, 0)
    three, four = with_rows(13, 13, 9, 9, 9), LABELS
    result, predictor = run({0: zero, 2: two, 3: three, 4: four})
    photo = result.photos[0]
    assert photo.classes == 2
    assert photo.first_round == 2
    assert photo.score == 0.2  # of the one part that is seen without a click
    assert predictor.seen == [(0, False), (2, False), (3, True), (4, True)]
    at_zero = (5 / 10 + 0 + 5 / 20) / 3  # face 5 of 10, pants none, background 5 of 20
    at_two = (1 + 5 / 10 + 5 / 10) / 3
    at_three = (1 + 10 / 15 + 0) / 3
    assert photo.ious == pytest.approx([at_zero, at_two, at_three, 1])
    got = {budget: mean_iou(matrix) for budget, matrix in result.confusions.items()}
    assert got[0] == pytest.approx(at_zero)
    assert got[1.0] == pytest.approx(at_two)
    assert got[1.25] == pytest.approx(at_two)  # 2.5 clicks: Python rounds halves to even, 2
    assert got[1.5] == pytest.approx(at_three)
    assert got[1.75] == got[2.0] == got[5.0] == 1
    assert photo.reached == {0.75: 2.0, 0.80: 2.0, 0.85: 2.0, 0.90: 2.0}
    # Click 3 names the pants' last row and its IoU rises; click 4 names the background.
    assert [c.part for c in photo.clicks[2:]] == ["pants", "background"]
    assert [clicks for clicks, _ in result.changes] == [1.5, 2.0]
    assert [change for _, change in result.changes] == pytest.approx([10 / 15 - 5 / 10, 1])  # pants, background
    assert result.lowered() == 0


def test_presence_only_masks_absent_classes() -> None:
    said = with_rows(13, 2, 9, 6, 0)  # hair and coat are not there
    result, _ = run({0: said, 2: LABELS})
    expected = np.where(np.isin(said, (0, 9, 13)), said, 0)
    hit = [(expected == LABELS)[c == LABELS].sum() for c in (0, 9, 13)]
    union = [((expected == c) | (c == LABELS)).sum() for c in (0, 9, 13)]
    assert mean_iou(result.presence_only) == pytest.approx(np.mean(np.divide(hit, union)))


def test_a_hopeless_photo_ends_at_the_limit() -> None:
    result, _ = run({0: with_rows(0, 0, 0, 0, 0)}, max_clicks=3.0)
    photo = result.photos[0]
    assert len(photo.clicks) <= 6
    assert set(photo.reached.values()) == {None}
    metrics = summarise(result, Scripted({}), ProtocolConfig(max_clicks=3.0))  # type: ignore[arg-type]
    assert metrics["noc_per_image"]["0.85"] == {"mean": 3.0, "failures": 1}
    assert metrics["clicks_per_class_at_miou"]["0.85"] is None
    assert "never" in summary(metrics)


def test_a_click_that_harms_is_counted() -> None:
    worse = with_rows(13, 13, 0, 0, 0)
    result, _ = run({0: worse, 2: with_rows(13, 13, 9, 0, 0), 3: worse, 4: LABELS})
    assert np.array(result.changes) == pytest.approx(np.array([(1.5, -0.5), (2.0, 1.0)]))
    assert (result.lowered(), result.lowered(0.005), result.lowered(0.6), result.lowered(up_to=1.5)) == (0.5, 0.5, 0, 1)
    metrics = summarise(result, Scripted({}), ProtocolConfig())  # type: ignore[arg-type]
    assert metrics["share_of_clicks_that_lower_their_part_by_0.005"] == 0.5
    assert metrics["the_same_up_to_3_clicks_per_class"] == [0.5, 0.5]


def test_without_previous_round() -> None:
    _, predictor = run({0: with_rows(0, 0, 0, 0, 0), 4: LABELS}, previous=False)
    assert not any(shown for _, shown in predictor.seen)


@pytest.mark.parametrize("everyone", [False, True])
def test_a_click_means_one_person_or_everyone_as_asked(everyone: bool) -> None:
    nothing = np.zeros_like(LABELS)
    result, predictor = run({0: nothing, 2: with_rows(13, 13, 9, 0, 0)}, everyone=everyone, max_clicks=2.0)
    assert set(predictor.meant_everyone) == {everyone}
    metrics = summarise(result, predictor, ProtocolConfig(everyone=everyone))  # type: ignore[arg-type]
    assert metrics["protocol"]["people"] == ("everyone" if everyone else "one")


def test_other_classes_are_refused() -> None:
    data = OnePhoto()
    data.schema = CIHP
    with pytest.raises(ValueError, match=r"'cihp'.*'lip'"):
        evaluate(Scripted({}), data, ProtocolConfig())  # type: ignore[arg-type]


def test_the_real_predictor_gives_the_same_figures_on_every_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    parser = HumanParser(ParserConfig(width=32, area=64 * 48)).eval()
    labels = np.zeros((60, 45), np.uint8)
    labels[5:20, 10:30], labels[25:55, 8:36] = 13, 5
    config = ProtocolConfig(user="sloppy", max_clicks=3, seed=4)
    found = []
    for _ in range(2):
        predictor = Predictor(parser, version="random")
        result = evaluate(predictor, OnePhoto(labels), config, quiet=True)
        metrics = write_report(result, OnePhoto(labels), predictor, config, tmp_path, command="ihp evaluate")
        metrics.pop("seconds_per_click_median")
        found.append(metrics)
    assert found[0] == found[1]
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["miou_at_clicks_per_class"].keys() == {"0", "1", "1.5", "2", "3"}
    assert written["weights"] == "random"
    assert written["protocol"]["command"] == "ihp evaluate"
    rows = list(csv.DictReader((tmp_path / "per_class.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == list(LIP.names)
    assert rows[9]["2"] == ""  # no pants in the photo
    assert float(rows[13]["2"]) == pytest.approx(written["per_class_iou_at_2"]["face"], abs=1e-3)
    for picture in ("curve.png", "failures.png"):
        with Image.open(tmp_path / picture) as opened:
            assert min(opened.size) > 200


class ManyPhotos(OnePhoto):
    """Photos of as many kinds, so that one that is taken for another is seen."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Sample:
        sample = super().__getitem__(0)
        return replace(sample, name=f"photo {index}", labels=np.roll(sample.labels, 3 * index, axis=0))


def test_photos_at_the_same_time_are_measured_as_one_after_the_other(tmp_path: Path) -> None:
    torch.manual_seed(1)
    parser = HumanParser(ParserConfig(width=32, area=64 * 48)).eval()
    labels = np.zeros((60, 45), np.uint8)
    labels[5:20, 10:30], labels[25:55, 8:36] = 13, 5
    config, data = ProtocolConfig(user="sloppy", max_clicks=2), ManyPhotos(labels)
    cores = torch.get_num_threads()
    one, many = (evaluate(Predictor(parser), data, config, quiet=True, threads=count) for count in (1, 4))
    assert [photo.name for photo in many.photos] == [f"photo {number}" for number in range(5)]
    assert one.photos == many.photos
    assert (one.changes, one.guesses) == (many.changes, many.guesses)
    assert np.array_equal(one.presence_only, many.presence_only)
    assert one.confusions.keys() == many.confusions.keys()
    assert all(np.array_equal(one.confusions[budget], many.confusions[budget]) for budget in one.confusions)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == cores, "what comes after has all cores again"


def test_a_photo_that_cannot_be_read_ends_the_evaluation() -> None:
    class Broken(OnePhoto):
        def __getitem__(self, index: int) -> Sample:
            raise DataError("photo.jpg: it is cut short")

    with pytest.raises(DataError, match=r"photo\.jpg"):
        evaluate(Scripted({}), Broken(), ProtocolConfig(), quiet=True)  # type: ignore[arg-type]


def test_a_full_disk_leaves_the_earlier_report_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("metrics.json", "per_class.csv", "curve.png", "failures.png")
    for name in names:
        (tmp_path / name).write_text("earlier")
    result, predictor = run({0: with_rows(0, 0, 0, 0, 0), 2: LABELS}, max_clicks=2.0)
    monkeypatch.setattr("ihp_backend.evaluation.report.draw_failures", lambda *args: b"png")
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "failures.png":
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_report(result, OnePhoto(), predictor, ProtocolConfig(max_clicks=2.0), tmp_path)  # type: ignore[arg-type]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    assert {(tmp_path / name).read_text() for name in names} == {"earlier"}
