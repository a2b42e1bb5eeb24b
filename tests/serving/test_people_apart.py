"""Several people in one photo: a region for each part and person, which clicks correct and an export tells apart."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backend import json_of
from click.testing import CliRunner
from drawn_group import group, middle
from fake_label_studio import LEGACY
from fake_project import FakeProject
from fakes import TOKEN, ImageHost, golden
from flask.testing import FlaskClient
from label_studio_sdk.converter import brush
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from ihp_backend.cli import main
from ihp_backend.demo.project import label_config_of
from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import CIHP
from ihp_backend.serving.application import create_app
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings

XML = label_config_of("cihp")
URL = "/data/upload/1/people.png"
PHOTO, TRUTH = group(0, 1, step=230)
FILES = (("Human_ids", "png"), ("Instance_ids", "png"), ("Instance_ids", "txt"))
PARTS = LabelConfig.parse(XML).parts(CIHP)


def as_png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def client(tmp_path: Path, image_host: ImageHost) -> FlaskClient:
    image_host.files[URL] = as_png(PHOTO)
    environment = {"IHP_DATA_DIR": str(tmp_path), "IHP_ALLOW_PRIVATE_ADDRESSES": "true", "IHP_DEVICE": "cpu"}
    app = create_app(runtime=Runtime(Settings.from_environment(environment))).test_client()
    app.post("/setup", json=golden("setup") | {"schema": XML, "hostname": image_host.url, "access_token": TOKEN})
    return app


def ask(client: FlaskClient, xml: str = XML, clicks: list[dict[str, Any]] | None = None, **task: Any) -> dict[str, Any]:
    body = golden("predict_click" if clicks else "predict_task_opened") | {"label_config": xml}
    body["tasks"][0] |= {"data": {"image": URL}, "drafts": [], "annotations": [], "predictions": [], **task}
    if clicks:
        body["params"]["context"]["result"] = clicks
    (found,) = json_of(client.post("/predict", json=body))["results"]
    return dict(found)


def keypoint(label: str, x: float, y: float) -> dict[str, Any]:
    place = {"x": 100 * x / PHOTO.shape[1], "y": 100 * y / PHOTO.shape[0], "width": 0.2, "keypointlabels": [label]}
    names = {"from_name": "click", "to_name": "image", "type": "keypointlabels"}
    return {"id": f"{label}-{x}", "is_positive": True, "value": place, **names}


def mask_of(region: dict[str, Any]) -> NDArray[np.bool_]:
    rgba = brush.decode_rle(region["value"]["rle"]).reshape(region["original_height"], region["original_width"], 4)
    return np.asarray(rgba[..., 3] > 0)


def person(region: dict[str, Any]) -> int | None:
    return (region.get("meta") or {}).get("ihp", {}).get("person")  # type: ignore[no-any-return]


def kind(region: dict[str, Any]) -> tuple[str, int | None]:
    return region["value"]["brushlabels"][0], person(region)


def whose(region: dict[str, Any]) -> int:
    """The drawn person on whom a region lies, 0 or 1."""
    mask = mask_of(region)
    return int(np.argmax([(mask & (who > 0)).sum() for who in TRUTH]))


def test_without_a_click_each_region_says_whose_it_is(client: FlaskClient) -> None:
    regions = ask(client)["result"]
    assert {person(r) for r in regions} == {1, 2}
    assert len({kind(r) for r in regions}) == len(regions)
    drawn = {n: {whose(r) for r in regions if person(r) == n} for n in (1, 2)}
    assert sorted(drawn.values(), key=min) == [{0}, {1}]
    assert len({r["id"] for r in regions}) == len(regions)


def test_one_region_for_all_where_a_click_means_everyone_or_the_set_has_one_person(client: FlaskClient) -> None:
    everyone = XML.replace("<KeyPointLabels", '<KeyPointLabels ihp_people="everyone"')
    for xml in (everyone, label_config_of("lip")):
        regions = ask(client, xml)["result"]
        labels = [r["value"]["brushlabels"][0] for r in regions]
        assert len(set(labels)) == len(labels) > 2
        assert {person(r) for r in regions} == {None}


@pytest.mark.parametrize("who", [0, 1])
def test_a_click_after_it_corrects_the_right_persons_region(client: FlaskClient, who: int) -> None:
    regions = ask(client)["result"]
    shown = [{"id": 5, "result": regions, "model_version": "x"}]
    (own,) = [r for r in regions if r["value"]["brushlabels"] == ["Upper-clothes"] and whose(r) == who]
    place = middle(TRUTH[who] == CIHP.names.index("upper-clothes"))
    first, *others = ask(client, clicks=[keypoint("Upper-clothes", *place)], predictions=shown)["result"]
    assert (first["id"], kind(first)) == (own["id"], kind(own))
    assert whose(first) == who
    assert first["meta"]["ihp"]["clicks"]
    assert all(person(other) is not None for other in others)
    # A part of theirs that was not predicted is new, and theirs; the other's beside it stays.
    without = [r for r in regions if r is not own]
    new, *_ = ask(client, clicks=[keypoint("Upper-clothes", *place)], predictions=[{"id": 5, "result": without}])[
        "result"
    ]
    assert new["id"] not in {r["id"] for r in regions}
    assert kind(new) == kind(own)


def test_from_nothing_each_clicked_person_has_a_number(client: FlaskClient) -> None:
    drawn: list[dict[str, Any]] = []
    found = []
    for part, who in (("Pants", 1), ("Upper-clothes", 0), ("Upper-clothes", 1), ("Hair", 0)):
        place = middle(TRUTH[who] == CIHP.names.index(part.lower()))
        draft = [{"id": 1, "result": drawn, "created_at": f"2026-11-24T00:00:0{len(drawn)}Z"}] if drawn else []
        region, *_ = ask(client, clicks=[keypoint(part, *place)], drafts=draft)["result"]
        found.append((kind(region), whose(region)))
        drawn = [*drawn, region]
    assert found == [
        (("Pants", 1), 1),
        (("Upper-clothes", 2), 0),
        (("Upper-clothes", 1), 1),
        (("Hair", 2), 0),
    ]


@pytest.mark.parametrize("layout", ["cihp", "coco"])
def test_an_export_writes_its_people_as_instances(client: FlaskClient, tmp_path: Path, layout: str) -> None:
    regions = ask(client)["result"]
    out = tmp_path / "out"
    with FakeProject() as project:
        project.project["label_config"] = XML
        project.add(1, *regions)
        project.files["/data/upload/1/photo-1.png"] = as_png(PHOTO)
        environ = {
            "IHP_LABEL_STUDIO_URL": project.url,
            "IHP_LABEL_STUDIO_TOKEN": LEGACY,
            "IHP_DATA_DIR": str(tmp_path / "data"),
        }
        arguments = ["export", "--project", "1", "--out", str(out), "--layout", layout]
        done = CliRunner(env=environ).invoke(main, arguments)
        assert done.exit_code == 0, done.output
    expected = {(CIHP.names.index(PARTS[label][0]), number) for label, number in map(kind, regions)}
    if layout == "coco":
        coco = COCO(str(next(path for path in out.rglob("*.json") if '"annotations"' in path.read_text())))
        found = coco.loadAnns(coco.getAnnIds())
        assert {(a["category_id"], a["attributes"]["person"]) for a in found} == expected
        for region in regions:
            label, number = kind(region)
            part = CIHP.names.index(PARTS[label][0])
            (own,) = [a for a in found if (a["category_id"], a["attributes"]["person"]) == (part, number)]
            assert np.array_equal(coco.annToMask(own) > 0, mask_of(region))
        return
    human, instances, table = (next(out.rglob(f"{at}/*.{ending}")) for at, ending in FILES)
    people = np.asarray(Image.open(human))
    for number in (1, 2):
        theirs = np.any([mask_of(r) for r in regions if person(r) == number], axis=0)
        assert np.array_equal(people == number, theirs)
    lines = [tuple(map(int, line.split())) for line in table.read_text().splitlines()]
    assert {(part, number) for _, part, number in lines} == expected
    ids = np.asarray(Image.open(instances))
    assert {int(i) for i in np.unique(ids)} - {0} == {instance for instance, *_ in lines}
