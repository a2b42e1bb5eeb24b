from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, sync_playwright
from running_demo import SHOTS, Demo, free_port, start_demo, stop_demo
from studio import Studio

from ihp_backend.data.synthetic import draw_person


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    data_dir = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "ihp_backend", "demo", "--data-dir", str(data_dir)]
    command += ["--port", str(free_port()), "--backend-port", str(free_port())]
    running = start_demo(command, data_dir, 700)
    running.client.import_files(running.project, drawn_people(running.data_dir / "photos"))
    yield running
    if running.process.poll() is None:
        stop_demo(running)
    for log in (data_dir / "logs").glob("*.log"):
        SHOTS.mkdir(exist_ok=True)
        shutil.copy(log, SHOTS)


def drawn_people(folder: Path) -> list[Path]:
    """Six people from head to foot, person-1.jpg and so on."""
    files = [folder / f"person-{number + 1}.jpg" for number in range(6)]
    for number, file in enumerate(files):
        image, _ = draw_person(np.random.default_rng(number), 720, 480)
        cv2.imwrite(str(file), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    return files


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "Chromium is missing; `make e2e` installs it"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


@pytest.fixture
def studio(browser: Browser, demo: Demo) -> Iterator[Studio]:
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    studio = Studio(page, demo.url, SHOTS)
    studio.log_in(demo.user, demo.password)
    yield studio
    studio.shot("last")
    page.close()
