"""Images from everywhere they may come from, and from nowhere else."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fake_label_studio import LEGACY, PERSONAL, FakeLabelStudio, presign
from photo_hosts import RED, host_with_photo, load, loader, png, reply, studio_with_photo

from ihp_backend.label_studio.image_address import askable
from ihp_backend.label_studio.images import ImageError, ImageLoader
from ihp_backend.settings import Settings


@pytest.fixture
def studio() -> Iterator[FakeLabelStudio]:
    with studio_with_photo() as fake:
        yield fake


@pytest.fixture
def elsewhere() -> Iterator[FakeLabelStudio]:
    with host_with_photo() as fake:
        yield fake


@pytest.mark.parametrize("token", [LEGACY, PERSONAL])
def test_uploads_with_both_kinds_of_token(studio: FakeLabelStudio, token: str) -> None:
    images = loader(studio, label_studio_token=token)
    image = load(images, "/data/upload/1/a.png")
    assert np.array_equal(image, RED)
    assert not image.flags.writeable
    assert load(images, "/data/upload/1/a.png") is image  # kept
    assert load(images, f"{studio.url}/data/upload/1/a.png") is image


def test_what_setup_told_is_used_where_the_settings_say_nothing(studio: FakeLabelStudio) -> None:
    images = loader(allow_private_addresses=True)
    assert np.array_equal(load(images, "/data/upload/1/a.png", hostname=studio.url, token=LEGACY), RED)
    # Who has no token does not get it from the memory of who has.
    with pytest.raises(ImageError, match="401"):
        load(images, "/data/upload/1/a.png", hostname=studio.url)


def test_a_private_address_that_a_stranger_may_have_told_is_refused(studio: FakeLabelStudio) -> None:
    strangers = loader(host="0.0.0.0", allow_anonymous=True)
    with pytest.raises(ImageError, match="IHP_LABEL_STUDIO_URL"):
        load(strangers, "/data/upload/1/a.png", hostname=studio.url, token=LEGACY)
    assert studio.requests == []
    known = loader(host="0.0.0.0", basic_auth_user="u", basic_auth_password="p")
    assert np.array_equal(load(known, "/data/upload/1/a.png", hostname=studio.url, token=LEGACY), RED)


def test_a_personal_token_is_not_exchanged_where_a_stranger_says(studio: FakeLabelStudio) -> None:
    """Its exchange is a POST before the image is asked for: a way to any address, too."""
    strangers = loader(host="0.0.0.0", allow_anonymous=True)
    with pytest.raises(ImageError, match="IHP_LABEL_STUDIO_URL"):
        load(strangers, "/data/upload/1/a.png", hostname=studio.url, token=PERSONAL)
    with pytest.raises(ImageError, match="IHP_LABEL_STUDIO_URL"):
        strangers.check(studio.url, PERSONAL)
    assert studio.requests == []
    known = loader(host="0.0.0.0", basic_auth_user="u", basic_auth_password="p")
    assert np.array_equal(load(known, "/data/upload/1/a.png", hostname=studio.url, token=PERSONAL), RED)


def test_an_expired_access_token_is_renewed(studio: FakeLabelStudio) -> None:
    studio.files["/data/upload/1/b.png"] = png()
    images = loader(studio, label_studio_token=PERSONAL)
    load(images, "/data/upload/1/a.png")
    studio.expire()  # as after 300 s
    load(images, "/data/upload/1/b.png")
    assert studio.exchanges == 2


def test_without_an_address_the_message_says_what_to_do() -> None:
    with pytest.raises(ImageError, match="IHP_LABEL_STUDIO_URL"):
        load(loader(), "/data/upload/1/a.png")


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_refusal_is_explained(studio: FakeLabelStudio, status: int) -> None:
    studio.routes["/data/x.png?signature=secret"] = reply(status)
    with pytest.raises(ImageError, match=rf"/data/x\.png' cannot be had: {studio.url} answered {status}"):
        load(loader(studio), "/data/x.png?signature=secret")


def test_failures_are_not_kept(studio: FakeLabelStudio) -> None:
    images = loader(studio)
    with pytest.raises(ImageError):
        load(images, "/data/late.png")
    studio.files["/data/late.png"] = png()
    assert load(images, "/data/late.png").shape == (6, 8, 3)


# Other hosts


def test_a_storage_is_asked_through_label_studio_and_its_redirect_is_guarded(
    studio: FakeLabelStudio, elsewhere: FakeLabelStudio
) -> None:
    signed = "/bucket/a.png?X-Signature=a%2Fb%2Bc%3D&e=1"
    elsewhere.routes[signed] = reply(200, png())
    target = elsewhere.url.replace("127.0.0.1", "localhost") + signed
    studio.routes[presign("s3://bucket/a.png")] = reply(303, Location=target)
    address = askable("s3://bucket/a.png", 7)
    with pytest.raises(ImageError, match=r"'s3://bucket/a.png' cannot be had.*localhost.*IHP_ALLOWED_HOSTS"):
        load(loader(studio), address)
    assert elsewhere.requests == []
    images = loader(studio, allowed_hosts=("localhost",), allow_private_addresses=True)
    assert np.array_equal(load(images, address), RED)
    assert elsewhere.requests == [("GET", signed, None)], "as it was signed, and without the token"
    assert studio.requests[-1][2] == f"Token {LEGACY}"


def test_a_storage_that_label_studio_passes_through(studio: FakeLabelStudio) -> None:
    studio.files[presign("gs://bucket/a.png")] = png()
    assert np.array_equal(load(loader(studio), askable("gs://bucket/a.png", 7)), RED)
    studio.files[f"/ls{presign('gs://bucket/a.png')}"] = png()
    below = loader(studio, label_studio_url=f"{studio.url}/ls")
    assert np.array_equal(load(below, askable("gs://bucket/a.png", 7)), RED)


@pytest.mark.parametrize(
    ("status", "why"), [(404, "no storage.*has it"), (424, ".*storage.*does not answer"), (403, "the token.s user")]
)
def test_a_storage_that_is_not_connected_is_told(studio: FakeLabelStudio, status: int, why: str) -> None:
    studio.routes[presign("azure-blob://box/a.png")] = reply(status)
    with pytest.raises(ImageError, match=rf"'azure-blob://box/a.png' cannot be had.*{status}, {why}"):
        load(loader(studio), askable("azure-blob://box/a.png", 7))


def test_uploads_that_label_studio_keeps_in_a_cloud(studio: FakeLabelStudio, elsewhere: FakeLabelStudio) -> None:
    """Then they are not below /data/upload, but where the SDK asks, too."""
    target = elsewhere.url.replace("127.0.0.1", "localhost") + "/b.png"
    studio.routes["/storage-data/uploaded/?filepath=upload/1/cloud.png"] = reply(302, Location=target)
    images = loader(studio, allowed_hosts=("localhost",), allow_private_addresses=True)
    assert np.array_equal(load(images, "/data/upload/1/cloud.png"), RED)
    with pytest.raises(ImageError, match="404"):
        load(images, "/data/upload/1/none.png")


@pytest.mark.parametrize(
    ("told", "url"),
    [
        ("http://outer.example", "http://outer.example/data/upload/1/a.png"),
        ("http://outer.example/", "http://outer.example:80/data/upload/1/a.png"),
        ("http://outer.example", "https://outer.example/data/upload/1/a.png"),
        ("https://outer.example", "http://outer.example/data/upload/1/a.png"),
        ("http://outer.example:8080/ls", "http://OUTER.example:8080/ls/data/upload/1/a.png"),
        ("http://outer.example:8080/ls/", "http://outer.example:8080/data/upload/1/a.png"),
        ("http://outer.example/ls", "/ls/data/upload/1/a.png"),
        ("http://localhost:8080", "http://127.0.0.1:8080/data/upload/1/a.png"),
        ("http://localhost:8080", " //localhost:8080/data/upload/1/a.png"),
    ],
)
@pytest.mark.parametrize("path", ["", "/inner"])
def test_label_studio_may_call_itself_otherwise(studio: FakeLabelStudio, told: str, url: str, path: str) -> None:
    """Between containers, say. It is asked where the settings say, whatever it is called."""
    studio.files[f"{path}/data/upload/1/a.png"] = png()
    images = loader(studio, label_studio_url=studio.url + path)
    image = images.load(url, hostname=None, token=None, told=told)
    assert np.array_equal(image, RED)
    assert studio.requests == [("GET", f"{path}/data/upload/1/a.png", f"Token {LEGACY}")]
    assert images.fetch(url, hostname=None, token=None, told=told) == png()


@pytest.mark.parametrize("name", ["http://localhost", "//localhost", "HTTP://127.0.0.1"])
@pytest.mark.parametrize("told", ["", "http://outer.example"])
def test_every_name_of_this_machine_is_label_studios(studio: FakeLabelStudio, name: str, told: str) -> None:
    url = f"{name}:{studio.url.rpartition(':')[2]}/data/upload/1/a.png"
    assert np.array_equal(loader(studio).load(url, hostname=None, token=None, told=told), RED)
    settings = Settings(fetch_timeout_s=5.0, allow_private_addresses=True)
    assert np.array_equal(ImageLoader(settings).load(url, hostname=studio.url, token=LEGACY), RED)


@pytest.mark.parametrize(
    "url", ["http://outer.example:8081/a.png", "http://outer.example.evil/a.png", "http://a.example/a.png"]
)
def test_what_label_studio_does_not_call_itself_is_another_host(studio: FakeLabelStudio, url: str) -> None:
    with pytest.raises(ImageError, match="IHP_ALLOWED_HOSTS"):
        loader(studio).load(url, hostname=None, token=None, told="http://outer.example:8080")
    assert studio.requests == []


@pytest.mark.parametrize("told", ["http://[", "nonsense", "ftp://a.example", "http://user:x@a.example", "//", "/ls"])
def test_a_name_that_is_none_changes_nothing(studio: FakeLabelStudio, told: str) -> None:
    for url in ("/data/upload/1/a.png", f"{studio.url}/data/upload/1/a.png"):
        assert np.array_equal(loader(studio).load(url, hostname=None, token=None, told=told), RED)


def test_a_redirect_to_the_name_that_label_studio_has_for_itself(studio: FakeLabelStudio) -> None:
    studio.routes["/data/here.png"] = reply(302, Location="http://outer.example/data/upload/1/a.png")
    image = loader(studio).load("/data/here.png", hostname=None, token=None, told="http://outer.example")
    assert np.array_equal(image, RED)


# Limits


def test_too_many_pixels(studio: FakeLabelStudio) -> None:
    with pytest.raises(ImageError, match="IHP_MAX_IMAGE_PIXELS"):
        load(loader(studio, max_image_pixels=47), "/data/upload/1/a.png")


def test_a_slow_download_does_not_block_others_and_is_shared(studio: FakeLabelStudio) -> None:
    studio.files["/data/slow.png"] = png()
    images = loader(studio)
    load(images, "/data/upload/1/a.png")
    studio.delay_s = 0.8
    found: list[Any] = []
    threads = [Thread(target=lambda: found.append(load(images, "/data/slow.png"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    started = time.monotonic()
    load(images, "/data/upload/1/a.png")
    assert time.monotonic() - started < 0.4
    for thread in threads:
        thread.join()
    assert studio.paths().count("/data/slow.png") == 1
    assert found[0] is found[1] is found[2]


# Local files and data URLs


def test_local_files_are_read_below_their_root_only(studio: FakeLabelStudio, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    (root / "deep").mkdir(parents=True)
    (root / "deep/a b.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png())
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(root / "pipe.png")
    images = loader(studio, local_files_root=root)
    assert np.array_equal(load(images, "/data/local-files/?d=" + quote("deep/a b.png")), RED)
    for name in ("../secret.png", "link.png", "/etc/passwd", "deep", "pipe.png", "none.png", "", "a\0b"):
        with pytest.raises(ImageError):
            load(images, "/data/local-files/?d=" + quote(name))
    assert studio.requests == []
    # As Label Studio takes them: from the root on, the last one, and with the backslashes of a Windows machine.
    for query in ("d=/deep/a%20b.png", "d=//deep//a%20b.png", "d=deep/../deep/./a%20b.png", "d=none&d=deep/a%20b.png"):
        assert np.array_equal(load(images, f"/data/local-files/?{query}"), RED)
    assert np.array_equal(load(images, "/data/local-files/?d=" + quote("deep\\a b.png")), RED)
    assert np.array_equal(load(images, "/data/local-files?d=deep/a+b.png"), RED)
    for name in ("..\\secret.png", "/../../secret.png", "\\..\\secret.png"):
        with pytest.raises(ImageError):
            load(images, "/data/local-files/?d=" + quote(name))
    assert studio.requests == []


def test_a_pipe_is_no_local_file_even_where_an_image_comes_out_of_it(studio: FakeLabelStudio, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    both_ends = os.open(tmp_path / "pipe.png", os.O_RDWR)
    try:
        os.write(both_ends, png())
        with pytest.raises(ImageError, match="is not a file"):
            load(loader(studio, local_files_root=tmp_path), "/data/local-files/?d=pipe.png")
    finally:
        os.close(both_ends)


def test_local_files_come_through_label_studio_where_no_root_is_set(studio: FakeLabelStudio) -> None:
    studio.files["/data/local-files/?d=deep/a.png"] = png()
    assert np.array_equal(load(loader(studio), "/data/local-files/?d=deep/a.png"), RED)


def test_data_urls() -> None:
    images = loader()
    coded = base64.b64encode(png()).decode()
    assert np.array_equal(load(images, f"data:image/png;base64,{coded}"), RED)
    assert np.array_equal(load(images, f"data:image/png;base64,{quote(coded)}"), RED)
    assert np.array_equal(load(images, f"data:image/png,{quote(png())}"), RED)
    for bad in ("data:image/png;base64", "data:image/png;base64,%%%", "data:,", "data:text/plain,hello"):
        with pytest.raises(ImageError):
            load(images, bad)
    with pytest.raises(ImageError, match="IHP_MAX_IMAGE_BYTES"):
        load(loader(max_image_bytes=40), f"data:image/png;base64,{coded}")


def test_a_label_studio_below_a_path(studio: FakeLabelStudio) -> None:
    studio.files["/ls/data/upload/1/a.png"] = png()
    images = loader(studio, label_studio_url=f"{studio.url}/ls")
    assert np.array_equal(load(images, "/data/upload/1/a.png"), RED)
    assert load(images, "/ls/data/upload/1/a.png").shape == RED.shape
