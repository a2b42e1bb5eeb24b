"""Photos to try it on: portraits in the public domain that come inside installed packages, and drawn figures."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import cv2
import numpy as np

from ihp_backend.data.synthetic import draw_person

_PORTRAITS = {
    # Rear Admiral Grace Hopper, US Navy photo; Eileen Collins, NASA photo: works of the US government.
    "grace-hopper.jpg": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "eileen-collins.png": ("skimage", "data/astronaut.png"),
}
_FIGURES = 6
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
"""What Label Studio takes as an upload; it refuses all files of an import for one TIFF."""


class PhotosError(ValueError):
    """There are no photos to import."""


def photos_in(folder: Path) -> list[Path]:
    """Returns the images in a folder, by name.

    Raises:
        PhotosError: If it is no folder, or has no image.
    """
    if not folder.is_dir():
        raise PhotosError(f"{folder} is not a folder; expected one with photos")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in _ENDINGS)
    if not found:
        raise PhotosError(f"{folder} has no images ({', '.join(_ENDINGS)})")
    return found


def default_photos(folder: Path) -> list[Path]:
    """Puts the default photos into a folder, unless they are there, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (package, place) in _PORTRAITS.items():
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            if (source := Path(root) / place).is_file():
                shutil.copyfile(source, folder / name)
    for number in range(_FIGURES):
        path = folder / f"figure-{number + 1}.jpg"
        if not path.exists():
            image, _ = draw_person(np.random.default_rng(number), 720, 480)
            cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    return photos_in(folder)
