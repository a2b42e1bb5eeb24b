"""Clicks in projects as people set them up: storages, two addresses, expressions, several controls and images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend import json_of
from fake_label_studio import LEGACY, FakeLabelStudio, presign, reply
from fakes import DiscModel, png
from flask.testing import FlaskClient
from one_region import mask_region

from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.serving.application import create_app
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings

PROJECT = "5.1795392500"
WIDTH, HEIGHT = 120, 160


def labels(*names: str) -> str:
    return "".join(f'<Label value="{name}"/>' for name in names)


def config(value: str = "$image", clicked: str = labels("Face", "Hair"), painted: str = labels("Face", "Hair")) -> str:
    return f"""<View><Image name="image" value="{value}"/>
      <KeyPointLabels name="click" toName="image" smart="true">{clicked}</KeyPointLabels>
      <BrushLabels name="mask" toName="image" smart="false">{painted}</BrushLabels></View>"""


@pytest.fixture
def studio() -> Iterator[FakeLabelStudio]:
    with FakeLabelStudio() as fake:
        fake.files["/data/upload/1/a.png"] = png(WIDTH, HEIGHT)
        fake.files["/data/local-files/?d=sub/a.png"] = png(WIDTH, HEIGHT)
        yield fake


@pytest.fixture
def client(studio: FakeLabelStudio, tmp_path: Path) -> FlaskClient:
    environment = {"IHP_DATA_DIR": str(tmp_path), "IHP_LABEL_STUDIO_URL": studio.url, "IHP_LABEL_STUDIO_TOKEN": LEGACY}
    return create_app(runtime=Runtime(Settings.from_environment(environment), DiscModel)).test_client()


def keypoint(label: str = "Face", x: float = 50.0, y: float = 50.0, **changes: Any) -> dict[str, Any]:
    return {
        "id": "k1",
        "from_name": "click",
        "to_name": "image",
        "type": "keypointlabels",
        "is_positive": True,
        "value": {"x": x, "y": y, "width": 0.3, "keypointlabels": [label]},
    } | changes


def ask(
    client: FlaskClient, data: dict[str, Any], xml: str = "", click: dict[str, Any] | None = None, **task: Any
) -> list[dict[str, Any]]:
    body = {
        "tasks": [{"id": 7, "data": data, "annotations": [], "drafts": [], "predictions": []} | task],
        "project": PROJECT,
        "label_config": xml or config(),
        "params": {"context": {"result": [click or keypoint()]}},
    }
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return list(json_of(answer)["results"][0]["result"])


@pytest.mark.parametrize("uri", ["s3://photos/street/a.png", "gs://photos/a.png", "azure-blob://photos/a.png"])
def test_a_photo_in_a_storage(client: FlaskClient, studio: FakeLabelStudio, uri: str) -> None:
    studio.files[presign(uri)] = png(WIDTH, HEIGHT)
    assert len(ask(client, {"image": uri})) == 1
    studio.files[presign(uri).replace("/tasks/7/", "/projects/5/")] = png(WIDTH, HEIGHT)
    assert len(ask(client, {"image": uri}, id=None)) == 1, "a task that is not saved yet is asked for by its project"


@pytest.mark.parametrize("told", ["http://localhost:8888", "https://label.example/ls", " http://localhost:8888 "])
def test_label_studio_is_told_under_another_address(client: FlaskClient, told: str) -> None:
    setup = {"project": PROJECT, "schema": config(), "hostname": told, "access_token": LEGACY}
    photo = {"image": f"{told.strip()}/data/local-files/?d=sub/a.png"}
    assert ask(client, photo) == [], "it may be anybody's"
    assert client.post("/setup", json=setup).status_code == 200
    assert len(ask(client, photo)) == 1


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ("$photos[1]", {"photos": ["x", "/data/upload/1/a.png"]}),
        ("$meta.photo", {"meta": {"photo": "/data/upload/1/a.png"}}),
        ("/data/upload/1/$file", {"file": "a.png"}),
        ("$image", {"image": "\n upload/1/a.png "}),
    ],
)
def test_the_photo_is_where_the_config_says(client: FlaskClient, value: str, data: dict[str, Any]) -> None:
    assert len(ask(client, data, config(value))) == 1


def test_the_pair_that_was_clicked_answers(client: FlaskClient, studio: FakeLabelStudio) -> None:
    studio.files["/data/upload/1/b.png"] = png(WIDTH * 2, HEIGHT)
    xml = f"""<View><Image name="front" value="$front"/><Image name="back" value="$views[0]"/>
      <KeyPointLabels name="face click" toName="front">{labels("Face")}</KeyPointLabels>
      <KeyPointLabels name="hair click" toName="front">{labels("Hair")}</KeyPointLabels>
      <KeyPointLabels name="back click" toName="back">{labels("Hair", "Coat")}</KeyPointLabels>
      <BrushLabels name="hair mask" toName="front">{labels("Hair")}</BrushLabels>
      <BrushLabels name="face mask" toName="front">{labels("Face")}</BrushLabels>
      <BrushLabels name="back mask" toName="back">{labels("Hair", "Coat")}</BrushLabels></View>"""
    data = {"front": "/data/upload/1/a.png", "views": ["/data/upload/1/b.png"]}
    for image, name, label, width in (
        ("front", "face", "Face", WIDTH),
        ("front", "hair", "Hair", WIDTH),
        ("back", "back", "Coat", 2 * WIDTH),
        ("back", "back", "Hair", 2 * WIDTH),
    ):
        click = keypoint(label, from_name=f"{name} click", to_name=image)
        (region,) = ask(client, data, xml, click)
        answered = (region["to_name"], region["from_name"], region["value"]["brushlabels"], region["original_width"])
        assert answered == (image, f"{name} mask", [label], width)


def test_masks_of_other_brushes_on_the_image_are_kept_free(client: FlaskClient) -> None:
    xml = f"""<View><Image name="image" value="$image"/>
      <KeyPointLabels name="click" toName="image">{labels("Face")}</KeyPointLabels>
      <KeyPointLabels name="hair click" toName="image">{labels("Hair")}</KeyPointLabels>
      <BrushLabels name="mask" toName="image">{labels("Face")}</BrushLabels>
      <BrushLabels name="hair mask" toName="image">{labels("Hair")}</BrushLabels></View>"""
    photo = {"image": "/data/upload/1/a.png"}
    hair = np.zeros((HEIGHT, WIDTH), bool)
    hair[: HEIGHT // 2 - 2] = True
    drawn = mask_region(hair, "Hair", 1.0, LabelConfig.parse(xml))
    assert drawn["from_name"] == "hair mask"
    (alone,) = ask(client, photo, xml)
    (beside,) = ask(client, photo, xml, drafts=[{"id": 1, "result": [drawn], "updated_at": "2026-01-01T00:00:00Z"}])
    assert beside["value"]["rle"] != alone["value"]["rle"]


def guess(columns: slice, label: str) -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[30:130, columns] = True
    region = mask_region(mask, label, 0.5, LabelConfig.parse(config(painted=labels("Face", "Hair", "Scarf"))))
    del region["id"]
    return region | {"origin": "prediction"}


def test_guesses_without_an_id_all_give_way_and_keep_their_names(client: FlaskClient) -> None:
    draft = [{"id": 1, "result": [guess(slice(30, 60), "Hair"), guess(slice(60, 90), "Scarf")], "updated_at": "2026"}]
    xml = config(painted=labels("Face", "Hair", "Scarf"))
    answers = [ask(client, {"image": "/data/upload/1/a.png"}, xml, keypoint(x=x), drafts=draft) for x in (50.0, 50.1)]
    for answer in answers:
        assert {region["value"]["brushlabels"][0] for region in answer} == {"Face", "Hair", "Scarf"}
        assert len({region["id"] for region in answer}) == 3
        assert "None" not in {region["id"] for region in answer}
    names = [
        {r["value"]["brushlabels"][0]: r["id"] for r in answer if r["value"]["brushlabels"] != ["Face"]}
        for answer in answers
    ]
    assert names[0] == names[1], "the second answer takes the first one's place"


def test_two_tasks_without_an_id_are_two_tasks(client: FlaskClient, studio: FakeLabelStudio) -> None:
    studio.files["/data/upload/1/b.png"] = png(WIDTH, HEIGHT)
    ask(client, {"image": "/data/upload/1/a.png"}, click=keypoint("Hair", id=None), id=None)
    (region,) = ask(client, {"image": "/data/upload/1/b.png"}, click=keypoint("Face", id=None), id=None)
    (alone,) = ask(client, {"image": "/data/upload/1/b.png"}, click=keypoint("Face"), id=8)
    assert region["value"]["rle"] == alone["value"]["rle"], "what was answered for the other photo is not on this one"


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (config(clicked=labels("face", "Hair")), "'face'"),
        (config(clicked=labels("Face", "Haar")), "'Haar'"),
        (config("$").replace("value=", "valueList=", 1), "valueList"),
        (config().replace('smart="true"', 'smart="false"'), "sends no click"),
    ],
)
def test_setup_refuses_a_config_with_a_click_that_nothing_answers(client: FlaskClient, xml: str, reason: str) -> None:
    told = client.post("/setup", json={"project": PROJECT, "schema": xml, "hostname": "", "access_token": ""})
    assert told.status_code == 400
    assert reason in json_of(told)["detail"]
    assert "A config that works" in json_of(told)["detail"]


def test_the_labels_that_fit_are_answered_all_the_same(client: FlaskClient) -> None:
    xml = config(clicked=labels("Face", "Haar"))
    assert len(ask(client, {"image": "/data/upload/1/a.png"}, xml)) == 1


def test_a_photo_that_a_storage_does_not_have_is_no_failure_of_the_page(
    client: FlaskClient, studio: FakeLabelStudio, caplog: pytest.LogCaptureFixture
) -> None:
    studio.routes[presign("s3://photos/gone.png")] = lambda handler: reply(handler, 404)
    assert ask(client, {"image": "s3://photos/gone.png"}) == []
    assert "'s3://photos/gone.png' cannot be had" in caplog.text
