from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from threading import Event, Thread
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fakes import TOKEN, DiscModel, ImageHost, golden
from label_studio_ml.model import LabelStudioMLBase
from label_studio_sdk.converter.brush import encode_rle

from ihp_backend.label_studio.connections import Connection
from ihp_backend.label_studio.label_config import LabelConfigError
from ihp_backend.label_studio.regions import RequestError
from ihp_backend.label_studio.rle import decode_mask
from ihp_backend.serving import sdk_adapter as backend
from ihp_backend.serving.runtime import Runtime
from ihp_backend.serving.sdk_adapter import InteractiveHumanParsing
from ihp_backend.settings import Settings

CLICK = golden("predict_click")
CONTEXT = CLICK["params"]["context"]


@pytest.fixture
def disc_model() -> DiscModel:
    return DiscModel()


@pytest.fixture
def runtime(tmp_path: Path, disc_model: DiscModel, image_host: ImageHost) -> Runtime:
    settings = Settings.from_environment({"IHP_DATA_DIR": str(tmp_path), "IHP_ALLOW_PRIVATE_ADDRESSES": "true"})
    runtime = Runtime(settings, lambda: disc_model)
    runtime.connections.remember(CLICK["project"], Connection(image_host.url, TOKEN, confirmed=True))
    return runtime


@pytest.fixture
def parser(runtime: Runtime) -> InteractiveHumanParsing:
    return InteractiveHumanParsing(project_id=CLICK["project"], label_config=CLICK["label_config"], runtime=runtime)


def region(label: str, columns: slice, identifier: str) -> dict[str, Any]:
    """A brush region of the recorded photo's size, encoded by the SDK."""
    rgba = np.zeros((480, 640, 4), np.uint8)
    rgba[:, columns] = 255
    return {
        "id": identifier,
        "type": "brushlabels",
        "from_name": "brush",
        "to_name": "img",
        "original_width": 640,
        "original_height": 480,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": encode_rle(rgba.ravel()), "brushlabels": [label]},
    }


def keypoint(label: str, identifier: str = "k1", **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {**CONTEXT["result"][0], "id": identifier, **changes}
    made["value"] = {**made["value"], "keypointlabels": [label]}
    return made


def drafted(*results: dict[str, Any]) -> dict[str, Any]:
    return {
        **CLICK["tasks"][0],
        "drafts": [{"id": 1, "result": list(results), "created_at": "2026-11-23T00:33:59Z"}],
    }


def test_the_packaged_sdk_is_the_base(parser: InteractiveHumanParsing) -> None:
    assert version("label-studio-ml") == "1.0.9"
    assert isinstance(parser, LabelStudioMLBase)
    assert parser.parsed_label_config["brush"]["labels"] == ["Building", "Road"]


def test_it_answers_in_the_calling_style_of_1_0_9(runtime: Runtime, image_host: ImageHost) -> None:
    parser = InteractiveHumanParsing(
        label_config=CLICK["label_config"],
        train_output=None,
        hostname=image_host.url,
        access_token=TOKEN,
        runtime=runtime,
    )
    (item,) = parser.predict(CLICK["tasks"], **CLICK["params"])
    assert item["result"][0]["value"]["brushlabels"] == ["Building"]
    event = golden("webhook_annotation_created")
    done = parser.fit((), event=event["action"], data=event, job_id="1", workdir="/nowhere")
    assert done["action"] == "ANNOTATION_CREATED"
    assert done["status"] in ("counted", "accepted")


def base_of_2() -> type:
    """The shape of the SDK's 2.x base class: read-only properties, and no keywords that it does not know."""
    cache: dict[tuple[str, str], str] = {}

    class Base:
        def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
            self.project_id = project_id or ""
            self._label_studio_client = None
            if label_config is not None:
                cache[self.project_id, "label_config"] = label_config
            cache.setdefault((self.project_id, "model_version"), "0.0.1")
            self.setup()

        def setup(self) -> None:
            pass

        @property
        def label_config(self) -> str:
            return cache[self.project_id, "label_config"]

        @property
        def model_version(self) -> str:
            return cache[self.project_id, "model_version"]

    return Base


def load_backend(monkeypatch: pytest.MonkeyPatch, sdk: ModuleType | None) -> ModuleType:
    """Imports another copy of backend.py, over another SDK."""
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", sdk)
    spec = importlib.util.spec_from_file_location("another_backend", backend.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_runs_on_the_sdk_2(monkeypatch: pytest.MonkeyPatch, runtime: Runtime) -> None:
    sdk = ModuleType("label_studio_ml.model")
    sdk.LabelStudioMLBase = base_of_2()  # type: ignore[attr-defined]
    module = load_backend(monkeypatch, sdk)
    monkeypatch.setattr(module, "shared_runtime", lambda: runtime)
    parser = module.InteractiveHumanParsing(project_id=CLICK["project"], label_config=CLICK["label_config"])
    (item,) = parser.predict(CLICK["tasks"], context=CONTEXT, login=None, password=None)
    assert item["result"][0]["value"]["brushlabels"] == ["Building"]
    assert parser.fit("START_TRAINING", golden("webhook_start_training"))["status"] in ("queued", "accepted")


def test_a_missing_sdk_is_one_line_that_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImportError, match=r"pip install --no-deps -r requirements-sdk\.txt") as caught:
        load_backend(monkeypatch, None)
    assert "\n" not in str(caught.value)


def test_importing_it_loads_no_model() -> None:
    code = "import sys, ihp_backend.serving.sdk_adapter; print('ihp_backend.inference.predictor' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_only_the_clicked_label_is_answered_whatever_the_draft_holds(
    parser: InteractiveHumanParsing, disc_model: DiscModel
) -> None:
    task = drafted(keypoint("Road", "other"), keypoint("Building", "stale"), region("Road", slice(0, 9), "r"))
    (item,) = parser.predict([task], CONTEXT)
    assert [r["value"]["brushlabels"] for r in item["result"]] == [["Building"]]
    call = disc_model.calls[-1]
    assert call["wanted"] == ["Building"]
    assert [click.part for click in call["clicks"]] == ["Road", "Building"], "of the clicked label, the context's only"


def test_accepted_regions_of_one_label_become_one_mask(parser: InteractiveHumanParsing, disc_model: DiscModel) -> None:
    parser.predict([drafted(region("Road", slice(0, 9), "a"), region("Road", slice(99, 120), "b"))], CONTEXT)
    expected = np.zeros((480, 640), bool)
    expected[:, :9] = expected[:, 99:120] = True
    np.testing.assert_array_equal(disc_model.calls[-1]["masks"]["Road"], expected)


def test_a_draft_older_than_the_label_config_does_not_break_the_click(
    parser: InteractiveHumanParsing, disc_model: DiscModel, caplog: pytest.LogCaptureFixture
) -> None:
    (item,) = parser.predict([drafted(keypoint("Renamed"), keypoint("Road", "k2"))], CONTEXT)
    assert item["result"]
    assert [click.part for click in disc_model.calls[-1]["clicks"]] == ["Road", "Building"]
    assert "Renamed" in caplog.text


def test_a_negative_click_reaches_the_model_as_one(parser: InteractiveHumanParsing, disc_model: DiscModel) -> None:
    results = [keypoint("Building"), keypoint("Building", "k2", is_positive=False)]
    parser.predict(CLICK["tasks"], {"result": results})
    assert [click.is_positive for click in disc_model.calls[-1]["clicks"]] == [True, False]


def test_options_of_the_label_config_reach_the_model(runtime: Runtime, disc_model: DiscModel) -> None:
    xml = CLICK["label_config"].replace("<KeyPointLabels ", '<KeyPointLabels ihp_suggest="all" ihp_people="everyone" ')
    parser = InteractiveHumanParsing(project_id=CLICK["project"], label_config=xml, runtime=runtime)
    parser.predict(CLICK["tasks"], CONTEXT)
    assert disc_model.calls[-1]["options"] == {"suggest": True, "everyone": True}


def test_the_same_mask_again_before_the_draft_is_saved_keeps_the_region(
    parser: InteractiveHumanParsing, disc_model: DiscModel
) -> None:
    (first,) = parser.predict(CLICK["tasks"], {"result": [keypoint("Building", "k1")]})
    (second,) = parser.predict(CLICK["tasks"], {"result": [keypoint("Building", "k2")]})
    assert second["result"][0]["id"] == first["result"][0]["id"]
    assert disc_model.calls[-1]["masks"] == {}  # it may have been rejected
    assert disc_model.calls[-1]["earlier_clicks"] == []
    parser.predict(CLICK["tasks"], {"result": [keypoint("Building", "k3", is_positive=False)]})
    assert [click.part for click in disc_model.calls[-1]["earlier_clicks"]] == ["Building"]  # what made it is known
    saved = {**CLICK["tasks"][0], "drafts": [{"id": 1, "result": [], "updated_at": "2026-11-23T00:33:59Z"}]}
    parser.predict([saved], {"result": [keypoint("Building", "k4", is_positive=False)]})
    assert disc_model.calls[-1]["masks"] == {}  # deleted, and saved so
    assert disc_model.calls[-1]["earlier_clicks"] == []


def test_a_mask_that_nobody_has_accepted_yet_is_answered_again_with_the_next_labels(
    parser: InteractiveHumanParsing,
) -> None:
    """Label Studio shows the suggestions of its newest answer only."""
    at_right = {"x": 80.0, "y": 50.0, "width": 0.3}
    (first,) = parser.predict(CLICK["tasks"], {"result": [keypoint("Building", "k1")]})
    road = keypoint("Road", "k2") | {"value": {**at_right, "keypointlabels": ["Road"]}}
    (both,) = parser.predict(CLICK["tasks"], {"result": [road]})
    assert [r["value"]["brushlabels"] for r in both["result"]] == [["Road"], ["Building"]]
    assert both["result"][1] == first["result"][0]
    again = keypoint("Road", "k3") | {"value": {**at_right, "x": 82.0, "keypointlabels": ["Road"]}}
    (corrected,) = parser.predict(CLICK["tasks"], {"result": [road, again]})
    assert corrected["result"][1] == first["result"][0]
    saved = {**CLICK["tasks"][0], "drafts": [{"id": 1, "result": [], "updated_at": "2026-11-23T00:33:59Z"}]}
    (alone,) = parser.predict([saved], {"result": [again]})
    assert [r["value"]["brushlabels"] for r in alone["result"]] == [["Road"]], "it was rejected, and saved so"


def test_a_click_that_comes_while_the_one_before_is_answered_has_both_masks(
    parser: InteractiveHumanParsing, disc_model: DiscModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label Studio never shows the answer to the first."""
    begun, go_on, answer = Event(), Event(), disc_model.answer

    def slow(*given: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return answer(*given)

    monkeypatch.setattr(disc_model, "answer", slow)
    road = keypoint("Road", "k2") | {"value": {"x": 80.0, "y": 50.0, "width": 0.3, "keypointlabels": ["Road"]}}
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(parser.predict, CLICK["tasks"], {"result": [keypoint("Building", "k1")]})
        assert begun.wait(30)
        second = pool.submit(parser.predict, CLICK["tasks"], {"result": [road]})
        time.sleep(0.2)
        go_on.set()
    assert second.result()[0]["result"][1:] == first.result()[0]["result"]


def test_a_click_inside_an_accepted_mask_of_another_label_wins(
    parser: InteractiveHumanParsing, disc_model: DiscModel
) -> None:
    """The recorded click is at column 173 of 640: the road over it gives way, and keeps its id."""
    (item,) = parser.predict([drafted(region("Road", slice(0, 400), "r"))], CONTEXT)
    building, road = item["result"]
    assert (building["value"]["brushlabels"], road["value"]["brushlabels"]) == (["Building"], ["Road"])
    assert road["id"] == "r"
    assert disc_model.calls[-1]["masks"] == {}
    masks = [decode_mask(r["value"]["rle"], 480, 640) for r in (building, road)]
    assert masks[0][162, 173]
    assert not (masks[0] & masks[1]).any()
    assert masks[1].any()


def test_on_a_photo_with_a_prediction_the_first_click_corrects_it_and_what_gives_way_keeps_its_score(
    parser: InteractiveHumanParsing,
) -> None:
    """Nothing is saved yet: what is on the screen is in the task's predictions alone."""
    guesses = [region("Road", slice(165, 400), "road"), region("Building", slice(500, 640), "building")]
    prediction = {
        "id": 5,
        "result": [guess | {"score": score} for guess, score in zip(guesses, (0.4, 0.3), strict=True)],
    }
    (item,) = parser.predict([{**CLICK["tasks"][0], "predictions": [prediction]}], CONTEXT)
    building, road = item["result"]
    assert (road["id"], road["score"], road["value"]["brushlabels"]) == ("road", 0.4, ["Road"])
    assert building["score"] == 0.75


def test_a_corrected_mask_goes_on_saying_whose_it_is(parser: InteractiveHumanParsing) -> None:
    guesses = [region("Road", slice(165, 400), "road"), region("Building", slice(150, 640), "building")]
    said = [guess | {"meta": {"ihp": {"person": person}}} for guess, person in zip(guesses, (1, 2), strict=True)]
    (item,) = parser.predict([{**CLICK["tasks"][0], "predictions": [{"id": 5, "result": said}]}], CONTEXT)
    found = {r["id"]: r["meta"]["ihp"]["person"] for r in item["result"]}
    assert found == {"building": 2, "road": 1}
    building = next(r for r in item["result"] if r["id"] == "building")
    assert building["meta"]["ihp"]["clicks"]  # and what made it


def test_an_annotation_of_somebody_else_does_not_block_a_new_one(
    parser: InteractiveHumanParsing, disc_model: DiscModel
) -> None:
    theirs = {"id": 9, "result": [region("Road", slice(0, 640), "theirs")], "created_at": "2026-11-23T00:00:00Z"}
    (item,) = parser.predict([{**CLICK["tasks"][0], "annotations": [theirs]}], CONTEXT)
    assert [r["value"]["brushlabels"] for r in item["result"]] == [["Building"]]
    two = [theirs, {**theirs, "id": 10}]
    parser.predict([{**CLICK["tasks"][0], "annotations": two}], CONTEXT)
    assert disc_model.calls[-1]["masks"] == {}


def test_an_annotation_that_is_opened_again_is_corrected(
    parser: InteractiveHumanParsing, disc_model: DiscModel
) -> None:
    mine = {"id": 9, "result": [region("Building", slice(200, 640), "mine")], "created_at": "2026-11-23T00:00:00Z"}
    (item,) = parser.predict([{**CLICK["tasks"][0], "annotations": [mine]}], CONTEXT)
    assert [r["id"] for r in item["result"]] == ["mine"]


def test_what_was_answered_before_a_submit_or_a_reload_is_not_there_afterwards(
    parser: InteractiveHumanParsing, disc_model: DiscModel
) -> None:
    """Both leave the task without drafts, as it was when the mask was answered: another annotator may be at it."""
    task, elsewhere = CLICK["tasks"][0], {**CONTEXT["result"][0]["value"], "x": 80}
    hers = {"result": [keypoint("Road", "k1", value=elsewhere)]}
    mine = {"result": [keypoint("Building", "k2")]}
    (road,) = parser.predict([task], hers)
    parser.predict([task], mine)
    assert [c.part for c in disc_model.calls[-1]["earlier_clicks"]] == ["Road"], (
        "it may have been accepted a moment ago"
    )
    submitted = {"id": 9, "result": road["result"], "updated_at": "2026-11-23T00:01:00Z"}
    parser.predict([{**task, "annotations": [submitted, {**submitted, "id": 10}]}], mine)
    assert disc_model.calls[-1]["earlier_clicks"] == []
    parser.predict([task])  # opened
    parser.predict([task], mine)
    assert disc_model.calls[-1]["earlier_clicks"] == []


def test_an_empty_mask_gives_no_region(parser: InteractiveHumanParsing) -> None:
    (item,) = parser.predict(CLICK["tasks"], {"result": [keypoint("Building", is_positive=False)]})
    assert item["result"] == []


@pytest.mark.parametrize("results", [[], [{**keypoint("Building"), "type": "rectanglelabels", "from_name": "box"}]])
def test_a_context_without_a_keypoint_of_ours_gets_an_empty_answer(
    parser: InteractiveHumanParsing, disc_model: DiscModel, results: list[dict[str, Any]]
) -> None:
    (item,) = parser.predict(CLICK["tasks"], {"result": results})
    assert item["result"] == []
    assert not disc_model.calls


def test_the_image_key_tells_images_apart_and_the_same_image_together(
    parser: InteractiveHumanParsing, disc_model: DiscModel
) -> None:
    other = {**CLICK["tasks"][0], "data": {"image": "/data/upload/2/d902d92d-test.png"}}
    parser.predict([CLICK["tasks"][0], other, CLICK["tasks"][0]])
    first, second, third = [call["key"] for call in disc_model.calls]
    assert first == third != second


def test_errors_of_the_caller_are_told_apart(runtime: Runtime, parser: InteractiveHumanParsing) -> None:
    with pytest.raises(LabelConfigError):
        InteractiveHumanParsing(runtime=runtime).predict(CLICK["tasks"])
    with pytest.raises(LabelConfigError):
        InteractiveHumanParsing(label_config="<View/>", runtime=runtime)
    with pytest.raises(RequestError, match="data"):
        parser.predict([{"id": 1}])
    with pytest.raises(RequestError, match="result"):
        parser.predict(CLICK["tasks"], {"result": None})


def test_a_task_that_is_opened_is_made_ready_for_a_click(
    runtime: Runtime, parser: InteractiveHumanParsing, disc_model: DiscModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Thread | None] = []
    prefetch = runtime.computing.prefetch
    monkeypatch.setattr(runtime.computing, "prefetch", lambda steps: started.append(prefetch(steps)))

    def finish() -> None:
        while started and (thread := started.pop()):
            thread.join(10)

    parser.predict(CLICK["tasks"], CLICK["params"]["context"])
    finish()
    assert disc_model.prefetched == [], "after a click the features are there"
    parser.predict([CLICK["tasks"][0]] * 2)
    parser.predict(CLICK["tasks"], opened=False)
    finish()
    assert disc_model.prefetched == [], "a batch of photos is nobody's opened task"
    parser.predict(CLICK["tasks"])
    finish()
    assert disc_model.prefetched == [disc_model.calls[-1]["key"]]
