from __future__ import annotations

import random
from pathlib import Path

import pytest

from ihp_backend.data.split import Split


def sides(split: Split, numbers: list[int]) -> dict[int, bool]:
    train, held_back = split.divide(numbers)
    assert sorted(train + held_back) == sorted(numbers)
    assert not set(train) & set(held_back)
    return {number: number in held_back for number in numbers}


def test_about_one_in_five_is_held_back(tmp_path: Path) -> None:
    found = sides(Split("1.1", tmp_path / "split.json"), list(range(2000)))
    assert 340 < sum(found.values()) < 460


@pytest.mark.parametrize("seed", range(30))
def test_no_photo_ever_changes_side_and_both_sides_have_one(tmp_path: Path, seed: int) -> None:
    numbers = random.Random(seed).sample(range(10_000), 40)
    path = tmp_path / "split.json"
    known: dict[int, bool] = {}
    for count in (2, 3, 4, 5, 8, 13, 40):
        found = sides(Split("1.1", path), numbers[:count])
        assert 0 < sum(found.values()) < count
        assert {number: found[number] for number in known} == known
        known = found


@pytest.mark.parametrize("seed", range(10))
def test_no_photo_takes_the_place_of_one_that_is_gone_but_a_new_one(tmp_path: Path, seed: int) -> None:
    numbers = random.Random(seed).sample(range(10_000), 6)
    split = Split("1.1", tmp_path / "split.json")
    train, held_back = split.divide(numbers)
    assert split.divide(train) == (train, [])
    assert split.divide(held_back * 2)[0] == [], "nor is what was measured trained on"
    found = sides(split, [*train, 10_001, 10_002])
    assert [n for n in train if found[n]] == []
    assert found[10_001] or found[10_002]
    assert split.divide(numbers) == (train, held_back)


def test_the_order_and_the_process_do_not_matter(tmp_path: Path) -> None:
    one, other = Split("1.1", tmp_path / "a"), Split("1.1", tmp_path / "b")
    for count in (2, 5, 50):
        assert sides(one, list(range(count))) == sides(other, list(reversed(range(count))))


def test_projects_are_divided_differently(tmp_path: Path) -> None:
    found = [sides(Split(name, tmp_path / name), list(range(100))) for name in ("1.1", "2.1")]
    assert found[0] != found[1]


def test_one_photo_cannot_be_divided(tmp_path: Path) -> None:
    for number in range(20):
        assert Split("1.1", tmp_path / "split.json").divide([number]) == ([number], [])
    assert Split("1.1", tmp_path / "split.json").divide([]) == ([], [])
    assert not (tmp_path / "split.json").exists()


def test_a_damaged_file_of_exceptions_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text("{")
    assert sum(sides(Split("1.1", tmp_path / "split.json"), [1, 2]).values()) == 1
