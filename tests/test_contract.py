"""The HTTP contract of docs/openapi.json, under requests that nobody would send: no 5xx, no hang, nothing unsaid."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from backend import make, make_known, set_up
from fakes import DiscModel, ImageHost, golden
from flask.testing import FlaskClient
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from werkzeug.test import TestResponse

CONTRACT = json.loads((Path(__file__).parents[1] / "docs/openapi.json").read_text())
GOLDEN = {
    "/predict": ["predict_click", "predict_click_n2_with_draft", "predict_task_opened"],
    "/setup": ["setup"],
    "/webhook": [path.stem for path in sorted((Path(__file__).parent / "golden").glob("webhook*.json"))],
}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**31, 2**63, -(2**63), 10**400, -(10**30)]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["", "\ud800", "\0", "../../etc/passwd", "1.1/../2", "$x", "<View/>", "é" * 300, "file:///etc/passwd"]
    ),
)
VALUES = st.recursive(
    ODD,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
SHORT = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
LONG = settings(max_examples=3_000, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    host = ImageHost()
    limits = {"IHP_MAX_IMAGE_PIXELS": "1000000", "IHP_FETCH_TIMEOUT_S": "2", "IHP_TRAIN_AFTER": "0"}
    folder = tmp_path_factory.mktemp("contract")
    made, _ = make(folder, DiscModel(), **limits)
    for name in GOLDEN["/predict"]:
        make_known(folder, golden(name)["project"])
        set_up(made, host.url, project=golden(name)["project"])
    yield made
    host.close()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All places of a JSON value, but not each number of a long list."""
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value[:12]):
            yield from places(inner, (*path, index))


@st.composite
def damaged(draw: st.DrawFn, route: str) -> Any:
    """A request that a real Label Studio sent, changed in one to four places."""
    body = golden(draw(st.sampled_from(GOLDEN[route])))
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(list(places(body))))
        value = draw(VALUES)
        if not path:
            return value
        inner = body
        for step in path[:-1]:
            inner = inner[step]
        if draw(st.integers(0, 4)) == 0:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        if not isinstance(body, dict) or not body:
            break
    return body


def check(answer: TestResponse, method: str, route: str, began: float) -> None:
    """The answer came in time, is one that the contract names, and looks as it says."""
    assert monotonic() - began < 10
    assert answer.status_code < 500, answer.text
    said = CONTRACT["paths"][route][method]["responses"]
    assert str(answer.status_code) in said, f"{method} {route} answered {answer.status_code}: {answer.text}"
    assert re.fullmatch(r"[\x20-\x7e]+", answer.status)
    ((kind, content),) = said[str(answer.status_code)]["content"].items()
    assert answer.mimetype == kind
    if kind == "application/json":
        found = json.loads(answer.text, parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
        Draft202012Validator(content["schema"] | {"components": CONTRACT["components"]}).validate(found)


def post(client: FlaskClient, route: str, body: Any) -> None:
    began = monotonic()
    text = json.dumps(body)  # with NaN and lone surrogates, as a careless client would send them
    check(client.post(route, data=text, content_type="application/json"), "post", route, began)


def test_every_route_is_described_and_there_is_no_other(client: FlaskClient) -> None:
    there = {
        (re.sub(r"<int:(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in client.application.url_map.iter_rules()
        for method in (rule.methods or set()) & {"GET", "POST", "PUT", "PATCH", "DELETE"}
        if rule.endpoint != "static"
    }
    assert there == {(route, method) for route, methods in CONTRACT["paths"].items() for method in methods}


def test_what_is_described_is_json_schema() -> None:
    for methods in CONTRACT["paths"].values():
        for operation in methods.values():
            for answer in operation["responses"].values():
                for content in answer["content"].values():
                    Draft202012Validator.check_schema(content["schema"] | {"components": CONTRACT["components"]})


@pytest.mark.parametrize("route", GOLDEN)
def test_recorded_requests_keep_the_contract(client: FlaskClient, route: str) -> None:
    for name in GOLDEN[route]:
        body = golden(name)
        schema = CONTRACT["paths"][route]["post"]["requestBody"]["content"]["application/json"]["schema"]
        Draft202012Validator(schema | {"components": CONTRACT["components"]}).validate(body)
        post(client, route, body)


@pytest.mark.parametrize("value", [5, "text", [1], [None], {"a": 1}, True, [[]]])
@pytest.mark.parametrize("name", ["annotations", "drafts", "predictions", "meta", "id"])
def test_a_task_s_lists_may_be_anything(client: FlaskClient, name: str, value: Any) -> None:
    body = golden("predict_click")
    body["tasks"][0][name] = value
    post(client, "/predict", body)


@pytest.mark.parametrize("route", GOLDEN)
def test_damaged_requests(client: FlaskClient, route: str) -> None:
    SHORT(given(body=damaged(route))(lambda body: post(client, route, body)))()


@pytest.mark.slow
@pytest.mark.parametrize("route", GOLDEN)
def test_thousands_of_damaged_requests(client: FlaskClient, route: str) -> None:
    LONG(given(body=damaged(route))(lambda body: post(client, route, body)))()


@SHORT
@given(route=st.sampled_from(list(GOLDEN)), data=st.binary(max_size=200))
def test_bytes_that_are_no_json(client: FlaskClient, route: str, data: bytes) -> None:
    began = monotonic()
    check(client.post(route, data=data, content_type="application/json"), "post", route, began)


@SHORT
@given(
    route=st.sampled_from(["/", "/health", "/live", "/metrics", "/versions", "/trainings"]), query=st.text(max_size=30)
)
def test_any_query(client: FlaskClient, route: str, query: str) -> None:
    assume(not any(0xD800 <= ord(letter) < 0xE000 for letter in query))
    began = monotonic()
    check(client.get(route, query_string={"project": query}), "get", route, began)


@SHORT
@given(
    name=st.sampled_from(["Authorization", "X-Request-ID", "Content-Type"]),
    value=st.text(st.characters(max_codepoint=255)),
)
def test_any_header(tmp_path_factory: pytest.TempPathFactory, client: FlaskClient, name: str, value: str) -> None:
    assume("\n" not in value and "\r" not in value)
    answer = client.post("/webhook", data=b"{}", headers={name: value})
    assert answer.status_code in (400, 415)
    assert re.fullmatch(r"[\w.-]{1,64}", answer.headers["X-Request-ID"])
