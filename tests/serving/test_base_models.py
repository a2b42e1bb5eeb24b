from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from time import perf_counter

import pytest
from fakes import DiscModel

from ihp_backend.label_studio.label_config import LabelConfig
from ihp_backend.parts import LIP, SCHEMAS
from ihp_backend.serving.base_models import BaseModels, ModelUnavailableError
from ihp_backend.telemetry import Metrics

NAMES = tuple(SCHEMAS)


def write_weights(folder: Path, schema: str, version: str, own: tuple[str, ...] = ()) -> Path:
    """As much of a folder of weights as can be read without loading them."""
    folder.mkdir(parents=True)
    (folder / "info.json").write_text(
        json.dumps({"version": version, "architecture": {"schema": schema, "own": list(own)}})
    )
    return folder


class Loader:
    """Makes a model that is called as its folder, and remembers what it made."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.broken: set[str] = set()

    def __call__(self, folder: Path) -> DiscModel:
        if folder.name in self.broken:
            raise OSError("disk on fire")
        self.loaded.append(folder.name)
        return DiscModel(f"{folder.name}-1")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for schema in NAMES:
        write_weights(tmp_path / "shipped" / schema, schema, f"{schema}-1")
    monkeypatch.setattr("ihp_backend.network.weights_folder.SHIPPED", tmp_path / "shipped")
    return tmp_path / "shipped"


@pytest.fixture
def loader() -> Loader:
    return Loader()


def models(loader: Loader, weights: str = "lip", most: int = 4, metrics: Metrics | None = None) -> BaseModels:
    return BaseModels(weights, loader, most, metrics or Metrics())


def config_of(*labels: str, attributes: str = "") -> LabelConfig:
    tags = "".join(f'<Label value="{label}"/>' for label in labels)
    return LabelConfig.parse(
        f"""<View><Image name="i" value="$image"/><KeyPointLabels name="k" toName="i" {attributes}>{tags}
        </KeyPointLabels><BrushLabels name="b" toName="i">{tags}</BrushLabels></View>"""
    )


FACE = config_of("Nose", "Left-eye", "Hair")
BODY = config_of("Face", "Coat", "Jumpsuits")


def test_each_label_set_has_its_weights_and_only_those_asked_for_are_loaded(shipped: Path, loader: Loader) -> None:
    base = models(loader)
    assert base.first == "lip"
    assert {schema: base.version(schema) for schema in NAMES} == {schema: f"{schema}-1" for schema in NAMES}
    for schema in NAMES:
        base.preload(schema).join(10)  # what the look at its version has begun
    loader.loaded.clear()
    base = models(loader)
    assert base.choose(FACE).answering == "helen"
    assert base.versions() == {schema: f"{schema}-1" for schema in NAMES}
    assert loader.loaded == []
    assert base.predictor("helen").version == "helen-1"
    assert base.predictor("helen") is base.predictor("helen")
    assert loader.loaded == ["helen"]


def test_a_model_is_loaded_once_however_many_ask_and_holds_up_no_other(shipped: Path) -> None:
    go_on = Event()
    made: list[str] = []

    def load(folder: Path) -> DiscModel:
        if folder.name == "helen":
            go_on.wait(10)
        made.append(folder.name)
        return DiscModel(folder.name)

    base = BaseModels("lip", load, 4, Metrics())
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(base.predictor, "helen") for _ in range(8)]
        assert base.predictor("lip").version == "lip"
        go_on.set()
        assert len({id(future.result()) for future in waiting}) == 1
    assert made == ["lip", "helen"]


def test_a_bounded_number_is_kept(shipped: Path, loader: Loader) -> None:
    metrics = Metrics()
    base = models(loader, most=2, metrics=metrics)
    for schema in ("lip", "helen", "lip", "cihp", "lip", "helen"):
        base.predictor(schema)
        assert len(base.loaded) <= 2
    assert loader.loaded == ["lip", "helen", "cihp", "helen"], "those used last are kept"
    text = metrics.render().decode()
    assert 'ihp_model_loaded{version="lip-1"} 1.0' in text
    assert 'ihp_model_loaded{version="helen-1"} 1.0' in text
    assert "cihp-1" not in text


def test_weights_that_are_named_answer_for_their_own_label_set_only(
    shipped: Path, loader: Loader, tmp_path: Path
) -> None:
    write_weights(shipped / "lip-paper", "lip", "paper-1")
    base = models(loader, "lip-paper")
    assert base.predictor("lip").version == "lip-paper-1"
    assert base.version("helen") == "helen-1"
    assert base.versions() == {"lip": "lip-paper-1", "cihp": "cihp-1", **{n: f"{n}-1" for n in NAMES[2:]}}
    mine = models(loader, str(write_weights(tmp_path / "mine", "helen", "mine-1")))
    assert (mine.first, mine.version("helen"), mine.version("lip")) == ("helen", "mine-1", "lip-1")
    assert mine.choose(config_of("Outfit")).answering == "helen", "where no set fits, those that were named answer"


def test_weights_of_own_classes_answer_the_labels_that_they_know(shipped: Path, loader: Loader, tmp_path: Path) -> None:
    base = models(loader, str(write_weights(tmp_path / "mine", "open", "mine-1", own=("Outfit", "Bag"))))
    assert base.choose(config_of("Outfit", "Bag", "Hair")).answering == "open"
    assert base.choose(FACE).answering == "helen"


def test_the_best_there_is_answers_where_weights_are_missing_until_they_come(
    shipped: Path, loader: Loader, tmp_path: Path
) -> None:
    shutil.move(shipped / "helen", tmp_path / "later")
    base = models(loader)
    choice = base.choose(FACE)
    assert (choice.wanted, choice.answering) == ("helen", "lip")
    assert "no weights of the label set helen" in choice.note
    assert base.choose(BODY).note == ""
    with pytest.raises(ModelUnavailableError, match="no weights of the label set helen; there are: lip, cihp"):
        base.predictor("helen")
    shutil.move(tmp_path / "later", shipped / "helen")
    assert base.choose(FACE).answering == "helen"
    assert base.predictor("helen").version == "helen-1"
    assert base.failure == ""


def test_without_weights_of_lip_the_others_answer(shipped: Path, loader: Loader) -> None:
    shutil.rmtree(shipped / "lip")
    base = models(loader)
    assert base.choose(BODY).answering == "cihp"
    assert base.choose(FACE).note == ""
    with pytest.raises(ModelUnavailableError, match="no weights 'lip-paper'"):
        models(loader, "lip-paper").choose(FACE)
    shutil.rmtree(shipped)
    base = models(loader)
    with pytest.raises(ModelUnavailableError, match="no weights 'lip'"):
        base.choose(BODY)
    assert "no weights 'lip'" in base.failure
    assert base.versions() == {}


def test_a_failed_load_is_told_and_tried_again(shipped: Path, loader: Loader) -> None:
    base = models(loader)
    loader.broken.add("helen")
    with pytest.raises(ModelUnavailableError, match="disk on fire"):
        base.predictor("helen")
    assert base.failure == "disk on fire"
    with pytest.raises(ModelUnavailableError, match="disk on fire"):
        base.version("helen")
    assert base.predictor("lip").version == "lip-1", "the others are not held up"
    base.preload("helen").join(10)
    loader.broken.clear()
    assert base.predictor("helen").version == "helen-1"
    assert base.failure == ""


def test_the_choice_is_no_delay(shipped: Path, loader: Loader) -> None:
    base = models(loader)
    config = config_of(*LIP.names[1:])
    base.choose(config)
    start = perf_counter()
    for _ in range(20):
        base.choose(config)
    assert (perf_counter() - start) / 20 < 0.005
