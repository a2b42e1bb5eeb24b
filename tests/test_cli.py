from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from fakes import TOKEN, ImageHost, golden
from label_studio_sdk.converter.brush import decode_rle
from server_process import ENVIRONMENT, server

from ihp_backend import __version__, cli
from ihp_backend.network.parser import HumanParser, ParserConfig
from ihp_backend.network.weights import save_parser
from ihp_backend.serving import process


def ihp(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ihp_backend", *arguments],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_help_teaches_and_imports_no_command() -> None:
    answer = CliRunner().invoke(cli.main, ["--help"])
    assert answer.exit_code == 0
    assert "IHP_" in answer.output
    for name, (_, what) in cli.COMMANDS.items():
        assert name in answer.output
        assert what in answer.output
    code = (
        "import sys; from ihp_backend.cli import main; main(['--help'], standalone_mode=False); "
        "assert not {'torch', 'flask', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_of_its_own(name: str) -> None:
    answer = CliRunner().invoke(cli.main, [name, "--help"])
    assert answer.exit_code == 0, answer.output
    assert len(answer.output) > 100


def test_the_module_is_the_command() -> None:
    done = ihp("--version")
    assert __version__ in done.stdout
    unknown = ihp("fly")
    assert unknown.returncode == 2
    assert "fly" in unknown.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::"])
def test_serve_wants_a_password_beyond_loopback(host: str) -> None:
    done = ihp("serve", "--host", host)
    assert done.returncode == 1
    assert "IHP_BASIC_AUTH_PASSWORD" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_wants_to_know_where_a_token_goes() -> None:
    done = ihp("serve", IHP_LABEL_STUDIO_TOKEN="secret")
    assert done.returncode == 1
    assert "IHP_LABEL_STUDIO_URL" in done.stderr
    assert "secret" not in done.stderr


def test_serve_explains_a_bad_setting() -> None:
    done = ihp("serve", IHP_PORT="ninety")
    assert done.returncode == 1
    assert "IHP_PORT" in done.stderr
    assert "ninety" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def tiny_weights(tmp_path: Path) -> Path:
    """A real network, untrained and small."""
    folder = tmp_path / "tiny"
    save_parser(HumanParser(ParserConfig(width=8, area=64 * 64)), folder, {"version": "tiny-1"})
    return folder


def test_half_requests_stop_nobody(tmp_path: Path, tiny_weights: Path) -> None:
    """More of them than there are threads, silent ones, and some that reuse a connection; none is waited for."""
    with server(tmp_path, IHP_WEIGHTS=str(tiny_weights), IHP_QUEUE_LIMIT="4", IHP_TRAINER="false") as (url, process, _):
        port = int(url.rpartition(":")[2])
        with ExitStack() as stack:
            half = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 5)) for _ in range(30)]
            for number, connection in enumerate(half):
                if number % 3 == 1:
                    connection.sendall(b"GET / HT")
                if number % 3 == 2:
                    connection.sendall(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n")
                    assert b"200" in connection.recv(4096)
                    connection.sendall(b"POST /predict HTTP/1.1\r\nHost:")
            for _ in range(3):
                assert requests.get(f"{url}/live", timeout=2).ok
            half[1].sendall(b"TP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in half[1].recv(4096), "one that is finished is answered"
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def wait_until_asked(host: ImageHost) -> None:
    """Waits until the photo is asked for; after /setup, the project is asked for as well."""
    for _ in range(100):
        if any(path.startswith("/data/") for path in host.requests):
            break
        time.sleep(0.05)


def test_serve_answers_a_click_in_flight_before_it_stops(
    tmp_path: Path, tiny_weights: Path, image_host: ImageHost
) -> None:
    environment = {"IHP_WEIGHTS": str(tiny_weights), "IHP_ALLOW_PRIVATE_ADDRESSES": "true"}
    with server(tmp_path, **environment) as (url, process, log), ThreadPoolExecutor() as pool:
        told = golden("setup") | {"hostname": image_host.url, "access_token": TOKEN}
        assert requests.post(f"{url}/setup", json=told, timeout=10).json() == {
            "model_version": "tiny-1",
            "label_set": "lip",
        }
        refused = requests.post(f"{url}/predict", data="{", timeout=5, headers={"Content-Type": "application/json"})
        assert refused.status_code == 400
        assert "JSON" in refused.reason
        image_host.delay_s = 1.0
        answer = pool.submit(requests.post, f"{url}/predict", json=golden("predict_click"), timeout=20)
        wait_until_asked(image_host)
        process.send_signal(signal.SIGTERM)
        (item,) = answer.result().json()["results"]
        assert item["model_version"] == "tiny-1"
        (region,) = item["result"]
        value = golden("predict_click")["params"]["context"]["result"][0]["value"]
        alpha = decode_rle(region["value"]["rle"]).reshape(480, 640, 4)[..., 3]
        assert alpha[int(value["y"] * 4.8), int(value["x"] * 6.4)] == 255
        assert process.wait(20) == 0, log.read_text()
    lines = log.read_text()
    assert "method=POST path=/predict status=400" in lines
    assert f"request={refused.headers['X-Request-ID']}" in lines
    assert TOKEN not in lines


def test_a_worker_that_is_killed_in_mid_request_is_replaced(
    tmp_path: Path, tiny_weights: Path, image_host: ImageHost
) -> None:
    environment = {"IHP_WEIGHTS": str(tiny_weights), "IHP_ALLOW_PRIVATE_ADDRESSES": "true", "IHP_TRAINER": "false"}
    with server(tmp_path, **environment) as (url, process, log), ThreadPoolExecutor() as pool:
        told = golden("setup") | {"hostname": image_host.url, "access_token": TOKEN}
        assert requests.post(f"{url}/setup", json=told, timeout=10).ok
        image_host.delay_s = 5.0
        lost = pool.submit(requests.post, f"{url}/predict", json=golden("predict_click"), timeout=20)
        wait_until_asked(image_host)
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(worker), signal.SIGKILL)
        with pytest.raises(requests.ConnectionError):
            lost.result()
        image_host.delay_s = 0.0
        for _ in range(300):
            with suppress(requests.RequestException):
                if requests.get(f"{url}/ready", timeout=1).ok:
                    break
            time.sleep(0.1)
        answer = requests.post(f"{url}/predict", json=golden("predict_click"), timeout=20)
        assert answer.json()["results"][0]["result"], "what /setup told is on disk: the new worker knows it"
        assert process.poll() is None, log.read_text()


def test_a_process_is_prepared_where_there_is_no_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", missing)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    process.prepare()
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
