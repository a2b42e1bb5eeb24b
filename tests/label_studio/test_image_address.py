"""Where a task's photo is: expressions over its data, storages, and spellings of addresses."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ihp_backend.label_studio.image_address import address_in, address_of, askable, has_variable, stored_in
from ihp_backend.label_studio.image_decoding import ImageError

DATA: dict[str, Any] = {
    "image": "/data/upload/1/a.png",
    "photos": ["/p/0.png", "/p/1.png"],
    "meta": {"photo": "/m.png", "views": [{"url": "/v0.png"}, {"url": "/v1.png"}], "my key": "/k.png"},
    "file": "street.png",
    "number": 7,
    "a.b": "/dotted.png",
    "with-hyphen": "/h.png",
    "empty": "",
    "nothing": None,
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$image", "/data/upload/1/a.png"),
        ("$photos[0]", "/p/0.png"),
        ("$photos[1]", "/p/1.png"),
        ("$meta.photo", "/m.png"),
        ("$meta.views[1].url", "/v1.png"),
        ("$meta[photo]", "/m.png"),
        ('$meta["my key"]', "/k.png"),
        ("$meta['my key']", "/k.png"),
        ("/x/$file", "/x/street.png"),
        ("http://a.example/$meta.photo?n=$number", "http://a.example//m.png?n=7"),
        ("/x/$number.jpg", "/x/7.jpg"),
        ("$a.b", "/dotted.png"),
        ("$with-hyphen", "/h.png"),
    ],
)
def test_a_value_is_an_expression_over_the_data(value: str, expected: str) -> None:
    assert has_variable(value)
    assert address_in(DATA, value) == expected


@pytest.mark.parametrize(
    "value",
    ["$photo", "$photos", "$photos[2]", "$photos[x]", "$meta", "$meta.none.url", "$empty", "$nothing", "/x/$nothing"],
)
def test_what_the_data_lacks_is_never_text(value: str) -> None:
    """Not even the text "None", or half an address."""
    with pytest.raises(ImageError, match=r"no image address under .*it has .*file.*<Image>"):
        address_in(DATA, value)


@pytest.mark.parametrize("value", ["", "image", "$", "http://a.example/x.png", "a $ b"])
def test_a_value_without_a_name_is_no_expression(value: str) -> None:
    assert not has_variable(value)


@pytest.mark.parametrize(
    "url",
    ["s3://bucket/a b.png", "gs://bucket/x", "azure-blob://box/ü.png", "az://box/x", "s3s://b/x", "redis://x/y"],
)
def test_what_lies_in_a_storage_is_asked_for_at_label_studio(url: str) -> None:
    """As the SDK does: the storage's address in URL-safe base64."""
    uri = base64.urlsafe_b64encode(url.encode()).decode()
    assert address_of({"id": 12, "data": {"image": url}}, "$image") == f"/tasks/12/presign/?fileuri={uri}"
    assert askable(url, None, "3.1795392500") == f"/projects/3/presign/?fileuri={uri}"
    assert stored_in(f"http://ls.example/ls/tasks/12/presign/?fileuri={uri}") == url
    with pytest.raises(ImageError, match="task's id"):
        askable(url)


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        (" /data/upload/1/a.png", "/data/upload/1/a.png"),
        ("\t/data/upload/1/a.png\r\n", "/data/upload/1/a.png"),
        ("/data/up\nload/1/a.png", "/data/upload/1/a.png"),
        ("\u00a0http://a.example/x\u3000", "http://a.example/x"),
        ("upload/1/a.png", "/data/upload/1/a.png"),
        ("/upload/1/a.png", "/data/upload/1/a.png"),
        ("data/upload/1/a.png", "/data/upload/1/a.png"),
        ("data/local-files/?d=a.png", "/data/local-files/?d=a.png"),
        ("storage-data/uploaded/?filepath=upload/1/a.png", "/storage-data/uploaded/?filepath=upload/1/a.png"),
        ("\\data\\upload\\1\\a.png", "/data/upload/1/a.png"),
        ("/data/local-files/?d=a\\b.png", "/data/local-files/?d=a\\b.png"),
        ("HTTPS://a.example\\x.png", "HTTPS://a.example/x.png"),
        (" data:image/png;base64,AA==", "data:image/png;base64,AA=="),
        (" s3://b/x ", f"/tasks/1/presign/?fileuri={base64.urlsafe_b64encode(b's3://b/x').decode()}"),
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("x", "x"),
    ],
)
def test_spellings_that_browsers_and_label_studio_take(written: str, asked: str) -> None:
    assert askable(written, 1) == asked


@given(st.text(max_size=40))
def test_any_address_is_one_or_an_error_of_ours(url: str) -> None:
    with suppress(ImageError):
        assert askable(askable(url, 1), 1) == askable(url, 1)


@given(st.text(alphabet="$ab.[]0\"'{}", max_size=12))
def test_any_value_is_an_address_or_an_error_of_ours(value: str) -> None:
    with suppress(ImageError):
        assert isinstance(address_in({"a": ["x", {"b": "y"}], "b": {"a": "z"}}, value), str)
