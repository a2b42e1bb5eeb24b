"""What `ihp demo` and `ihp connect` are made of; the whole of them runs in tests/e2e."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fake_label_studio import LEGACY, FakeLabelStudio
from PIL import Image

from ihp_backend.cli import main
from ihp_backend.commands.demo import Project, instructions, learning_in
from ihp_backend.demo.photos import PhotosError, default_photos, photos_in
from ihp_backend.demo.processes import Children, ProcessError, require_free
from ihp_backend.demo.project import (
    BackendAccess,
    check_label_config,
    connect_backend,
    demo_title,
    explain_refusal,
    find_project,
    hotkeys,
    import_new,
    label_config_of,
    missing_weights,
)
from ihp_backend.demo.stack import Credentials, alone, backend_environment, credentials_in
from ihp_backend.label_studio.api_session import LabelStudioError
from ihp_backend.label_studio.client import Client
from ihp_backend.label_studio.label_config import LabelConfig, LabelConfigError
from ihp_backend.parts import SCHEMAS


class KeptCalls:
    """Label Studio's API as the demonstration uses it; keeps what it is asked."""

    def __init__(self, images: tuple[str, ...] = (), backends: tuple[tuple[str, str], ...] = ()) -> None:
        self.images, self.backends = images, backends
        self.calls: list[tuple[Any, ...]] = []

    def list_projects(self) -> list[dict[str, Any]]:
        return [{"id": 1, "title": "a", "description": "/x/a"}, {"id": 2, "title": "a", "description": None}]

    def list_tasks(self, project: int) -> list[dict[str, Any]]:
        return [{"data": {"image": image}} for image in self.images]

    def import_files(self, project: int, files: list[Path]) -> int:
        self.calls.append(("import", [f.name for f in files]))
        return len(files)

    def list_ml_backends(self, project: int) -> list[dict[str, Any]]:
        return [{"id": i, "title": title, "url": url} for i, (title, url) in enumerate(self.backends, 5)]

    def put_ml_backend(self, project: int, url: str, *, known: int | None, user: str, **_: Any) -> None:
        self.calls.append(("put", known, url, user))

    def put_webhook(self, project: int, url: str, *, headers: dict[str, str], instead_of: list[str]) -> None:
        self.hook = (url, headers, instead_of)

    def delete_ml_backend(self, backend: int) -> None:
        self.calls.append(("delete", backend))

    def patch_project(self, project: int, **fields: Any) -> None:
        self.calls.append(("patch", fields))


PORTRAIT, TWO, FACE = "grace-hopper.jpg", "two-people.jpg", "grace-hopper-face.jpg"


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ("lip", {PORTRAIT}),
        ("cihp", {PORTRAIT, TWO}),
        ("pascal-person-part", {PORTRAIT, TWO}),
        ("helen", {PORTRAIT, TWO, FACE}),
    ],
)
def test_each_label_set_gets_real_photos_that_suit_it(
    schema: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "skimage"  # comes with `make run`; matplotlib is always there
    (packages / "data").mkdir(parents=True)
    (packages / "__init__.py").write_text("")
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    for name in ("astronaut.png", "camera.png"):
        Image.fromarray(noise).save(packages / "data" / name)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    photos = default_photos(tmp_path / "photos", schema)
    names = {photo.name for photo in photos}
    assert expected <= names
    assert not (({PORTRAIT, TWO, FACE} - expected) & names)
    assert ("photographer.png" in names) == (schema != "helen"), "his face is small"
    for photo in photos:
        with Image.open(photo) as image:
            assert min(image.size) >= 400
            assert np.asarray(image.convert("RGB")).std() > 20
    assert default_photos(tmp_path / "photos", schema) == photos
    assert names <= {photo.name for photo in photos_in(tmp_path / "photos")}


def test_each_label_set_has_a_project_of_its_own() -> None:
    titles = [demo_title(schema) for schema in SCHEMAS]
    assert titles[0] == "Human parsing", "as before there were others"
    assert len(set(titles)) == 4
    long = {demo_title(schema, "x" * 80) for schema in SCHEMAS}
    assert len(long) == 4
    assert all(len(title) <= 50 for title in long), "Label Studio's limit"


def test_a_label_set_without_weights_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer:
        def json(self) -> Any:
            return {"label_sets": {"lip": "lip-3"}}

    monkeypatch.setattr("ihp_backend.demo.project.requests.get", lambda *args, **options: Answer())
    access = BackendAccess("http://b:9090")
    assert missing_weights(access, "lip") == ""
    assert "no weights of the label set helen (it has lip)" in missing_weights(access, "helen")


def test_a_folder_of_photos(tmp_path: Path) -> None:
    with pytest.raises(PhotosError, match="has no images"):
        photos_in(tmp_path)
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in photos_in(tmp_path)] == ["a.png", "b.JPG"]
    with pytest.raises(PhotosError, match="not a folder"):
        photos_in(tmp_path / "none")


def test_only_new_photos_are_imported() -> None:
    client = KeptCalls(
        (
            "/data/upload/1/0a1b2c3d-person-1.jpg",
            "/data/upload/1/ffff0000-my_cat.png",
            "/data/upload/1/ffff0001-%C3%BCn%C3%AF.JPG",
        )
    )
    photos = [Path(n) for n in ("person-1.jpg", "person-11.jpg", "my cat.png", "1.jpg", "ünï.JPG")]
    assert import_new(client, 1, photos) == 2  # type: ignore[arg-type]
    assert client.calls == [("import", ["person-11.jpg", "1.jpg"])]
    assert import_new(client, 1, photos[:1]) == 0  # type: ignore[arg-type]


def test_a_new_connection_starts_empty() -> None:
    client = KeptCalls()
    connect_backend(client, 1, BackendAccess("http://b:9090/"))  # type: ignore[arg-type]
    off = {"show_collab_predictions": False, "evaluate_predictions_automatically": False}
    assert client.calls == [("put", None, "http://b:9090", ""), ("patch", off)]
    connect_backend(client, 1, BackendAccess("http://b:9090"), preannotate=True)  # type: ignore[arg-type]
    assert client.calls[-1] == ("patch", dict.fromkeys(off, True))


def test_an_earlier_connection_of_ours_is_moved_and_others_stay() -> None:
    """Of several, Label Studio's interface asks the first, whether or not it answers."""
    ours = "Interactive human parsing"
    client = KeptCalls(backends=(("SAM", "http://s:1"), (ours, "http://b:9090"), (ours, "http://b:9091")))
    connect_backend(client, 1, BackendAccess("http://b:9092", "u", "p"))  # type: ignore[arg-type]
    assert client.calls[:2] == [("put", 6, "http://b:9092", "u"), ("delete", 7)]
    basic = {"Authorization": "Basic dTpw"}
    assert client.hook == ("http://b:9092/webhook", basic, ["http://b:9090/webhook", "http://b:9091/webhook"])


def test_a_name_without_a_dot_gets_a_message_of_its_own() -> None:
    """Label Studio takes such an address for clicks, but not for events."""

    class NoSuchName(KeptCalls):
        def put_webhook(self, project: int, url: str, **_: Any) -> None:
            raise LabelStudioError("POST /api/webhooks/ got 400: {'url': ['Enter a valid URL.']}", status=400)

    with pytest.raises(LabelStudioError, match=r"http://b:9090.*without a dot.*gpu1\.lan"):
        connect_backend(NoSuchName(), 1, BackendAccess("http://b:9090"))  # type: ignore[arg-type]


def test_two_folders_of_one_name_are_two_projects() -> None:
    client = KeptCalls()
    assert find_project(client, "a", "/x/a")["id"] == 1  # type: ignore[arg-type, index]
    assert find_project(client, "a")["id"] == 2  # type: ignore[arg-type, index]
    assert find_project(client, "a", "/y/a") is None  # type: ignore[arg-type]


def test_a_second_demo_keeps_away_from_the_data_of_the_first(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(ProcessError, match=f"{tmp_path} is in use"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_variables_of_another_deployment_do_not_reach_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IHP_BASIC_AUTH_PASSWORD", "IHP_HOST", "IHP_LABEL_STUDIO_TOKEN_FILE"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("IHP_DEVICE", "cpu")
    environ = backend_environment("http://l:8080", Path("/d"), Credentials("u", "p", "t"))
    ours = {name: value for name, value in environ.items() if name.startswith("IHP_")}
    assert ours.keys() == {"IHP_DEVICE", "IHP_DATA_DIR", "IHP_LABEL_STUDIO_URL", "IHP_LABEL_STUDIO_TOKEN"}


def test_the_refusal_of_a_private_address_names_the_setting() -> None:
    error = LabelStudioError("http://x answered 403: URL resolves to a reserved network address", status=403)
    explained = explain_refusal(error, "http://127.0.0.1:9090")
    assert "ML_BLOCK_LOCAL_IP=false" in explained.remedy
    assert "127.0.0.1:9090" in explained.reason
    # The address is no reason.
    other = explain_refusal(LabelStudioError("http://localhost:9 got 400: no answer", status=400), "http://localhost:9")
    assert "ihp serve" in other.remedy
    other = explain_refusal(LabelStudioError("http://x answered 400: no answer", status=400), "http://b:9090")
    assert "ihp serve" in other.remedy


@pytest.mark.parametrize("schema", SCHEMAS)
def test_each_schema_has_a_ready_config(schema: str) -> None:
    assert LabelConfig.parse(label_config_of(schema)).keypoint == "click"


def test_the_instructions_say_which_key_does_what() -> None:
    keys = hotkeys(label_config_of("lip"))
    assert ("1", "Face") in keys
    assert len(keys) == 19
    others = [Project("Human parsing: Helen, faces", "http://a/projects/4/data")]
    learning = learning_in("http://b", Path("/data it is"))
    project = Project("Human parsing", "http://a/projects/1/data")
    text = instructions(project, Credentials("u", "p", "t"), keys, others, learning)
    assert re.search(r"(?m)^    http://b/trainings$", text)
    assert re.search(r"(?m)^    IHP_DATA_DIR='/data it is/backend' \S+/ihp versions list$", text)
    assert re.findall(r"(?m)^ +address +(\S+)$", text) == ["http://a/projects/1/data"]
    assert "http://a/projects/4/data   Human parsing: Helen, faces" in text
    for key, label in keys:
        assert re.search(rf"(?m)(^|\s){key.upper()} {label}(\s|$)", text)


def test_the_password_is_made_once_and_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "deep/credentials.json"
    made = credentials_in(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert credentials_in(path) == made
    assert len(made.token) == 40
    assert len(made.password) >= 12


# Processes


def test_a_taken_port_is_named_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ProcessError, match=rf"port {port} for Label Studio is taken.*PORT="):
            require_free(port, "Label Studio", "PORT=... make run")
    require_free(port, "Label Studio", "PORT=... make run")


def test_children_stop_with_the_block_and_take_theirs_along(tmp_path: Path) -> None:
    script = "import subprocess, time; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); time.sleep(60)"
    with Children(tmp_path) as children:
        children.start("parent", [sys.executable, "-c", script], os.environ)
        until = time.monotonic() + 20
        while not (said := (tmp_path / "parent.log").read_text().strip()) and time.monotonic() < until:
            time.sleep(0.05)
        children.check()
    time.sleep(0.2)
    state = Path(f"/proc/{said}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_a_child_that_stops_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        children.start("backend", [sys.executable, "-c", "print('no weights here'); raise SystemExit(3)"], os.environ)
        with pytest.raises(ProcessError, match=r"(?s)backend stopped with status 3.*no weights here"):
            children.wait_for("backend", "http://127.0.0.1:9/health", 30)


def test_a_child_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        children.start("backend", ["sleep", "60"], os.environ)
        with pytest.raises(ProcessError, match="did not answer"):
            children.wait_for("backend", "http://127.0.0.1:9/health", 0.5)


def test_ctrl_c_stops_the_demo_even_where_the_shell_ignores_it(tmp_path: Path) -> None:
    """A shell starts a background job with SIGINT ignored."""
    sleeper = tmp_path / "label-studio"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o755)
    with socket.socket() as a, socket.socket() as b:
        for probe in (a, b):
            probe.bind(("127.0.0.1", 0))
        ports = [str(s.getsockname()[1]) for s in (a, b)]
    command = [sys.executable, "-m", "ihp_backend", "demo", "--data-dir", str(tmp_path / "run")]
    Image.new("RGB", (9, 9)).save(tmp_path / "one.png")
    command += [
        "--images",
        str(tmp_path),
        "--port",
        ports[0],
        "--backend-port",
        ports[1],
        "--label-studio",
        str(sleeper),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    until = time.monotonic() + 60
    while not (tmp_path / "run/logs/backend.log").exists() and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 0, output
    assert "everything is kept" in output


# Commands


def test_demo_says_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["demo", "--label-studio", str(tmp_path / "none"), "--data-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "make run" in result.output


def test_connect_says_what_is_wrong() -> None:
    runner = CliRunner()
    neither = runner.invoke(main, ["connect", "--url", "http://127.0.0.1:9", "--token", "a" * 40])
    assert neither.exit_code == 2
    assert "--project" in neither.output
    closed = runner.invoke(main, ["connect", "--url", "http://127.0.0.1:9", "--token", "a" * 40, "--project", "1"])
    assert closed.exit_code == 1
    assert "cannot be reached" in closed.output
    assert "a" * 40 not in closed.output


@pytest.mark.parametrize("option", ["--url", "--backend"])
@pytest.mark.parametrize("address", ["127.0.0.1:9090", "localhost:9090", "http://", "ftp://a.example", "backend"])
def test_connect_tells_an_address_that_is_none_before_anything_is_asked(option: str, address: str) -> None:
    with FakeLabelStudio() as studio:
        given = {"--url": studio.url, "--backend": "http://b.example:9090", option: address}
        words = [word for pair in given.items() for word in pair]
        done = CliRunner().invoke(main, ["connect", *words, "--token", LEGACY, "--project", "1"])
        assert done.exit_code == 2
        assert f"{option} is '{address}'; expected such as http://" in done.output
        assert "ML_BLOCK_LOCAL_IP" not in done.output
        assert studio.requests == []


def test_connect_refuses_a_config_with_a_click_that_nothing_answers() -> None:
    class Studio:
        def get_project(self, number: int) -> dict[str, str]:
            return {"label_config": label_config_of("lip").replace('"Face"', '"Gesicht"', 1)}

    with pytest.raises(LabelConfigError, match=r"'Gesicht'.*lacks"):
        check_label_config(Studio(), {"id": 1})  # type: ignore[arg-type]


def test_preannotate_tells_its_own_option() -> None:
    done = CliRunner().invoke(main, ["preannotate", "--project", "1", "--url", "127.0.0.1:8080"])
    assert done.exit_code == 2
    assert "--url is '127.0.0.1:8080'" in done.output


def test_the_client_shows_validation_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests
    from urllib3 import HTTPResponse

    response = requests.Response()
    response.status_code = 400
    told = json.dumps({"detail": "Validation error", "validation_errors": {"url": ["no"]}}).encode()
    response.raw = HTTPResponse(io.BytesIO(told), preload_content=False)
    monkeypatch.setattr(requests.Session, "request", lambda *args, **kwargs: response)
    with pytest.raises(LabelStudioError, match=r"Validation error.*url"):
        Client("http://a.example", "a" * 40).post("/api/ml/", {})
