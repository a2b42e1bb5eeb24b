"""Where the network is faster in bfloat16."""

from __future__ import annotations

import torch


def is_bf16_faster(device: torch.device) -> bool:
    """Whether the device computes in bfloat16: a GPU since 2020, or a CPU with AVX-512 BF16.

    A CPU is faster in it without gradient only.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
