from __future__ import annotations

import pytest
import torch
from untrained import SMALL

from ihp_backend.network.parser import HumanParser


@pytest.fixture(scope="module")
def parser() -> HumanParser:
    torch.manual_seed(0)
    return HumanParser(SMALL).eval()
