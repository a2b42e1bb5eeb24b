"""A mask as the one region that it is, but where a mask may have several polygons."""

from __future__ import annotations

from typing import Any

from ihp_backend.label_studio.regions import mask_regions


def mask_region(*args: Any, **kwargs: Any) -> dict[str, Any]:
    (region,) = mask_regions(*args, **kwargs)
    return region
