"""`ihp bench --soak`: it fails if a bound does not hold, and what hostile clients send is refused by a real server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from ihp_backend.cli import main
from ihp_backend.experiments import hostile_clients, soak
from ihp_backend.experiments.hostile_clients import CLOSED, Outcomes, attack
from ihp_backend.experiments.soak import MOST_MB, PhaseResult, Soak

QUICK = {
    "5 MB of empty objects": {"400"},
    "60 MB of text": {"400"},
    "30 MB of empty lists": {"413"},
    "JSON nested 101 to 20,000 deep": {"400"},
    "what is not JSON, or no request": {"400"},
    "a label config nested 1,000 deep": {"400"},
    "a draft of 600 masks": {"200"},
    "a mask of 4 billion pixels": {"200"},
    "a page of another name": {"403"},
    "a page of another origin": {"403"},
    "events of invented projects": {"200"},
    "an image on another machine": {"200"},
    "answers that are not read": {"not read"},
}


def test_the_command_with_hostile_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real server. How long the others wait is not a test: the machine may be busy."""
    kinds = {kind: hostile_clients.KINDS[kind] for kind in QUICK}
    seen: list[Outcomes] = []

    def all_kinds(url: str, outcomes: Outcomes, who: int, until: float) -> None:
        seen.append(outcomes)
        for turn, kind in enumerate(kinds):
            outcomes.note(kind, kinds[kind](url, turn))

    monkeypatch.setattr(soak, "attack", all_kinds)
    monkeypatch.setattr(soak, "MOST_SLOWER", 1e9)
    monkeypatch.setattr(soak, "MOST_GROWTH", 1e9)
    result = CliRunner().invoke(main, ["bench", "--soak", "0.1", "--clients", "3", "--hostile", "1"])
    assert result.exit_code == 0, result.output
    assert {kind: set(counts) for kind, counts in seen[0].by_kind.items()} == QUICK
    assert "quiet: " in result.output
    assert "a page of another name: 1 tried: 1 x 403" in result.output


def sound() -> Soak:
    return Soak(10, PhaseResult([20.0] * 100), PhaseResult([10.0] * 100), memory_mb=[900.0, 1000.0, 1010.0])


def alone(found: Soak) -> PhaseResult:
    assert found.quiet is not None
    return found.quiet


def grown(found: Soak, megabytes: float) -> None:
    found.memory_mb[-1] = megabytes


FAULTS: dict[str, tuple[Callable[[Soak], Any], str]] = {
    "slow": (lambda s: s.annotators.taken.extend([31.0] * 20), "p95 is 31 ms"),
    "an error": (lambda s: s.annotators.failures.append("500 Internal"), "500 Internal"),
    "an error while quiet": (lambda s: alone(s).failures.append("no mask"), "no mask"),
    "refused while quiet": (lambda s: setattr(alone(s), "refused", 1), "1 of 101 requests were refused"),
    "often refused": (lambda s: setattr(s.annotators, "refused", 2), "2 of 102 requests were refused"),
    "nobody answered": (lambda s: s.annotators.taken.clear(), "0 of 0 requests"),
    "5xx": (lambda s: s.hostile.note("a bomb", ["500", "503", "413", CLOSED]), "a bomb: 1 answers with 500"),
    "a stop": (lambda s: s.stops.append("/live does not answer"), "/live does not answer"),
    "growth": (lambda s: grown(s, 1200.0), "memory grows: 1000 MB in the middle third, 1200 in the last"),
    "too much": (lambda s: s.memory_mb.insert(0, MOST_MB + 1.0), f"took {MOST_MB + 1} MB"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bound_that_does_not_hold_is_named(fault: str) -> None:
    assert sound().broken() == []
    found, (harm, told) = sound(), FAULTS[fault]
    harm(found)
    assert len(found.broken()) == 1
    assert told in found.broken()[0]


def test_without_hostile_clients_nothing_is_refused() -> None:
    assert Soak(10, PhaseResult([20.0] * 1000)).broken() == []
    assert Soak(10, PhaseResult([20.0] * 1000, refused=1)).broken() == ["1 of 1001 requests were refused"]


def test_a_server_that_is_gone_is_closed_connections() -> None:
    outcomes = Outcomes()
    attack("http://127.0.0.1:9", outcomes, 1, time.monotonic() + 0.3)
    assert outcomes.by_kind
    assert all(set(counts) <= {CLOSED} for counts in outcomes.by_kind.values())


def test_more_hostile_clients_than_clients_are_refused() -> None:
    assert CliRunner().invoke(main, ["bench", "--soak", "1", "--clients", "4", "--hostile", "4"]).exit_code == 2
