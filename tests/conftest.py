"""A Label Studio that only hands out images, and a model that only draws discs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fakes import ImageHost
from hypothesis import settings

from ihp_backend.serving import process

settings.register_profile("here", deadline=None)  # a busy machine is not a fault
settings.load_profile("here")
process.prepare()  # as `ihp` does, before torch is imported


@pytest.fixture
def image_host() -> Iterator[ImageHost]:
    host = ImageHost()
    yield host
    host.close()
