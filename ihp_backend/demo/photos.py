"""Photos to try it on: those of people that come inside installed packages, free of rights, and drawn figures."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ihp_backend.data.synthetic import draw_person

_PHOTOS = {
    # Rear Admiral Grace Hopper, US Navy photo; Eileen Collins, NASA photo: works of the US government. A photographer
    # by Lav Varshney: CC0.
    "grace-hopper.jpg": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    "eileen-collins.png": ("skimage", "data/astronaut.png"),
    "photographer.png": ("skimage", "data/camera.png"),
}
_FACES = {"grace-hopper.jpg": (140, 10, 390, 345), "eileen-collins.png": (140, 0, 320, 225)}
"""Where the faces of the portraits are: left, top, right, bottom, in pixels."""
_FIGURES, _GROUPS = 6, 2
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
    """Puts the default photos of a label set into a folder, unless they are there, and returns their paths.

    Faces come large, and two in one photo; the label sets of several people get groups. What two label sets share is
    drawn once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photos = _copy_photos(folder)
    if schema == "helen":
        return sorted([*photos, *_faces(folder, photos)])
    figures, groups = (_FIGURES, 0) if schema == "lip" else (_FIGURES - 2, _GROUPS)
    drawn = [folder / f"figure-{number + 1}.jpg" for number in range(figures)]
    for number, path in enumerate(drawn):
        _write_once(path, partial(_draw_alone, number))
    together = [folder / f"group-{number + 1}.jpg" for number in range(groups)]
    for number, path in enumerate(together):
        _write_once(path, partial(draw_group, np.random.default_rng(100 + number)))
    return sorted([*photos, *drawn, *together])


def draw_group(rng: np.random.Generator, height: int = 480, width: int = 640) -> NDArray[np.uint8]:
    """Draws three people beside each other, each partly before the one to the left.

    Returns:
        The image (H, W, 3) uint8 RGB.
    """
    image = np.zeros((height, width, 3), np.uint8)
    for place in range(3):
        figure, labels = draw_person(rng, height, width // 2)
        left = place * width // 4
        seen = (labels > 0)[..., None]
        if place == 0:
            image[:] = figure[:, :1]  # the wall
        image[:, left : left + figure.shape[1]] = np.where(seen, figure, image[:, left : left + figure.shape[1]])
    return image


def _draw_alone(number: int) -> NDArray[np.uint8]:
    return draw_person(np.random.default_rng(number), 720, 480)[0]


def _write_once(path: Path, draw: Callable[[], NDArray[np.uint8]]) -> None:
    if not path.exists():
        cv2.imwrite(str(path), draw()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])


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


def _faces(folder: Path, photos: Sequence[Path]) -> list[Path]:
    """Adds a close look at each portrait, and both in one photo."""
    portraits = {path.name: np.asarray(Image.open(path).convert("RGB")) for path in photos if path.name in _FACES}
    made = []
    for name, image in portraits.items():
        left, top, right, bottom = _FACES[name]
        size = (3 * (right - left), 3 * (bottom - top))
        made.append(folder / f"{Path(name).stem}-face.jpg")
        Image.fromarray(image[top:bottom, left:right]).resize(size, Image.Resampling.BICUBIC).save(made[-1], quality=92)
    if len(portraits) > 1:
        height = min(image.shape[0] for image in portraits.values())
        made.append(folder / "two-people.jpg")
        Image.fromarray(np.hstack([image[:height] for image in portraits.values()])).save(made[-1], quality=92)
    return made
