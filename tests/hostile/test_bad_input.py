"""Whatever comes, nested as deep as the parser takes it: a reason, no 5xx."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from backend import assert_click_works, json_of, make, make_known, set_up
from fakes import DiscModel, ImageHost, golden
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

DEEP = "[" * 100_000
MARK = "<deep>"


@pytest.fixture
def client(tmp_path: Path, image_host: ImageHost) -> FlaskClient:
    made, _ = make(tmp_path, DiscModel())
    make_known(tmp_path, golden("setup")["project"])
    assert set_up(made, image_host.url).status_code == 200
    return made


def places(value: Any) -> list[list[str | int]]:
    """The way to each value of a JSON document."""
    found: list[list[str | int]] = [[]]
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs)[:30]:
        found += [[key, *way] for way in places(inner)]
    return found


def with_value(document: Any, way: list[str | int], value: Any) -> Any:
    if not way:
        return value
    copy = document.copy()
    copy[way[0]] = with_value(copy[way[0]], way[1:], value)
    return copy


RECORDED = [
    ("/predict", "predict_click_with_draft"),
    ("/predict", "predict_task_opened"),
    ("/setup", "setup"),
    ("/webhook", "webhook_annotation_created"),
    ("/webhook", "webhook_annotations_deleted"),
]


@pytest.mark.parametrize(("route", "name"), RECORDED)
def test_depth_anywhere_is_refused_or_read(client: FlaskClient, route: str, name: str) -> None:
    document = golden(name)
    for way in places(document):
        for deep in (60, 500, 950, 990):
            nested = "[" * deep + "]" * deep if deep % 4 else '{"a":' * deep + "1" + "}" * deep
            text = json.dumps(with_value(document, way, MARK)).replace(json.dumps(MARK), nested)
            answer = client.post(route, data=text, content_type="application/json")
            assert answer.status_code in ((200, 400) if deep == 60 else (400,)), (way, deep, answer.text)
            assert answer.status_code == 200 or json_of(answer)["detail"]
    if route != "/setup":  # that took another address
        assert_click_works(client)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_any_value_anywhere_is_refused_or_read(client: FlaskClient, data: st.DataObject) -> None:
    route, name = data.draw(st.sampled_from(RECORDED))
    document = golden(name)
    value: object = data.draw(
        st.sampled_from([None, True, -1, 1e308, 10**400, "", "\ud800", "\0", "a" * 10_000, [], {}, [[]], [{}], [None]])
    )
    body = json.dumps(with_value(document, data.draw(st.sampled_from(places(document))), value))
    answer = client.post(route, data=body, content_type="application/json")
    assert answer.status_code in (200, 400), answer.text


@pytest.mark.parametrize("depth", [101, 900, 990, 1_000, 30_000])
@pytest.mark.parametrize("tag", ["View", "Label", "a"])
def test_a_label_config_is_not_nested_without_end(client: FlaskClient, depth: int, tag: str) -> None:
    schema = golden("setup")["schema"].replace("</View>", f"<{tag}>" * depth + f"</{tag}>" * depth + "</View>")
    for route, body in (
        ("/setup", golden("setup") | {"schema": schema}),
        ("/predict", golden("predict_click") | {"label_config": schema}),
    ):
        answer = client.post(route, json=body)
        assert answer.status_code == 400
        assert "nested more than 100 deep" in json_of(answer)["detail"]


@pytest.mark.parametrize("value", ["x" + "$a" + ".a" * 200_000, "$" + "[0]" * 200_000, "$a" * 100_000])
def test_a_value_of_an_image_is_short(client: FlaskClient, value: str) -> None:
    schema = re.sub(r'value="\$\w+"', lambda _: f'value="{value}"', golden("setup")["schema"], count=1)
    assert value in schema
    answer = client.post("/predict", json=golden("predict_click") | {"label_config": schema})
    assert json_of(answer)["results"][0]["result"] == []
