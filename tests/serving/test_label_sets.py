"""The label config decides which weights answer: through the application, with tiny networks in real files."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from backend import json_of
from fakes import TOKEN, ImageHost, golden
from flask.testing import FlaskClient
from tiny_weights import save_tiny, ship
from waiting import eventually

from ihp_backend.demo.project import label_config_of
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.learning.registry import Status
from ihp_backend.parts import SCHEMAS
from ihp_backend.serving.application import create_app
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings

PROJECT = "1.1795392500"
CLICKS = {"lip": "Face", "cihp": "Torso-skin", "pascal-person-part": "Torso", "helen": "Left-eye"}


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return ship(monkeypatch, tmp_path / "shipped", SCHEMAS)


def make(tmp_path: Path, image_host: ImageHost, **environment: str) -> tuple[FlaskClient, Runtime]:
    settings = Settings.from_environment(
        {"IHP_DATA_DIR": str(tmp_path / "data"), "IHP_ALLOW_PRIVATE_ADDRESSES": "true", "IHP_DEVICE": "cpu"}
        | environment
    )
    runtime = Runtime(settings)
    return create_app(runtime=runtime).test_client(), runtime


def set_up(client: FlaskClient, url: str, xml: str, project: str = PROJECT) -> Any:
    body = golden("setup") | {"project": project, "schema": xml, "hostname": url, "access_token": TOKEN}
    return client.post("/setup", json=body)


def click(client: FlaskClient, xml: str, label: str, project: str = PROJECT) -> dict[str, Any]:
    """One click on a label, answered; its mask has a pixel at the click, whatever the network says."""
    body = golden("predict_click") | {"label_config": xml, "project": project}
    (keypoint,) = body["params"]["context"]["result"]
    keypoint |= {"from_name": "click", "to_name": "image"}
    keypoint["value"]["keypointlabels"] = [label]
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    (found,) = json_of(answer)["results"]
    (region,) = found["result"]
    assert region["value"]["brushlabels"] == [label]
    return dict(found)


def learn(runtime: Runtime, schema: str, project: str = PROJECT) -> str:
    """A version of a project, as a training leaves it."""
    name = runtime.registry.next_name(project, f"{schema}-1")
    with runtime.registry.draft(project) as draft:
        save_tiny(draft, schema, name)
        current = runtime.registry.current(project, schema)
        runtime.registry.add(project, name, draft, Status("promoted", "a test", current, schema=schema))
    return name


def test_every_label_set_is_answered_by_its_own_weights_and_only_those_used_are_loaded(
    tmp_path: Path, image_host: ImageHost, shipped: Path
) -> None:
    client, runtime = make(tmp_path, image_host)
    assert json_of(client.get("/health"))["label_sets"] == {schema: f"{schema}-1" for schema in SCHEMAS}
    assert runtime.base.loaded == []
    for number, (schema, label) in enumerate(CLICKS.items(), 1):
        xml, project = label_config_of(schema), f"{number}.1795392500"
        told = set_up(client, image_host.url, xml, project).json
        assert told == {"model_version": f"{schema}-1", "label_set": schema}
        assert click(client, xml, label, project)["model_version"] == f"{schema}-1"
        assert [model.schema.name for model in runtime.base.loaded] == list(CLICKS)[:number]
        opened = golden("predict_task_opened") | {"label_config": xml, "project": project}
        (found,) = json_of(client.post("/predict", json=opened))["results"]
        assert found["model_version"] == f"{schema}-1"
        known = json_of(client.get("/versions", query_string={"project": project}))
        assert known["current"] == f"{schema}-1"
        assert known["schemas"] == {f"{s}-1": s for s in SCHEMAS}


def test_a_config_that_mixes_sets_or_that_none_fits_is_answered(
    tmp_path: Path, image_host: ImageHost, shipped: Path
) -> None:
    client, _ = make(tmp_path, image_host)
    for labels, schema in (
        (["Left-eye", "Upper-clothes", "Bag"], "lip"),
        (["Left-eye", "Nose", "Upper-clothes", "Bag"], "helen"),
        (["Outfit", "Bare area"], "lip"),
    ):
        tags = "".join(f'<Label value="{label}"/>' for label in labels)
        xml = f"""<View><Image name="image" value="$image"/>
        <KeyPointLabels name="click" toName="image" smart="true">{tags}</KeyPointLabels>
        <BrushLabels name="mask" toName="image">{tags}</BrushLabels></View>"""
        assert set_up(client, image_host.url, xml).json["model_version"] == f"{schema}-1"
        for label in labels:
            assert click(client, xml, label)["model_version"] == f"{schema}-1"


def test_the_label_config_may_ask_for_a_label_set(tmp_path: Path, image_host: ImageHost, shipped: Path) -> None:
    client, _ = make(tmp_path, image_host)
    xml = label_config_of("lip").replace("<KeyPointLabels", '<KeyPointLabels ihp_schema="helen"')
    assert set_up(client, image_host.url, xml).json["label_set"] == "helen"
    assert click(client, xml, "Coat")["model_version"] == "helen-1"


def test_a_label_set_that_does_not_exist_is_refused_with_those_that_do(
    tmp_path: Path, image_host: ImageHost, shipped: Path
) -> None:
    client, _ = make(tmp_path, image_host)
    xml = label_config_of("lip").replace("<KeyPointLabels", '<KeyPointLabels ihp_schema="lisp"')
    body = golden("predict_click") | {"label_config": xml}
    for answer in (set_up(client, image_host.url, xml), client.post("/predict", json=body)):
        assert answer.status_code == 400
        assert "lip or cihp or pascal-person-part or helen" in json_of(answer)["detail"]
    set_up(client, image_host.url, label_config_of("lip"))
    click(client, label_config_of("lip"), "Face")


def test_missing_weights_are_told_and_every_click_is_answered(
    tmp_path: Path, image_host: ImageHost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = ship(monkeypatch, tmp_path / "shipped", ["lip"])
    client, _ = make(tmp_path, image_host)
    xml = label_config_of("helen")
    told = set_up(client, image_host.url, xml).json
    assert (told["label_set"], told["model_version"]) == ("lip", "lip-1")
    assert "no weights of the label set helen" in told["message"]
    assert "helen" not in json_of(client.get("/health"))["label_sets"]
    assert click(client, xml, "Left-eye")["model_version"] == "lip-1"
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING and "label set helen" in r.getMessage()]
    assert len(warnings) == 1, "once, not at each click"
    save_tiny(folder / "helen", "helen", "helen-1")
    assert click(client, xml, "Left-eye")["model_version"] == "helen-1", "without a restart"
    assert "message" not in set_up(client, image_host.url, xml).json


def test_the_settings_weights_answer_their_own_label_set_only(
    tmp_path: Path, image_host: ImageHost, shipped: Path
) -> None:
    save_tiny(shipped / "lip-paper", "lip", "paper-1")
    client, _ = make(tmp_path, image_host, IHP_WEIGHTS="lip-paper")
    for schema, version in (("lip", "paper-1"), ("helen", "helen-1")):
        set_up(client, image_host.url, label_config_of(schema))
        assert click(client, label_config_of(schema), CLICKS[schema])["model_version"] == version


def test_memory_is_bounded(tmp_path: Path, image_host: ImageHost, shipped: Path) -> None:
    client, runtime = make(tmp_path, image_host, IHP_BASE_MODELS_IN_MEMORY="2")
    for schema, label in [*CLICKS.items()] * 2:
        set_up(client, image_host.url, label_config_of(schema))
        assert click(client, label_config_of(schema), label)["model_version"] == f"{schema}-1"
        assert len(runtime.base.loaded) <= 2
    assert client.get("/ready").status_code == 200


def test_what_a_project_has_learnt_stays_with_its_label_set(
    tmp_path: Path, image_host: ImageHost, shipped: Path
) -> None:
    client, runtime = make(tmp_path, image_host)
    body, face = label_config_of("lip"), label_config_of("helen")

    def said(xml: str, schema: str) -> str:
        told = set_up(client, image_host.url, xml).json["model_version"]
        answered = click(client, xml, CLICKS[schema])["model_version"]
        known = json_of(client.get("/versions", query_string={"project": PROJECT}))
        assert told == answered == known["current"] == known["serving"][schema]
        assert known["schemas"][told] == schema
        return str(told)

    assert said(body, "lip") == "lip-1"
    learnt = learn(runtime, "lip")
    eventually(lambda: runtime.predictor(PROJECT, LabelConfig.parse(body)).version == learnt)
    assert said(body, "lip") == learnt
    assert said(face, "helen") == "helen-1", "the config has changed to faces"
    looks = learn(runtime, "helen")
    eventually(lambda: runtime.predictor(PROJECT, LabelConfig.parse(face)).version == looks)
    assert said(face, "helen") == looks
    assert said(body, "lip") == learnt, "and back"
    runtime.registry.rollback(PROJECT, schema="helen")
    eventually(lambda: runtime.predictor(PROJECT, LabelConfig.parse(face)).version == "helen-1")
    assert said(face, "helen") == "helen-1"
    assert said(body, "lip") == learnt, "a rollback of the one leaves the other"
    again = make(tmp_path, image_host)[0]
    assert click(again, body, "Face")["model_version"] == learnt, "after a restart"
    assert click(again, face, "Nose")["model_version"] == "helen-1"


def test_the_choice_needs_no_torch(tmp_path: Path, shipped: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from ihp_backend.network import weights_folder
weights_folder.SHIPPED = Path({str(shipped)!r})
from ihp_backend.demo.project import label_config_of
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.serving.base_models import BaseModels
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings
BaseModels.preload = lambda self, schema=None: None  # it would load torch beside the answer
runtime = Runtime(Settings(data_dir=Path({str(tmp_path)!r})))
config = LabelConfig.parse(label_config_of("helen"))
assert runtime.choose("1.2", config).answering == "helen"
assert runtime.version("1.2", config) == "helen-1"
assert runtime.versions("1.2")["serving"]["cihp"] == "cihp-1"
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
