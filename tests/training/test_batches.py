"""Batches are a function of seed and step; their clicks, weights and accepted masks fit their labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from drawn import PARSER, Drawn

from ihp_backend.data.augment import ViewConfig
from ihp_backend.data.sample import DataError, Sample
from ihp_backend.parts import LIP
from ihp_backend.simulation.sampling import SamplingConfig
from ihp_backend.training.batches import Batches
from ihp_backend.training.processes import Processes


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


def batches_of(data: Drawn, processes: Processes | None = None) -> Batches:
    area = lambda step: 48 * 32  # noqa: E731
    return Batches(data, PARSER, SamplingConfig(), size=3, seed=1, area=area, processes=processes)


def test_workers_make_the_batches_that_a_thread_makes() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    by_thread = list(batches_of(Drawn()).run(2, 6))
    for workers in (1, 2):
        by_workers = list(batches_of(Drawn()).run(2, 6, workers=workers))
        assert len(by_workers) == len(by_thread) == 4
        for made, expected in zip(by_workers, by_thread, strict=True):
            assert torch.equal(made.images, expected.images)
            assert torch.equal(made.labels, expected.labels)
            assert torch.equal(made.accepted, expected.accepted)
            assert (made.points, made.error_rounds) == (expected.points, expected.error_rounds)
            assert made.rng.bit_generator.state == expected.rng.bit_generator.state
    assert torch.equal(torch.get_rng_state(), before), "the network's randomness is its own"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_cannot_be_read_is_named_by_whoever_reads_it(workers: int) -> None:
    class Damaged(Drawn):
        def __getitem__(self, index: int) -> Sample:
            raise DataError("sample 'b': photo.jpg is not a readable image")

    with pytest.raises(DataError, match=r"^sample 'b': photo.jpg is not a readable image$"):
        list(batches_of(Damaged()).run(0, 2, workers=workers))


def test_processes_share_a_batch_and_see_photos_of_one_size() -> None:
    whole = batches_of(Drawn())
    shares = [batches_of(Drawn(), Processes(rank, 2)) for rank in range(2)]
    for step in range(6):
        assert [i for share in shares for i in share.indices(step)] == whole.indices(step)
        first, second = (share.make(step) for share in shares)
        assert first.images.shape[2:] == second.images.shape[2:] == whole.make(step).images.shape[2:]
        assert (len(first.names), len(second.names)) == (1, 2)
        assert first.error_rounds == second.error_rounds
        assert first.rng.bit_generator.state != second.rng.bit_generator.state
    assert len({share.make(step).error_rounds for step in range(6) for share in shares}) > 1


def test_a_batch_has_a_photo_for_each_process() -> None:
    with pytest.raises(ValueError, match="batch is 3; expected at least a photo for each of 4 processes"):
        batches_of(Drawn(), Processes(0, 4))


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


class Two(Drawn):
    """In one photo a coat, in the other pants: whoever has a label is told by it."""

    names: Sequence[str] = ("coat", "pants")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        labels = np.zeros((96, 64), np.uint8)
        labels[16:80, 16:48] = (7, 9)[index]
        return Sample(self.names[index], np.zeros((96, 64, 3), np.uint8), labels)


def test_a_click_that_means_everyone_leaves_both_people_labelled() -> None:
    sampling = SamplingConfig(drop_all=0.3, some_parts=0.9, open_classes=0)
    batches = Batches(
        Two(),
        PARSER,
        sampling,
        size=4,
        seed=1,
        area=lambda step: 96 * 64,
        neighbours=1.0,
        everyone=1.0,
        views=ViewConfig(detail=0),
    )
    clicked_one = 0
    for batch in (batches.make(step) for step in range(12)):
        for labels, points, accepted, no_clicks_allowed, everyone in zip(
            batch.labels.numpy(),
            batch.points,
            batch.accepted.numpy(),
            batch.no_clicks_allowed,
            batch.everyone,
            strict=True,
        ):
            parts = {int(i) for i in np.unique(labels)} & {7, 9}
            prompted = {p.channel for p in points} | set(np.flatnonzero(accepted.any((1, 2))))
            assert everyone is bool(prompted)
            assert no_clicks_allowed is not everyone
            clicked_one += len(parts) == 2 and len(prompted - {0}) == 1
    assert clicked_one  # somebody's parts stay though only the other one has a click


def test_with_somebody_beside_the_clicked_are_meant() -> None:
    """Without a click both people are labelled and nothing may be clicked later; with clicks, those who have one."""

    sampling = SamplingConfig(drop_all=0.5, some_parts=0, open_classes=0)
    batches = Batches(
        Two(), PARSER, sampling, size=4, seed=1, area=lambda step: 96 * 64, neighbours=1.0, views=ViewConfig(detail=0)
    )
    seen = set()
    for batch in (batches.make(step) for step in range(12)):
        for labels, points, accepted, no_clicks_allowed in zip(
            batch.labels.numpy(), batch.points, batch.accepted.numpy(), batch.no_clicks_allowed, strict=True
        ):
            parts = {int(i) for i in np.unique(labels)} & {7, 9}
            meant = ({p.channel for p in points} | set(np.flatnonzero(accepted.any((1, 2))))) - {0}
            assert no_clicks_allowed is (not meant)
            if meant:
                assert parts == meant
            seen.add((no_clicks_allowed, len(parts)))
    assert seen == {(True, 1), (True, 2), (False, 1), (False, 2)}  # two of the same photo have one part
