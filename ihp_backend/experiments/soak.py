"""Annotators without a pause, for minutes, perhaps among hostile clients: does an answer fail, does the memory grow?"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event, Thread

import numpy as np
import requests

from ihp_backend.experiments.hostile_clients import Outcomes, attack
from ihp_backend.experiments.server_under_test import PLACES, ServerUnderTest, draw_photo, place, serving

MOST_MB = 2_500
"""What a backend may take, as docs/deploy.md states it."""
MOST_SLOWER = 3.0
"""How many times longer the innocent may wait, at the 95th percentile, than while nobody is hostile."""
MOST_REFUSED = 0.01
"""Share of the innocent's requests that may get 503."""
MOST_GROWTH = 1.1
"""Memory is flat if the last third's median is at most so many times the middle one's."""
_LIVE_S = 5.0
"""A server that does not answer /live in that time has stopped."""
_QUIET_SHARE = 0.2
_PHOTOS_EACH = 3
_EVERY_S = 0.5


@dataclass
class PhaseResult:
    """What came of the innocent in one phase.

    Attributes:
        taken: Time of each answer with a mask, in milliseconds.
        refused: How many requests got 503.
        failures: What else went wrong, once for each request that failed.
    """

    taken: list[float] = field(default_factory=list)
    refused: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def p95(self) -> float:
        """The 95th percentile of the times, in milliseconds; 0 without an answer."""
        return float(np.percentile(self.taken, 95)) if self.taken else 0.0

    def line(self) -> str:
        """Returns all of it as text."""
        median = float(np.median(self.taken)) if self.taken else 0.0
        return (
            f"{len(self.taken)} answers, {self.refused} refused, {len(self.failures)} failures, "
            f"an answer takes {median:.0f} ms, p95 {self.p95:.0f} ms"
        )


@dataclass
class Soak:
    """What came of it.

    Attributes:
        seconds: How long it took, from the first request to the last answer, without the quiet phase.
        annotators: The innocent.
        quiet: The same number of them before, while nobody was hostile; ``None`` if nobody was.
        hostile: What came of hostile requests.
        memory_mb: Resident memory of the server's processes every half second, in MB.
        stops: What was seen of a server that stopped: a worker that is another one, /live without an answer.
    """

    seconds: float = 0.0
    annotators: PhaseResult = field(default_factory=PhaseResult)
    quiet: PhaseResult | None = None
    hostile: Outcomes = field(default_factory=Outcomes)
    memory_mb: list[float] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)

    def thirds(self) -> list[float]:
        """Returns the median memory of each third of the time, in MB."""
        return [float(np.median(third)) for third in np.array_split(self.memory_mb, 3) if len(third)]

    def broken(self) -> list[str]:
        """Names each bound that did not hold."""
        found = [*self.stops, *self.hostile.broken()]
        phases = [(self.annotators, MOST_REFUSED if self.quiet else 0.0), *([(self.quiet, 0.0)] if self.quiet else [])]
        for who, most_refused in phases:
            found += sorted(set(who.failures))[:5]
            asked = len(who.taken) + who.refused
            if not who.taken or who.refused > most_refused * asked:
                found.append(f"{who.refused} of {asked} requests were refused")
        if self.quiet is None:
            return found
        if self.annotators.p95 > MOST_SLOWER * self.quiet.p95:
            found.append(f"p95 is {self.annotators.p95:.0f} ms, and {self.quiet.p95:.0f} while nobody is hostile")
        thirds = self.thirds()
        if len(thirds) == 3 and thirds[2] > MOST_GROWTH * thirds[1]:
            found.append(f"memory grows: {thirds[1]:.0f} MB in the middle third, {thirds[2]:.0f} in the last")
        if max(self.memory_mb, default=0.0) > MOST_MB:
            found.append(f"the server took {max(self.memory_mb):.0f} MB; expected at most {MOST_MB}")
        return found

    def lines(self) -> list[str]:
        """Returns all of it as text."""
        tenths = " ".join(f"{max(part):.0f}" for part in np.array_split(self.memory_mb, 10) if len(part))
        thirds = ", ".join(f"{mb:.0f}" for mb in self.thirds())
        return [
            *(["quiet: " + self.quiet.line()] if self.quiet else []),
            f"{self.seconds:.0f} s: {self.annotators.line()}",
            *self.hostile.lines(),
            f"memory in MB, the most in each tenth: {tenths}; median of each third: {thirds}",
        ]


def soak(weights: str, seconds: float, clients: int, hostile: int = 0) -> Soak:
    """Lets annotators click, correct and open tasks on photos that come again and on new ones.

    Args:
        weights: Name in model_weights/, or a folder.
        seconds: For how long requests are begun; each is waited for.
        clients: How many there are.
        hostile: How many of them mean harm. Then the others are alone for a fifth of the time before.
    """
    found = Soak()
    photos = {"p": draw_photo(1024, 768), "large": draw_photo(4000, 3000)}
    innocent = clients - hostile
    with serving(photos, weights) as server:
        if hostile:
            found.quiet = PhaseResult()
            _phase(server, found.quiet, innocent, _QUIET_SHARE * seconds)
        done = Event()
        watcher = Thread(target=_watch, args=(server, found, done), daemon=True)
        watcher.start()
        start = time.monotonic()
        with ThreadPoolExecutor(hostile or 1) as pool:
            attacks = [pool.submit(attack, server.url, found.hostile, who, start + seconds) for who in range(hostile)]
            _phase(server, found.annotators, innocent, seconds)
            for each in attacks:
                each.result()
        found.seconds = time.monotonic() - start
        done.set()
        watcher.join()
    return found


def _phase(server: ServerUnderTest, found: PhaseResult, clients: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(lambda who: _annotate(server, found, who, until), range(clients)))


def _watch(server: ServerUnderTest, found: Soak, done: Event) -> None:
    workers = server.workers()
    while not done.wait(_EVERY_S):
        found.memory_mb.append(server.memory_mb())
        if server.workers() != workers:
            found.stops.append("the server's process stopped, and another one came")
            workers = server.workers()
        try:
            requests.get(f"{server.url}/live", timeout=_LIVE_S).raise_for_status()
        except requests.RequestException as error:
            found.stops.append(f"/live does not answer: {error}"[:200])


def _annotate(server: ServerUnderTest, found: PhaseResult, who: int, until: float) -> None:
    number = 0
    while time.monotonic() < until:
        began = time.perf_counter()
        try:
            _work(server, who, number)
        except requests.HTTPError as error:
            if error.response.status_code != 503:
                found.failures.append(f"{error}: {error.response.text}"[:200])
            else:
                found.refused += 1
                time.sleep(float(error.response.headers["Retry-After"]))
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
