"""Where the network runs in bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ihp_backend.network.precision import is_bf16_faster

CPU = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPU.exists(), reason="no Linux")
def test_a_cpu_has_it_if_it_says_so() -> None:
    assert is_bf16_faster(torch.device("cpu")) is ("avx512_bf16" in CPU.read_text())


@pytest.mark.parametrize("has_it", [True, False])
def test_a_gpu_is_asked_and_other_devices_are_not(has_it: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_it)
    assert is_bf16_faster(torch.device("cuda")) is has_it
    assert not is_bf16_faster(torch.device("mps"))
