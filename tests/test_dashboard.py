"""The dashboard asks for what /metrics really tells."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fakes import DiscModel, ImageHost, golden
from prometheus_client.parser import text_string_to_metric_families
from versions import add

from ihp_backend.learning.records import Record
from ihp_backend.serving import runtime as runtime_module
from ihp_backend.serving.application import create_app
from ihp_backend.serving.runtime import Runtime
from ihp_backend.settings import Settings

DASHBOARD = json.loads((Path(__file__).parents[1] / "deploy" / "grafana-dashboard.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
_METRIC = re.compile(r"\b((?:ihp|process)_\w+)(?:\{(.*?)\})?")
_ADDED_BY_PROMETHEUS = {"instance", "job"}


@dataclass
class Told:
    labels: dict[str, set[str]]


@pytest.fixture
def told(tmp_path: Path, image_host: ImageHost, monkeypatch: pytest.MonkeyPatch) -> Told:
    """The metrics of a server that has done all it can, on a machine with a GPU."""
    monkeypatch.setattr(runtime_module, "gpu_memory", lambda: {"used": 1, "free": 2, "total": 3})
    body = golden("predict_click")
    settings = Settings(data_dir=tmp_path, allow_private_addresses=True)
    runtime = Runtime(settings, DiscModel, load_version=lambda folder: DiscModel(folder.name))
    runtime.predictor()
    add(runtime.registry, body["project"])
    client = create_app(runtime=runtime).test_client()
    client.post("/setup", json=golden("setup") | {"hostname": image_host.url, "project": body["project"]})
    for url in (body["tasks"][0]["data"]["image"], "/data/upload/1/nothing.png"):
        body["tasks"][0]["data"]["image"] = url
        assert client.post("/predict", json=body).status_code == 200
    client.post("/webhook", json=golden("webhook_annotation_created"))

    def work(project: str, report: object) -> object:
        return SimpleNamespace(outcome="promoted", reason="", version="", left_out=())

    runtime.trainings.work = work  # type: ignore[assignment]
    runtime.trainings.send = lambda _: None  # type: ignore[assignment,method-assign]
    runtime.trainings.ask(body["project"], "a test")
    with runtime.trainings.records.training(body["project"]):
        runtime.trainings.records.change(body["project"], _running)
        text = client.get("/metrics").text
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return Told(labels)


def _running(record: Record) -> Record:
    return replace(record, state="running", stage="learns")


def test_each_query_asks_for_metrics_that_are_exported(told: Told) -> None:
    assert len(QUERIES) > 12
    for query in QUERIES:
        found = _METRIC.findall(query)
        assert found, query
        names = {name for name, _ in found}
        assert names <= told.labels.keys(), f"not exported: {names - told.labels.keys()}"
        known = set().union(*(told.labels[name] for name in names)) | _ADDED_BY_PROMETHEUS
        asked = {label.strip() for by in re.findall(r"by \((.*?)\)", query) for label in by.split(",")}
        asked |= {label for _, selector in found for label in re.findall(r"(\w+)=", selector)}
        assert asked <= known, f"{query}: no labels {asked - known}"


def test_each_legend_uses_labels_that_the_query_leaves(told: Told) -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            by = re.search(r"by \((.*?)\)", target["expr"])
            names = {name for name, _ in _METRIC.findall(target["expr"])}
            left = (
                {label.strip() for label in by[1].split(",")}
                if by
                else set().union(*(told.labels[name] for name in names)) | _ADDED_BY_PROMETHEUS
            )
            assert used <= left, target["expr"]


def test_every_metric_of_ours_is_shown(told: Told) -> None:
    shown = {re.sub(r"_(bucket|count|sum|created)$", "", name) for q in QUERIES for name, _ in _METRIC.findall(q)}
    ours = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in told.labels if name.startswith("ihp_")}
    assert {name.removesuffix("_total") for name in ours} == {
        name.removesuffix("_total") for name in shown if name.startswith("ihp_")
    }
