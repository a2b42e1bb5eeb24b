"""Small regions go, parts stay, clicks stay."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ihp_backend.inference.people import close_gaps
from ihp_backend.inference.postprocess.remove_small_regions import remove_small_regions
from ihp_backend.network.click_maps import Point


def logits_of(best: NDArray[np.int64], channels: int = 4, second: int = 0) -> NDArray[np.float32]:
    logits = np.zeros((channels, *best.shape), np.float32)
    np.put_along_axis(logits, best[None], 5, axis=0)
    logits[second] += 1
    return logits


def drawn() -> NDArray[np.int64]:
    best = np.zeros((40, 50), np.int64)
    best[5:25, 5:25] = 1  # a part
    best[30:35, 30:40] = 1  # an eighth of it: stays
    best[2:4, 45:48] = 1  # a small region
    best[10:12, 10:12] = 2  # a small region of another part, inside the first
    return best


def test_small_regions_become_the_runner_up() -> None:
    best = drawn()
    predicted = remove_small_regions(logits_of(best), []).argmax(0)
    assert (predicted[2:4, 45:48] == 0).all()
    assert not (predicted == 2).any()
    kept = (best == 1).copy()
    kept[2:4, 45:48] = False
    assert np.array_equal(predicted == 1, kept)


def test_a_clicked_small_region_stays() -> None:
    clicks = [Point(2 * 46, 2 * 3, 1), Point(2 * 10 + 1, 2 * 10 + 1, 2)]
    predicted = remove_small_regions(logits_of(drawn()), [*clicks, Point(2 * 35, 2 * 32, 1)]).argmax(0)
    assert np.array_equal(predicted, drawn())


def test_a_negative_click_keeps_nothing() -> None:
    predicted = remove_small_regions(logits_of(drawn()), [Point(2 * 46, 2 * 3, 1, is_positive=False)]).argmax(0)
    assert (predicted[2:4, 45:48] == 0).all()


def test_the_rest_is_untouched() -> None:
    logits = logits_of(drawn())
    after = remove_small_regions(logits.copy(), [])
    same = (after == logits).all(0)
    assert np.array_equal(~same, np.isin(drawn(), (1, 2)) & ~(after.argmax(0) == drawn()))


def test_of_a_clicked_part_only_sure_islands_stay() -> None:
    best = np.full((40, 50), 3)
    best[5:20, 5:20] = best[5:20, 30:45] = best[25:38, 5:20] = 1
    logits = logits_of(best, second=3)
    logits[1, 25:38, 5:20] = 1.5  # 0.5 above the runner-up: about half sure
    predicted = remove_small_regions(logits.copy(), [Point(20, 20, 1)]).argmax(0)
    assert (predicted[5:20, 5:20] == 1).all()
    assert (predicted[5:20, 30:45] == 1).all()
    assert not (predicted[25:38, 5:20] == 1).any()
    assert (remove_small_regions(logits.copy(), []).argmax(0) == best).all()
    assert (remove_small_regions(logits.copy(), [Point(20, 20, 1), Point(20, 60, 1)]).argmax(0) == best).all()


def test_a_click_means_one_person() -> None:
    best = np.zeros((60, 80), np.int64)
    for left in (5, 50):  # two people: part 1 on top of part 2
        best[5:20, left : left + 20] = 1
        best[20:50, left : left + 20] = 2
    predicted = remove_small_regions(logits_of(best), [Point(2 * 10, 2 * 10, 1)]).argmax(0)
    assert (predicted[5:20, 5:25] == 1).all()
    assert (predicted[5:20, 50:70] == 0).all()
    assert (predicted[20:50] == best[20:50]).all()  # what is not clicked stays
    both = remove_small_regions(logits_of(best), [Point(2 * 10, 2 * 10, 1), Point(2 * 60, 2 * 10, 1)]).argmax(0)
    assert np.array_equal(both, best)


def test_a_click_means_one_person_of_two_who_touch() -> None:
    best = np.zeros((60, 80), np.int64)
    best[5:20, 5:75] = 1
    best[20:50, 5:75] = 2
    heads = [(2 * 20, 2 * 6), (2 * 60, 2 * 6)]
    click = Point(2 * 10, 2 * 10, 1)
    predicted = remove_small_regions(logits_of(best), [click], heads).argmax(0)
    assert (predicted[5:20, 5:40] == 1).all()
    assert (predicted[5:20, 41:75] == 0).all()
    assert (predicted[20:50] == best[20:50]).all()
    for points, told in (([click, Point(2 * 60, 2 * 30, 2)], heads), ([click], heads[:1]), ([], heads)):
        assert np.array_equal(remove_small_regions(logits_of(best), points, told).argmax(0), best), (
            "both are meant, or one is there"
        )
    assert np.array_equal(remove_small_regions(logits_of(best), [click], heads, one_person=False).argmax(0), best)


@given(
    st.tuples(st.integers(8, 200), st.integers(8, 200)),
    st.lists(st.tuples(*[st.integers(0, 199)] * 4), min_size=1, max_size=4),
)
def test_what_is_seen_belongs_to_a_person(shape: tuple[int, int], blocks: list[tuple[int, int, int, int]]) -> None:
    seen = np.zeros(shape, bool)
    for top, left, height, width in blocks:
        seen[top : top + height + 1, left : left + width + 1] = True
    assert close_gaps(seen)[seen].all()


def test_a_clicked_background_stays_between_the_legs() -> None:
    best = np.zeros((60, 80), np.int64)
    best[5:55, 20:60] = 1
    best[30:55, 39:41] = 0  # narrow enough to be closed when people are looked for
    logits = logits_of(best, second=1)
    logits[0, 30:55, 39:41] = logits[1, 30:55, 39:41] + 0.2
    predicted = remove_small_regions(logits, [Point(5, 5, 0), Point(60, 20, 1)]).argmax(0)
    assert np.array_equal(predicted, best)


def test_who_takes_over_from_a_small_region_makes_no_new_one() -> None:
    best = np.full((40, 50), 3)
    best[5:20, 5:20] = 1
    best[30:32, 40:42] = 2  # a small region, of which the clicked part 1 is the runner-up
    logits = logits_of(best, second=3)
    logits[1, 30:32, 40:42] = 3
    predicted = remove_small_regions(logits, [Point(20, 20, 1)]).argmax(0)
    assert (predicted[30:32, 40:42] == 3).all()
    assert (predicted[5:20, 5:20] == 1).all()
