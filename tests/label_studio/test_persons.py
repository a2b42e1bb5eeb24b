from __future__ import annotations

from typing import Any

import pytest

from ihp_backend.label_studio.persons import of_person, person_of


@pytest.mark.parametrize(
    ("meta", "person"),
    [
        ({"ihp": {"person": 3}}, 3),
        ({"text": "person 2"}, 2),
        ({"text": ["nice", "Person 2"], "ihp": {"person": 3}}, 2),
        ({"text": " 7 "}, 7),
        ({"text": "person 0"}, None),
        ({"text": "2 people"}, None),
        ({"text": "person 999"}, None),
        ({"ihp": {"person": 0}}, None),
        ({"ihp": {"person": 255}}, None),
        ({"ihp": {"person": True}}, None),
        ({"ihp": {"person": 10**400}}, None),
        ({"ihp": {"person": "1"}}, None),
        ({"ihp": []}, None),
        ({"text": [None, 4]}, None),
        ([], None),
        (None, None),
    ],
)
def test_whose_a_region_is(meta: Any, person: int | None) -> None:
    assert person_of({"meta": meta}) == person


def test_the_rest_of_a_regions_meta_stays() -> None:
    region = {"id": "a", "meta": {"text": ["dirty"], "ihp": {"clicks": [1]}}}
    assert of_person(region, 4)["meta"] == {"text": ["dirty"], "ihp": {"clicks": [1], "person": 4}}
    assert region["meta"] == {"text": ["dirty"], "ihp": {"clicks": [1]}}
    assert person_of(of_person({"id": "b"}, 4)) == 4
