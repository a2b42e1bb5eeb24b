"""Drawn people with exact masks: for demonstrations, and as small data that needs no download."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from ihp_backend.parts import LIP

_FINE = 3
"""Drawn so many times larger, then reduced: smooth edges in the image, exact ids in the labels."""

_SKIN = ((240, 205, 180), (224, 178, 145), (190, 135, 100), (140, 92, 66), (98, 64, 48))
_HAIR = ((40, 30, 28), (92, 58, 36), (150, 100, 50), (205, 165, 95), (120, 118, 118), (130, 50, 30))
_CLOTH = (
    (196, 62, 58),
    (52, 92, 156),
    (72, 130, 98),
    (232, 196, 92),
    (120, 82, 140),
    (225, 225, 218),
    (60, 62, 70),
    (214, 130, 80),
    (120, 160, 190),
    (170, 110, 120),
)
_WALLS = ((206, 214, 220), (222, 210, 196), (186, 200, 190), (210, 200, 214), (196, 206, 226))

Place = Sequence[float] | NDArray[np.float64]
Pose = dict[str, NDArray[np.float64]]


class _Canvas:
    """An image and its labels, drawn together; the unit is the person's height."""

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.size = (height * _FINE, width * _FINE)
        self.image = np.zeros((*self.size, 3), np.float32)
        self.labels = np.zeros(self.size, np.uint8)
        self.unit = 0.9 * min(self.size[0], self.size[1] * 2.2)
        self.origin = np.array([self.size[1] / 2, self.size[0] * 0.5 - self.unit * 0.5])

    def _points(self, points: Sequence[Place]) -> NDArray[np.int32]:
        placed: NDArray[np.int32] = np.round(np.asarray(points) * self.unit + self.origin).astype(np.int32)
        return placed

    def fill(self, part: str, colour: Sequence[float], mask: NDArray[np.uint8]) -> None:
        """Paints a part where the mask is set, darker towards its edge, with the grain of cloth or skin."""
        inside = mask > 0
        if not inside.any():
            return
        distance = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
        light = 0.72 + 0.28 * np.sqrt(np.clip(distance / (0.35 * distance.max() + 1e-6), 0, 1))
        across = np.linspace(1.06, 0.9, self.size[1], dtype=np.float32)
        shaded = np.asarray(colour, np.float32) * (light * across)[..., None]
        self.image[inside] = shaded[inside]
        self.labels[inside] = LIP.names.index(part)

    def polygon(self, part: str, colour: Sequence[float], points: Sequence[Place], soft: float = 0.012) -> None:
        """Paints a polygon with round corners."""
        mask = np.zeros(self.size, np.uint8)
        cv2.fillPoly(mask, [self._points(points)], 255)
        blur = max(1.0, soft * self.unit)
        rounded = cv2.GaussianBlur(mask, (0, 0), blur)
        self.fill(part, colour, (rounded > 127).astype(np.uint8))

    def limb(self, part: str, colour: Sequence[float], points: Sequence[Place], widths: Sequence[float]) -> None:
        """Paints a chain of bones that taper from width to width."""
        mask = np.zeros(self.size, np.uint8)
        spots = np.asarray(points, float)
        for (a, b), (wide, narrow) in zip(pairwise(spots), pairwise(widths), strict=True):
            for share in np.linspace(0, 1, 40):
                place = self._points([a + (b - a) * share])[0]
                radius = (wide + (narrow - wide) * share) * self.unit / 2
                cv2.circle(mask, (int(place[0]), int(place[1])), max(1, round(radius)), 255, -1)
        self.fill(part, colour, (mask > 0).astype(np.uint8))

    def ellipse(
        self,
        part: str,
        colour: Sequence[float],
        centre: Place,
        radii: Sequence[float],
        arc: tuple[int, int] = (0, 360),
    ) -> None:
        """Paints an ellipse, or a sector of it, in degrees clockwise from the right."""
        mask = np.zeros(self.size, np.uint8)
        x, y = (int(v) for v in self._points([centre])[0])
        axes = (max(1, round(radii[0] * self.unit)), max(1, round(radii[1] * self.unit)))
        cv2.ellipse(mask, (x, y), axes, 0, arc[0], arc[1], 255, -1)
        self.fill(part, colour, (mask > 0).astype(np.uint8))

    def done(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Returns the image and the labels at their real size."""
        grain = self.rng.normal(0, 5, (*self.size, 1)).astype(np.float32)
        small = cv2.resize(
            (self.image + grain).clip(0, 255), None, fx=1 / _FINE, fy=1 / _FINE, interpolation=cv2.INTER_AREA
        )
        middle = slice(_FINE // 2, None, _FINE)
        return small.round().astype(np.uint8), np.ascontiguousarray(self.labels[middle, middle])


def draw_person(
    rng: np.random.Generator, height: int = 768, width: int = 512
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draws one person who faces the viewer, in random clothes and a random pose, before a wall.

    Args:
        rng: Source of randomness.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        The image (H, W, 3) uint8 RGB, and its labels (H, W) uint8, ids of the LIP schema.
    """
    canvas = _Canvas(height, width, rng)
    _draw_wall(canvas)
    skin = _SKIN[rng.integers(len(_SKIN))]
    hair = _HAIR[rng.integers(len(_HAIR))]
    cloth = [_CLOTH[i] for i in rng.permutation(len(_CLOTH))]
    pose = _pose(rng)
    long_hair = rng.random() < 0.5
    if long_hair:
        canvas.polygon("hair", hair, [(-0.07, 0.06), (0.07, 0.06), (0.082, 0.25), (-0.082, 0.25)], 0.02)
    outfit = rng.choice(["pants", "skirt", "dress", "coat"])
    _draw_legs(canvas, pose, skin, cloth, str(outfit))
    _draw_torso(canvas, pose, skin, cloth, str(outfit))
    _draw_head(canvas, skin, hair, cloth, scarf=bool(rng.random() < 0.25))
    return canvas.done()


def _draw_wall(canvas: _Canvas) -> None:
    rng = canvas.rng
    rows = np.linspace(0, 1, canvas.size[0], dtype=np.float32)[:, None, None]
    wall = np.asarray(_WALLS[rng.integers(len(_WALLS))], np.float32)
    canvas.image[:] = wall * (1.05 - 0.25 * rows)
    floor = round(canvas.size[0] * rng.uniform(0.78, 0.88))
    canvas.image[floor:] = wall * 0.62 * (0.85 + 0.3 * rows[floor:])
    canvas.image = cv2.GaussianBlur(canvas.image, (0, 0), 4.0)  # type: ignore[assignment]


def _pose(rng: np.random.Generator) -> Pose:
    """Joints, in the person's heights from the top of the head; left is the person's own, at the viewer's right."""
    pose: Pose = {}
    for side, sign in (("left", 1), ("right", -1)):
        swing, bend = rng.uniform(0.02, 0.1), rng.uniform(-0.05, 0.06)
        pose[f"{side}-shoulder"] = np.array([sign * 0.098, 0.215])
        pose[f"{side}-elbow"] = np.array([sign * (0.12 + swing), 0.36])
        pose[f"{side}-hand"] = np.array([sign * (0.13 + swing + bend), 0.49])
        stance = rng.uniform(0.01, 0.05)
        pose[f"{side}-hip"] = np.array([sign * 0.045, 0.5])
        pose[f"{side}-knee"] = np.array([sign * (0.055 + stance / 2), 0.72])
        pose[f"{side}-foot"] = np.array([sign * (0.06 + stance), 0.95])
    return pose


def _draw_legs(
    canvas: _Canvas, pose: Pose, skin: Sequence[float], cloth: Sequence[Sequence[float]], outfit: str
) -> None:
    trousers = outfit in ("pants", "coat")
    socks = canvas.rng.random() < 0.4
    for side in ("right", "left"):
        hip, knee, foot = (pose[f"{side}-{joint}"] for joint in ("hip", "knee", "foot"))
        canvas.limb(f"{side}-leg", skin, [hip, knee, foot], [0.085, 0.062, 0.04])
        if socks:
            canvas.limb("socks", cloth[7], [knee + (foot - knee) * 0.55, foot], [0.055, 0.046])
        if trousers:
            canvas.limb("pants", cloth[0], [hip, knee, foot - np.array([0, 0.03])], [0.1, 0.08, 0.066])
        sign = 1 if side == "left" else -1
        canvas.ellipse(f"{side}-shoe", cloth[1], foot + np.array([sign * 0.012, 0.012]), (0.042, 0.026))
    if trousers:
        canvas.polygon("pants", cloth[0], [(-0.085, 0.46), (0.085, 0.46), (0.095, 0.55), (0, 0.58), (-0.095, 0.55)])
    elif outfit == "skirt":
        hem = canvas.rng.uniform(0.62, 0.74)
        canvas.polygon("skirt", cloth[0], [(-0.078, 0.45), (0.078, 0.45), (0.14, hem), (-0.14, hem)])


def _draw_torso(
    canvas: _Canvas, pose: Pose, skin: Sequence[float], cloth: Sequence[Sequence[float]], outfit: str
) -> None:
    top = {"dress": "dress", "coat": "coat"}.get(outfit, "upper-clothes")
    sleeve = canvas.rng.choice([0.0, 0.45, 1.0]) if outfit != "coat" else 1.0
    for side in ("right", "left"):
        shoulder, elbow, hand = (pose[f"{side}-{joint}"] for joint in ("shoulder", "elbow", "hand"))
        canvas.limb(f"{side}-arm", skin, [shoulder, elbow, hand], [0.056, 0.046, 0.036])
        canvas.ellipse(f"{side}-arm", skin, hand + np.array([0, 0.014]), (0.02, 0.028))
        if sleeve:
            wrist = elbow + (hand - elbow) * 0.85
            joints = [shoulder, elbow, wrist] if sleeve == 1 else [shoulder, shoulder + (elbow - shoulder) * 0.7]
            canvas.limb(top, cloth[2], joints, [0.074, 0.062, 0.052][: len(joints)])
    hem = {"dress": canvas.rng.uniform(0.62, 0.78), "coat": 0.62}.get(outfit, 0.5)
    flare = {"dress": 0.14, "coat": 0.115}.get(outfit, 0.088)
    body = [(-0.055, 0.168), (0.055, 0.168), (0.128, 0.2), (0.095, 0.33), (0.082, 0.44), (flare, hem)]
    canvas.polygon(top, cloth[2], [*body, *[(-x, y) for x, y in body[:1:-1]], (-0.128, 0.2)], 0.009)
    if outfit == "coat":
        canvas.polygon("upper-clothes", cloth[3], [(-0.04, 0.17), (0.04, 0.17), (0.028, 0.45), (-0.028, 0.45)], 0.006)


def _draw_head(
    canvas: _Canvas, skin: Sequence[float], hair: Sequence[float], cloth: Sequence[Sequence[float]], *, scarf: bool
) -> None:
    rng = canvas.rng
    canvas.limb("face", skin, [(0, 0.12), (0, 0.185)], [0.052, 0.056])
    canvas.ellipse("hair", hair, (0, 0.072), (0.066, 0.074))
    canvas.ellipse("face", skin, (0, 0.088), (0.053, 0.069))
    canvas.ellipse("hair", hair, (0, 0.055), (0.062, 0.05), (180, 360))
    before = canvas.labels.copy()
    for x in (-0.021, 0.021):  # features of the face stay face
        canvas.ellipse("face", (245, 245, 242), (x, 0.085), (0.0105, 0.006))
        canvas.ellipse("face", (50, 40, 40), (x, 0.085), (0.005, 0.005))
    canvas.ellipse("face", (176, 84, 84), (0, 0.124), (0.018, 0.006))
    canvas.labels = before
    if rng.random() < 0.35:
        for x in (-0.023, 0.023):
            canvas.ellipse("sunglasses", (35, 32, 38), (x, 0.085), (0.02, 0.014))
        canvas.limb("sunglasses", (35, 32, 38), [(-0.045, 0.08), (0.045, 0.08)], [0.006, 0.006])
    if rng.random() < 0.3:
        canvas.ellipse("hat", cloth[5], (0, 0.045), (0.066, 0.05), (180, 360))
        canvas.limb("hat", cloth[5], [(-0.085, 0.045), (0.085, 0.045)], [0.014, 0.014])
    if scarf:
        canvas.limb("scarf", cloth[6], [(-0.05, 0.178), (0.0, 0.192), (0.05, 0.178)], [0.03, 0.038, 0.03])
        canvas.limb("scarf", cloth[6], [(0.025, 0.19), (0.035, 0.33)], [0.034, 0.04])
