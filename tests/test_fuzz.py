"""Damaged label configs, masks and photos: each reader says what is wrong, in time, or reads what is there."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from backend import make
from fakes import golden, png
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ihp_backend.experiments.server_under_test import draw_photo
from ihp_backend.label_studio.decoding_process import Work
from ihp_backend.label_studio.image_decoding import ImageError, decode_image
from ihp_backend.label_studio.rle import RleError, decode, encode

CONFIGS = [path.read_text() for path in sorted((Path(__file__).parents[1] / "label_config").glob("*.xml"))]
CONFIGS.append(golden("setup")["schema"])
PIECES = [
    *("<View>", "</View>", "/>", ">", "<", '"', "'", "&amp;", "&", "$", "$image", "\0", "\ud800", "é", "<!--", "-->"),
    *('name="image"', 'toName="none"', 'smart="false"', 'value=""', 'ihp_suggest="x"', 'ihp_train_after="99"'),
    *("<Label/>", '<Label value="Face"/>', '<Image name="b" value="$b"/>', "<![CDATA[", "<?xml version='1.1'?>"),
    *("<!DOCTYPE a [<!ENTITY b 'b'>]>", "<KeyPointLabels>", "</BrushLabels>", '<Repeater on="$x" indexFlag="{{i}}">'),
]


@st.composite
def damaged_configs(draw: st.DrawFn) -> str:
    text: str = draw(st.sampled_from(CONFIGS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 40))
        text = text[:start] + draw(st.sampled_from(PIECES) | st.text(max_size=5)) + text[start + length :]
    return text


@st.composite
def damaged_bytes(draw: st.DrawFn, originals: tuple[bytes, ...]) -> bytes:
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        patch = draw(st.binary(min_size=1, max_size=4))
        data[start : start + draw(st.integers(0, 4))] = patch
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


def read_config(client: FlaskClient, text: str) -> None:
    body = golden("setup") | {"schema": text}
    answer = client.post("/setup", data=json.dumps(body), content_type="application/json")
    assert answer.status_code in (200, 400), f"{answer.text} for {text!r}"


def read_mask(_: FlaskClient, data: bytes) -> None:
    try:
        assert decode(data, 16, 12).shape == (16, 12)
    except RleError:
        return


def read_photo(_: FlaskClient, data: bytes) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about what was damaged
            assert Work.of(data, 100_000).pixels <= 100_000
            image = decode_image(data, max_pixels=100_000)
    except ImageError:
        return
    assert image.ndim == 3
    assert image.shape[0] * image.shape[1] <= 100_000


MASKS = tuple(
    bytes(encode(np.random.default_rng(seed).random((16, 12)) < share)) for seed, share in enumerate((0.1, 0.5))
)


def encoded(kind: str, **options: Any) -> bytes:
    """A small photo with EXIF, as far as its kind has it."""
    file = io.BytesIO()
    Image.open(io.BytesIO(png(40, 30))).save(file, kind, **options)
    return file.getvalue()


EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010F] = 6, "a camera"
PHOTOS = (
    png(40, 30),
    draw_photo(80, 60),
    *(encoded(kind, exif=EXIF) for kind in ("JPEG", "PNG", "WEBP")),
    encoded("JPEG", progressive=True),
    *(encoded(kind) for kind in ("GIF", "BMP", "TIFF", "PPM")),
)


def read_status(client: FlaskClient, data: bytes) -> None:
    path = client.application.extensions["ihp_front"].spool / "trainings" / "1.1.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    for route in ("/trainings", "/metrics"):
        assert client.get(route).status_code == 200, data


def read_body(client: FlaskClient, data: bytes) -> None:
    for route in ("/predict", "/setup", "/webhook"):
        answer = client.post(route, data=data, content_type="application/json")
        assert answer.status_code in (200, 400), f"{answer.text} for {data!r}"


STATUS = b'{"state":"promoted","reason":"","total_seconds":1.5,"outcomes":{"promoted":2},"served":{"lip":"lip-1"}}'
BODIES = tuple(json.dumps(golden(name)).encode() for name in ("predict_click", "setup", "webhook_annotation_created"))


READERS: dict[str, tuple[Callable[[FlaskClient, Any], None], st.SearchStrategy[Any]]] = {
    "label config": (read_config, damaged_configs()),
    "mask": (read_mask, damaged_bytes(MASKS)),
    "photo": (read_photo, damaged_bytes(PHOTOS)),
    "body": (read_body, damaged_bytes(BODIES)),
    "status": (read_status, damaged_bytes((STATUS,))),
}


def fuzz(tmp_path: Path, reader: str, count: int) -> None:
    client, _ = make(tmp_path)
    read, damaged = READERS[reader]

    @settings(max_examples=count, suppress_health_check=list(HealthCheck), database=None)
    @given(value=damaged)
    def each(value: Any) -> None:
        began = monotonic()
        read(client, value)
        assert monotonic() - began < 5

    each()


@pytest.mark.parametrize("reader", READERS)
def test_what_is_damaged_is_told_or_read(tmp_path: Path, reader: str) -> None:
    fuzz(tmp_path, reader, 100)


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_thousands_that_are_damaged(tmp_path: Path, reader: str) -> None:
    fuzz(tmp_path, reader, 5_000)
