"""Where the network runs in bfloat16."""

from __future__ import annotations

import pytest
import torch

from ihp_backend.network.precision import is_bf16_faster


@pytest.mark.parametrize("has_it", [True, False])
def test_each_device_is_asked_for_itself(has_it: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_it)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not has_it)
    assert is_bf16_faster(torch.device("cpu")) is has_it
    assert is_bf16_faster(torch.device("cuda")) is not has_it
    assert not is_bf16_faster(torch.device("mps"))
