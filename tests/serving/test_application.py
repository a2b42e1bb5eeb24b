from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from backend import (
    CLICKS,
    assert_click_works,
    closed_port,
    json_of,
    make,
    make_recorded,
    set_up,
    with_image,
)
from fakes import DiscModel, ImageHost, golden
from flask.testing import FlaskClient
from label_studio_sdk.converter.brush import decode_rle
from versions import add
from waiting import eventually

from ihp_backend.logs import configure
from ihp_backend.serving.application import create_app
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings


@pytest.fixture
def model() -> DiscModel:
    return DiscModel()


@pytest.fixture
def client(tmp_path: Path, model: DiscModel, image_host: ImageHost, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setattr("ihp_backend.learning.triggers.WAIT_S", 10.0)  # the webhook tells what comes of an event
    return make_recorded(tmp_path, model, image_host)


def click(**changes: Any) -> dict[str, Any]:
    """The recorded click, with its keypoint's `value` changed."""
    body: dict[str, Any] = golden("predict_click")
    body["params"]["context"]["result"][0]["value"].update(changes)
    return body


@pytest.mark.parametrize("name", CLICKS)
def test_a_recorded_click_is_answered_with_the_region_of_its_label(client: FlaskClient, name: str) -> None:
    body = golden(name)
    (clicked,) = {label for k in body["params"]["context"]["result"] for label in k["value"]["keypointlabels"]}
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200
    (item,) = json_of(answer)["results"]
    (region,) = item["result"]
    assert region["type"] == "brushlabels"
    assert (region["from_name"], region["to_name"]) == ("brush", "img")
    assert (region["original_width"], region["original_height"]) == (640, 480)
    assert region["value"]["brushlabels"] == [clicked]
    assert item["score"] == pytest.approx(0.75)
    assert item["model_version"] == json_of(answer)["model_version"] == "discs-1"
    alpha = decode_rle(region["value"]["rle"]).reshape(480, 640, 4)[..., 3]
    for keypoint in body["params"]["context"]["result"]:
        if keypoint["is_positive"]:
            value = keypoint["value"]
            assert alpha[int(value["y"] * 4.8), int(value["x"] * 6.4)] == 255


def test_an_opened_task_is_parsed_and_its_image_kept(client: FlaskClient, image_host: ImageHost) -> None:
    for _ in range(2):  # Label Studio asks twice
        answer = client.post("/predict", json=golden("predict_task_opened"))
        (item,) = json_of(answer)["results"]
        assert [region["value"]["brushlabels"] for region in item["result"]] == [["Building"], ["Road"]]
        assert all(0 <= region["score"] <= 1 for region in item["result"])
    assert_click_works(client)
    assert len([path for path in image_host.requests if path.startswith("/data/")]) == 1


def test_what_the_draft_holds_reaches_the_model(client: FlaskClient, model: DiscModel) -> None:
    client.post("/predict", json=golden("predict_click_with_draft"))
    assert [(c.part, c.is_positive) for c in model.calls[-1]["clicks"]] == [
        ("Building", True),
        ("Road", True),
    ], "the newest last"
    client.post("/predict", json=golden("predict_click_n2_with_draft"))
    last = model.calls[-1]
    assert len(last["clicks"]) == 2, "the context's keypoints, which the draft has too, counted once"
    assert list(last["masks"]) == ["Building"]
    assert last["masks"]["Building"].any()


@pytest.mark.parametrize("smart_only", [True, False])
def test_points_that_a_reload_left_behind_go_and_are_no_clicks(
    client: FlaskClient, model: DiscModel, smart_only: bool
) -> None:
    """After a reload Label Studio saves points without ``is_positive``, and does not take them away with a mask."""
    body = golden("predict_click_with_draft")
    if smart_only:
        body["label_config"] = body["label_config"].replace("<KeyPointLabels ", '<KeyPointLabels smartOnly="true" ')
    (clicked,) = body["params"]["context"]["result"]
    (draft,) = body["tasks"][0]["drafts"]
    (other,) = (r for r in draft["result"] if r["type"] == "keypointlabels" and r["id"] != clicked["id"])
    del other["is_positive"]
    same = clicked | {"id": "same-label"}  # the context would have it if it were open
    painted = clicked | {"id": "accepted", "value": clicked["value"] | {"rle": [0], "format": "rle"}}
    another = other | {"id": "on-page-2", "item_index": 1}
    draft["result"] += [same, painted, another, other | {"id": "not-ours", "from_name": "landmarks"}]
    (item,) = json_of(client.post("/predict", json=body))["results"]
    first, *removed = item["result"]
    assert first["value"]["brushlabels"] == clicked["value"]["keypointlabels"]
    assert {r["id"] for r in removed} == ({other["id"], "same-label"} if smart_only else set())
    for region in removed:
        assert region["dynamic"], "Label Studio deletes what is dynamic when suggestions are accepted"
        assert not decode_rle(region["value"]["rle"]).any()
    assert [c.part for c in model.calls[-1]["clicks"]] == clicked["value"]["keypointlabels"], "Alt may have been held"


BAD_REQUESTS: dict[str, Any] = {
    "broken JSON": '{"tasks": [',
    "not UTF-8": b'{"tasks": "\xff"}',
    "deeply nested": "[" * 100_000,
    "not an object": "[1, 2]",
    "a huge number": '{"tasks": ' + "9" * 5000 + "}",
    "no tasks": json.dumps(golden("predict_click") | {"tasks": None}),
    "empty tasks": json.dumps(golden("predict_click") | {"tasks": []}),
    "task without data": json.dumps(golden("predict_click") | {"tasks": [{"id": 1}]}),
    "task is a number": json.dumps(golden("predict_click") | {"tasks": [3]}),
    "no label config": json.dumps({k: v for k, v in golden("predict_click").items() if k != "label_config"}),
    "label config without controls": json.dumps(golden("predict_click") | {"label_config": "<View/>"}),
    "label config is not XML": json.dumps(golden("predict_click") | {"label_config": "<View"}),
    "label config with an encoding": json.dumps(
        golden("predict_click")
        | {"label_config": '<?xml version="1.0" encoding="utf-8"?>' + golden("predict_click")["label_config"]}
    ),
    "project is a list": json.dumps(golden("predict_click") | {"project": [1]}),
    "project climbs folders": json.dumps(golden("predict_click") | {"project": "../../etc/passwd"}),
    "params is a list": json.dumps(golden("predict_click") | {"params": [1]}),
    "context without result": json.dumps(golden("predict_click") | {"params": {"context": {"results": []}}}),
    "context of numbers": json.dumps(golden("predict_click") | {"params": {"context": {"result": [1]}}}),
    "unknown label": json.dumps(click(keypointlabels=["Tentacle"])),
    "two words for a label": json.dumps(click(keypointlabels="Building")),
    "click right of the image": json.dumps(click(x=130)),
    "click above the image": json.dumps(click(y=-4)),
    "click at NaN": json.dumps(click(x=float("nan"))),
    "click at infinity": json.dumps(click(y=float("inf"))),
    "click at a number of 400 digits": json.dumps(click(x=10**400)),
    "click at a word": json.dumps(click(x="left")),
    "click nowhere": json.dumps(click(x=None)),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_malformed_request_gets_a_reason_and_the_next_one_works(client: FlaskClient, case: str) -> None:
    answer = client.post("/predict", data=BAD_REQUESTS[case], content_type="application/json")
    assert answer.status_code == 400
    assert json_of(answer)["error"]
    assert len(json_of(answer)["detail"]) > 20
    # Label Studio shows the status line, and nothing of the body.
    assert answer.status.isascii()
    assert json_of(answer)["detail"].splitlines()[0][:20].encode("ascii", "replace").decode() in answer.status
    assert_click_works(client)


def test_an_error_names_the_unknown_label_and_the_known_ones(client: FlaskClient) -> None:
    detail = json_of(client.post("/predict", json=click(keypointlabels=["Tentacle"])))["detail"]
    assert "Tentacle" in detail
    assert "Building" in detail


@pytest.mark.parametrize(
    ("case", "url"),
    {
        "missing": "/data/upload/1/nothing.png",
        "truncated": "/data/upload/1/truncated.png",
        "not an image": "/data/upload/1/text.png",
        "more pixels than allowed": "/data/upload/1/large.png",
        "unreachable host": f"http://127.0.0.1:{closed_port()}/photo.png",
        "unknown scheme": "ftp://127.0.0.1/photo.png",
        "data URL of nothing": "data:image/png;base64,AAAA",
        "no address": "",
        "climbs folders": "/data/local-files/?d=../../../../etc/passwd",
        "half a character": "/data/upload/1/\ud800.png",
        "half a character in a data URL": "data:image/png;base64,\ud800",
    }.items(),
)
@pytest.mark.parametrize("opened", [False, True])
def test_an_image_that_cannot_be_had_leaves_the_page_alone(
    client: FlaskClient, caplog: pytest.LogCaptureFixture, case: str, url: str, opened: bool
) -> None:
    body = with_image(url)
    if opened:
        body["params"]["context"] = None
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200
    (item,) = json_of(answer)["results"]
    why = item.pop("error")
    assert item == {"result": [], "score": 0.0, "model_version": "discs-1"}
    (warning,) = [r for r in caplog.records if r.levelno == logging.WARNING and "task skipped" in r.getMessage()]
    assert warning.getMessage() == f"task skipped: {why}"
    assert len(why) > 25
    assert_click_works(client)


def test_a_task_without_the_image_field_is_skipped_alone(client: FlaskClient) -> None:
    body = golden("predict_task_opened")
    body["tasks"] = [{"id": 8, "data": {"text": "hello"}}, body["tasks"][0]]
    first, second = json_of(client.post("/predict", json=body))["results"]
    assert first["result"] == []
    assert second["result"]


def test_a_project_is_answered_by_its_own_version(tmp_path: Path, image_host: ImageHost) -> None:
    project, other = golden("predict_click")["project"], golden("predict_click_n2")["project"]
    settings = Settings.from_environment({"IHP_DATA_DIR": str(tmp_path), "IHP_ALLOW_PRIVATE_ADDRESSES": "true"})
    runtime = Runtime(settings, DiscModel, load_version=lambda folder: DiscModel(folder.name))
    client = create_app(runtime=runtime).test_client()

    def said(name: str = "predict_click") -> str:
        body = golden(name)
        told = set_up(client, image_host.url, project=body["project"]).json["model_version"]
        (item,) = json_of(client.post("/predict", json=body))["results"]
        assert item["result"]
        assert item["model_version"] == told
        assert told == json_of(client.get("/versions", query_string={"project": body["project"]}))["current"]
        return str(told)

    assert runtime.predictor().version == "discs-1"
    assert said() == "discs-1"
    first = add(runtime.registry, project)
    eventually(lambda: runtime.predictor(project).version == first)
    assert said() == first
    assert said("predict_click_n2") == "discs-1", "another project"
    mine = json_of(client.get("/versions", query_string={"project": project}))
    assert {"discs-1", first} <= set(mine["versions"])
    assert (mine["current"], mine["serving"]["lip"]) == (first, first)
    assert mine["schemas"][first] == "lip"
    of_all = json_of(client.get("/versions"))
    assert first not in of_all["versions"]
    assert (of_all["current"], of_all["serving"]["lip"]) == ("discs-1", "discs-1")
    runtime.registry.rollback(project)
    eventually(lambda: runtime.predictor(project).version == "discs-1")
    assert said() == "discs-1"
    assert client.get("/versions?project=../x").status_code == 400
    assert other not in runtime.registry.projects()


def test_a_web_page_cannot_post_here_from_its_visitors_browser(client: FlaskClient) -> None:
    for route, name in (("/setup", "setup"), ("/predict", "predict_click"), ("/webhook", "webhook_start_training")):
        for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
            answer = client.post(route, data=json.dumps(golden(name)), content_type=content_type)
            assert answer.status_code == 415
            assert "application/json" in json_of(answer)["detail"]


def test_a_full_queue_answers_503_and_recovers(tmp_path: Path, image_host: ImageHost) -> None:
    entered, go_on = Event(), Event()

    class SlowModel(DiscModel):
        def answer(self, *args: Any, **kwargs: Any) -> Any:
            entered.set()
            go_on.wait(10)
            return super().answer(*args, **kwargs)

    client, runtime = make(tmp_path, SlowModel(), IHP_QUEUE_LIMIT="1")
    set_up(client, image_host.url)
    thread = Thread(target=assert_click_works, args=(client.application.test_client(),))
    thread.start()
    assert entered.wait(10)
    refused = client.post("/predict", json=golden("predict_click"))
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert client.get("/health").status_code == 200
    go_on.set()
    thread.join()
    assert_click_works(client)
    assert b"ihp_predict_refused_total 1.0" in runtime.metrics.render()


def test_errors_of_any_kind_are_json(tmp_path: Path) -> None:
    client, _ = make(tmp_path, IHP_MAX_BODY_MB="1")
    for answer, status in (
        (client.get("/nothing"), 404),
        (client.get("/predict"), 405),
        (client.post("/predict", data=b" " * 2**21, content_type="application/json"), 413),
    ):
        assert answer.status_code == status
        assert set(json_of(answer)) >= {"error", "detail", "request_id"}


def test_an_unexpected_error_is_a_500_with_an_id_and_the_next_request_works(
    tmp_path: Path, image_host: ImageHost, caplog: pytest.LogCaptureFixture
) -> None:
    class BrokenOnce(DiscModel):
        def answer(self, *args: Any, **kwargs: Any) -> Any:
            if not self.calls:
                self.calls.append({})
                raise RuntimeError("out of memory")
            return super().answer(*args, **kwargs)

    client, _ = make(tmp_path, BrokenOnce())
    set_up(client, image_host.url)
    answer = client.post("/predict", json=golden("predict_click"), headers={"X-Request-ID": "click-7"})
    assert answer.status_code == 500
    assert json_of(answer)["request_id"] == answer.headers["X-Request-ID"] == "click-7"
    assert "out of memory" not in answer.text
    assert "out of memory" in caplog.text
    assert_click_works(client)


def test_a_request_id_cannot_forge_log_lines(client: FlaskClient) -> None:
    answer = client.get("/health", headers={"X-Request-ID": "x forged=1"})
    assert answer.headers["X-Request-ID"] != "x forged=1"


def test_scores_that_are_not_numbers_never_leave(tmp_path: Path, image_host: ImageHost) -> None:
    class NanModel(DiscModel):
        def answer(self, *args: Any, **kwargs: Any) -> Any:
            prediction = super().answer(*args, **kwargs)
            return replace(prediction, scores=dict.fromkeys(prediction.scores, float("nan")))

    client, _ = make(tmp_path, NanModel())
    set_up(client, image_host.url)
    answer = client.post("/predict", json=golden("predict_click"))
    assert answer.status_code == 500
    assert "NaN" not in answer.text


def test_stages_and_routes_are_timed(client: FlaskClient) -> None:
    assert_click_works(client)
    text = client.get("/metrics").text
    for stage in ("fetch", "read", "predict", "encode"):
        assert f'ihp_stage_seconds_count{{stage="{stage}"}} 1.0' in text
    assert 'ihp_request_seconds_count{route="/predict",status="200"} 1.0' in text


def test_caches_and_the_queue_are_counted(tmp_path: Path, image_host: ImageHost) -> None:
    asked_meanwhile: list[str] = []

    class LookingModel(DiscModel):
        def answer(self, *args: Any, **kwargs: Any) -> Any:
            asked_meanwhile.append(runtime.metrics.render().decode())
            return super().answer(*args, **kwargs)

    client, runtime = make(tmp_path, LookingModel())
    set_up(client, image_host.url)
    for _ in range(3):
        assert_click_works(client)
    text = client.get("/metrics").text
    assert 'ihp_cache_misses_total{cache="images"} 1.0' in text
    assert 'ihp_cache_hits_total{cache="images"} 2.0' in text
    assert f'ihp_cache_bytes{{cache="images"}} {float(640 * 480 * 3)}' in text
    assert "ihp_predict_in_flight 0.0" in text
    assert all("ihp_predict_in_flight 1.0" in meanwhile for meanwhile in asked_meanwhile)
    assert 'ihp_model_loaded{version="discs-1"} 1.0' in text


def test_every_line_of_a_request_has_its_id(
    tmp_path: Path, image_host: ImageHost, capsys: pytest.CaptureFixture[str]
) -> None:
    client, _ = make(tmp_path)
    set_up(client, image_host.url)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        configure("INFO")
        client.post("/predict", json=with_image("/data/nothing.png"), headers={"X-Request-ID": "click-9"})
    finally:
        root.handlers[:], root.level = before
    lines = capsys.readouterr().err.splitlines()
    assert any("task skipped" in line for line in lines)
    assert any("answered" in line and "status=200" in line for line in lines)
    assert all("request=click-9" in line for line in lines if ".application" in line or "sdk_adapter" in line)


def test_a_request_that_is_too_large_names_the_limit(tmp_path: Path) -> None:
    client, _ = make(tmp_path, IHP_MAX_BODY_MB="1")
    answer = client.post("/predict", data=b" " * 1_100_000, content_type="application/json")
    assert answer.status_code == 413
    assert "IHP_MAX_BODY_MB" in json_of(answer)["detail"]
