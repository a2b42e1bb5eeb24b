"""Photos to try it on: those of people that come inside installed packages, free of rights."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PHOTOS = {
    # Rear Admiral Grace Hopper, US Navy photo; Eileen Collins, NASA photo: works of the US government. A photographer
    # by Lav Varshney: CC0.
    "grace-hopper.jpg": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "eileen-collins.png": ("skimage", "data/astronaut.png"),
    "photographer.png": ("skimage", "data/camera.png"),
}
_FACES = {"grace-hopper.jpg": (140, 10, 390, 345), "eileen-collins.png": (140, 0, 320, 225)}
"""Where the faces of the portraits are: left, top, right, bottom, in pixels."""
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


def default_photos(folder: Path, schema: str = "lip") -> list[Path]:
    """Puts the default photos of a label set into a folder, and returns their paths.

    The label sets of several people get two in one photo as well, that of faces a close look at each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photos = _copy_photos(folder)
    portraits = {path.name: np.asarray(Image.open(path).convert("RGB")) for path in photos if path.name in _FACES}
    if schema != "lip" and len(portraits) > 1:
        photos.append(_side_by_side(folder / "two-people.jpg", list(portraits.values())))
    if schema == "helen":
        photos = [path for path in photos if path.name != "photographer.png"]  # his face is small
        photos += [
            _close_look(folder / f"{Path(name).stem}-face.jpg", portraits[name], _FACES[name]) for name in portraits
        ]
    return sorted(photos)


def _copy_photos(folder: Path) -> list[Path]:
    """Copies the real photos of the packages that are there."""
    found = []
    for name, (package, place) in _PHOTOS.items():
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            if (source := Path(root) / place).is_file():
                found.append(folder / name)
                shutil.copyfile(source, folder / name)
    return found


def _close_look(path: Path, portrait: NDArray[np.uint8], face: tuple[int, int, int, int]) -> Path:
    left, top, right, bottom = face
    size = (3 * (right - left), 3 * (bottom - top))
    Image.fromarray(portrait[top:bottom, left:right]).resize(size, Image.Resampling.BICUBIC).save(path, quality=92)
    return path


def _side_by_side(path: Path, portraits: Sequence[NDArray[np.uint8]]) -> Path:
    height = min(image.shape[0] for image in portraits)
    Image.fromarray(np.hstack([image[:height] for image in portraits])).save(path, quality=92)
    return path
