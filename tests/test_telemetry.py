"""What Prometheus reads."""

from __future__ import annotations

import pytest

from ihp_backend.telemetry import MemoryCounts, Metrics


def lines(metrics: Metrics) -> list[str]:
    return metrics.render().decode().splitlines()


def test_a_stage_is_timed_whether_or_not_it_succeeds() -> None:
    metrics = Metrics()
    with metrics.stage("fetch"):
        pass
    with pytest.raises(ZeroDivisionError), metrics.stage("fetch"):
        raise ZeroDivisionError
    assert 'ihp_stage_seconds_count{stage="fetch"} 2.0' in lines(metrics)


def test_one_version_answers_a_project() -> None:
    metrics = Metrics()
    metrics.serve("1", "lip-3")
    metrics.serve("1", "lip-3")
    metrics.serve("2", "cihp-2")
    metrics.serve("1", "lip-3+p1.001")
    served = [line for line in lines(metrics) if line.startswith("ihp_project_version{")]
    assert sorted(served) == [
        'ihp_project_version{project="1",version="lip-3+p1.001"} 1.0',
        'ihp_project_version{project="2",version="cihp-2"} 1.0',
    ]


def test_caches_and_the_gpu_are_read_at_each_look() -> None:
    metrics, found = Metrics(), {"photos": (3, 2, 700)}
    metrics.add(MemoryCounts(lambda: found, lambda: {"free": 5}))
    text = lines(metrics)
    assert 'ihp_cache_hits_total{cache="photos"} 3.0' in text
    assert 'ihp_cache_misses_total{cache="photos"} 2.0' in text
    assert 'ihp_cache_bytes{cache="photos"} 700.0' in text
    assert 'ihp_gpu_memory_bytes{kind="free"} 5.0' in text
    found["photos"] = (4, 2, 700)
    assert 'ihp_cache_hits_total{cache="photos"} 4.0' in lines(metrics)
