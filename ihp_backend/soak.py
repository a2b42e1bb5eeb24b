"""Many annotators for minutes: does an answer fail, does the memory grow?"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np

from ihp_backend.benchmark import ServerUnderTest, draw_photo, serving

_PLACES = {"Face": (0.5, 0.13), "Upper-clothes": (0.5, 0.36), "Left-arm": (0.57, 0.42), "Left-shoe": (0.54, 0.95)}
_PHOTOS_EACH = 3


@dataclass(frozen=True)
class Soak:
    """What came of it.

    Attributes:
        seconds: How long it took.
        answers: Answers with a mask.
        failures: What went wrong, once for each answer.
        median_ms: Time of an answer.
        p95_ms: 95th percentile of it.
        memory_mb: Resident memory of the server at each tenth, in MB; the caches fill in the first ones.
    """

    seconds: float
    answers: int
    failures: tuple[str, ...]
    median_ms: float
    p95_ms: float
    memory_mb: tuple[float, ...]

    @property
    def growth(self) -> float:
        """Growth of the memory over the second half, as a share."""
        half = self.memory_mb[len(self.memory_mb) // 2]
        return self.memory_mb[-1] / half - 1


def soak(weights: str, seconds: float, clients: int = 16) -> Soak:
    """Lets annotators click, correct and open tasks without a pause, on photos that come again and on new ones.

    Args:
        weights: Name in model_weights/, or a folder.
        seconds: For how long.
        clients: How many annotators.
    """
    taken: list[float] = []
    failures: list[str] = []
    lock = Lock()
    with serving({"p": draw_photo(800, 600)}, weights) as server:
        start = time.monotonic()

        def annotate(who: int) -> None:
            number = 0
            while time.monotonic() - start < seconds:
                began = time.perf_counter()
                try:
                    _work(server, who, number)
                except Exception as error:
                    with lock:
                        failures.append(f"{type(error).__name__}: {error}"[:200])
                else:
                    with lock:
                        taken.append(1000 * (time.perf_counter() - began))
                number += 1

        with ThreadPoolExecutor(clients) as pool:
            annotators = [pool.submit(annotate, who) for who in range(clients)]
            memory = []
            for tenth in range(1, 11):
                time.sleep(max(0.0, start + seconds * tenth / 10 - time.monotonic()))
                memory.append(server.memory_mb())
            for annotator in annotators:
                annotator.result()
        took = time.monotonic() - start
    median, p95 = (float(np.percentile(taken, share)) for share in (50, 95)) if taken else (0.0, 0.0)
    return Soak(took, len(taken), tuple(failures), median, p95, tuple(memory))


def _work(server: ServerUnderTest, who: int, number: int) -> None:
    """One request: mostly a click, sometimes a correction, a task that is opened, or a photo that nobody has seen."""
    label = list(_PLACES)[number % len(_PLACES)]
    photo = f"p/new-{who}-{number}" if number % 10 == 9 else f"p/{who}-{number % _PHOTOS_EACH}"
    click = (label, *_PLACES[label], True)
    clicks = {3: [click, ("Face", 0.52, 0.2, False)], 6: None}.get(number % 8, [click])
    server.predict(photo, clicks, 10_000 * who + number)
