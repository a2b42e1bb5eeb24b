"""Many annotators without a pause, for minutes: does an answer fail, does the memory grow?"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Thread

import numpy as np

from ihp_backend.experiments.benchmark import PLACES, ServerUnderTest, draw_photo, place, serving

_TENTHS = 10
_PHOTOS_EACH = 3


@dataclass
class Soak:
    """What came of it.

    Attributes:
        seconds: How long it took, from the first request to the last answer.
        taken: Time of each answer with a mask, in milliseconds.
        failures: What went wrong, once for each request that failed.
        memory_mb: Resident memory of the server at the start and at each tenth of the time, in MB.
        peak_mb: The greatest there was.
    """

    seconds: float = 0.0
    taken: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    peak_mb: float = 0.0

    def lines(self) -> list[str]:
        """Returns all of it as text."""
        median, p95 = np.percentile(self.taken, (50, 95)) if self.taken else (0.0, 0.0)
        return [
            f"{len(self.taken)} answers in {self.seconds:.0f} s, {len(self.failures)} failures",
            f"an answer takes {median:.0f} ms, p95 {p95:.0f} ms",
            f"memory in MB {' '.join(f'{mb:.0f}' for mb in self.memory_mb)}, at most {self.peak_mb:.0f}",
            *sorted(set(self.failures))[:5],
        ]


def soak(weights: str, seconds: float, clients: int) -> Soak:
    """Lets annotators click, correct and open tasks on photos that come again and on new ones.

    Args:
        weights: Name in model_weights/, or a folder.
        seconds: For how long requests are begun; each is waited for.
        clients: How many annotators.
    """
    found = Soak()
    photos = {"p": draw_photo(1024, 768), "large": draw_photo(4000, 3000)}
    with serving(photos, weights) as server:
        start = time.monotonic()
        until = start + seconds
        watcher = Thread(target=_watch, args=(server, found, start, seconds), daemon=True)
        watcher.start()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(lambda who: _annotate(server, found, who, until), range(clients)))
        found.seconds = time.monotonic() - start
        watcher.join()
        found.memory_mb.append(server.memory_mb())
        found.peak_mb = server.peak_mb()
    return found


def _watch(server: ServerUnderTest, found: Soak, start: float, seconds: float) -> None:
    for tenth in range(_TENTHS):
        time.sleep(max(0.0, start + seconds * tenth / _TENTHS - time.monotonic()))
        found.memory_mb.append(server.memory_mb())


def _annotate(server: ServerUnderTest, found: Soak, who: int, until: float) -> None:
    number = 0
    while time.monotonic() < until:
        began = time.perf_counter()
        try:
            _work(server, who, number)
        except Exception as error:
            found.failures.append(f"{type(error).__name__}: {error}"[:200])
            time.sleep(0.1)  # a server that is down is not asked a thousand times a second
        else:
            found.taken.append(1000 * (time.perf_counter() - began))
        number += 1


def _work(server: ServerUnderTest, who: int, number: int) -> None:
    """One request: mostly a click, sometimes a correction, a task that is opened, a photo not seen, or a large one."""
    label = list(PLACES)[number % len(PLACES)]
    photo = f"p/new-{who}-{number}" if number % 10 == 9 else f"p/{who}-{number % _PHOTOS_EACH}"
    if number % 25 == 24:
        photo = f"large/{who % 4}"
    click = place(label, number)
    clicks = {3: [click, ("Face", 0.52, 0.2, False)], 6: None}.get(number % 8, [click])
    server.predict(photo, clicks, 10_000 * who + number)
