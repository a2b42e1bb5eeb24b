"""Part schemas: which body parts and garments there are, and what people call them.

Ids are those of the published data sets. Left and right are the person's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from colorsys import hsv_to_rgb
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

IGNORE = 255
"""Label id of pixels that count neither for training nor for evaluation."""


@dataclass(frozen=True)
class Part:
    """One class of a schema.

    Attributes:
        name: Canonical lower-case name, such as ``left-arm``.
        colour: Display colour, ``#rrggbb``.
        aliases: Other names that annotators use for it.
        flip_pair: Name of the part that a mirror image turns it into; ``None``: itself, ``""``: it is unpaired.
    """

    name: str
    colour: str
    aliases: tuple[str, ...] = ()
    flip_pair: str | None = None


@lru_cache(maxsize=1024)
def normalise(label: str) -> str:
    """Strips what must not matter in a label's name: case, hyphens, underscores, spaces."""
    return "".join(c for c in label.casefold() if c not in "-_ \t\n")


@dataclass(frozen=True)
class Schema:
    """An ordered set of parts; a part's id is its place, and id 0 is the background.

    Attributes:
        name: Such as ``lip``.
        title: As people read it.
        parts: By id.
        tells_people_apart: Its data sets say whose a part is, and so do the masks of its projects.
    """

    name: str
    title: str
    parts: tuple[Part, ...]
    tells_people_apart: bool = False

    def __len__(self) -> int:
        return len(self.parts)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the parts, by id."""
        return tuple(part.name for part in self.parts)

    @cached_property
    def _ids(self) -> dict[str, int]:
        ids = {normalise(part.name): i for i, part in enumerate(self.parts)}
        for i, part in enumerate(self.parts):
            for alias in part.aliases:
                ids.setdefault(normalise(alias), i)
        return ids

    def find(self, label: str) -> int | None:
        """Returns the id of the part that a label names, by name or alias, or ``None``."""
        return self._ids.get(normalise(label))

    @cached_property
    def mirrored(self) -> tuple[int, ...]:
        """For each id, the id that it becomes when the photo is mirrored; 255 if that is unknown."""
        ids = {name: i for i, name in enumerate(self.names)}
        return tuple(i if p.flip_pair is None else ids.get(p.flip_pair, IGNORE) for i, p in enumerate(self.parts))

    def extended(self, custom_classes: Sequence[str]) -> Schema:
        """Returns the schema with custom classes at its end: labels of a project that it does not know.

        Those named left and right, such as Left-hand and Right-hand, are each other's flip pair; a Left-hand alone is
        unpaired.

        Raises:
            ValueError: If the schema knows a label already, or one comes twice.
        """
        if not custom_classes:
            return self
        if known := [label for label in custom_classes if self.find(label) is not None]:
            raise ValueError(f"schema {self.name} knows {', '.join(known)} already; custom classes must be new to it")
        by_name = {normalise(label): label for label in custom_classes}
        if len(by_name) < len(custom_classes):
            names = ", ".join(custom_classes)
            raise ValueError(f"custom classes {names}: a name comes twice, but for case, hyphens and spaces")
        parts = []
        for i, label in enumerate(custom_classes):
            hue = (i * 0.618034) % 1  # the golden ratio keeps neighbours apart
            colour = "#{:02x}{:02x}{:02x}".format(*(round(255 * c) for c in hsv_to_rgb(hue, 0.65, 0.95)))
            other = _mirrored_name(normalise(label))
            parts.append(Part(label, colour, flip_pair=None if other is None else by_name.get(other, "")))
        return replace(self, parts=self.parts + tuple(parts))

    @cached_property
    def colours(self) -> tuple[tuple[int, int, int], ...]:
        """RGB, 0-255, of each part."""
        return tuple((int(p.colour[1:3], 16), int(p.colour[3:5], 16), int(p.colour[5:7], 16)) for p in self.parts)


def _mirrored_name(name: str) -> str | None:
    """Swaps left and right in a normalised name; ``None`` if it has neither."""
    for side, other in (("left", "right"), ("right", "left")):
        if side in name:
            return name.replace(side, other, 1)
    return None


def _pair(what: str, colours: Sequence[str], *aliases: str) -> tuple[Part, Part]:
    left, right = f"left-{what}", f"right-{what}"
    return (
        Part(left, colours[0], tuple(f"left {a}" for a in aliases), right),
        Part(right, colours[1], tuple(f"right {a}" for a in aliases), left),
    )


def _lip(name: str, title: str, tenth: Part) -> Schema:
    return Schema(
        name,
        title,
        (
            Part("background", "#202020"),
            Part("hat", "#775500", ("cap", "helmet", "beanie")),
            Part("hair", "#e6ab02"),
            Part("glove", "#007766", ("gloves",)),
            Part("sunglasses", "#cc00ff", ("glasses", "eyeglasses")),
            Part("upper-clothes", "#e41a1c", ("top", "shirt", "t-shirt", "blouse", "sweater", "upper clothing")),
            Part("dress", "#ff00aa"),
            Part("coat", "#aa6699", ("jacket", "blazer", "cardigan")),
            Part("socks", "#aacc88", ("sock", "stockings")),
            Part("pants", "#1f4fd8", ("trousers", "jeans", "shorts", "leggings")),
            tenth,
            Part("scarf", "#bbee44", ("shawl",)),
            Part("skirt", "#dd77ff"),
            Part("face", "#ffb48f", ("head skin",)),
            *_pair("arm", ("#44bbff", "#337700"), "hand and arm"),
            *_pair("leg", ("#00eecc", "#00ff00")),
            *_pair("shoe", ("#eeccff", "#44ff88"), "boot", "sandal"),
        ),
    )


LIP = _lip("lip", "LIP (20 classes)", Part("jumpsuits", "#ff6688", ("jumpsuit", "romper", "overalls")))
CIHP = replace(
    _lip("cihp", "CIHP (20 classes, several people)", Part("torso-skin", "#ff6688", ("torso", "neck"))),
    tells_people_apart=True,
)

PASCAL_PERSON_PART = Schema(
    "pascal-person-part",
    "PASCAL-Person-Part (7 classes)",
    (
        Part("background", "#202020"),
        Part("head", "#e6d202"),
        Part("torso", "#e41a1c", ("upper body", "trunk")),
        Part("upper-arms", "#00b4d8", ("upper arm",)),
        Part("lower-arms", "#2a9d3a", ("lower arm", "forearms", "forearm")),
        Part("upper-legs", "#1f4fd8", ("upper leg", "thighs", "thigh")),
        Part("lower-legs", "#dd77ff", ("lower leg", "calves", "calf")),
    ),
)

HELEN = Schema(
    "helen",
    "Helen (11 classes)",
    (
        Part("background", "#202020"),
        Part("face-skin", "#ffb48f", ("face", "skin")),
        *_pair("brow", ("#aa6699", "#ff00aa"), "eyebrow"),
        *_pair("eye", ("#00b4d8", "#1f4fd8")),
        Part("nose", "#2a9d3a"),
        Part("upper-lip", "#e41a1c"),
        Part("inner-mouth", "#7f5539", ("mouth", "teeth")),
        Part("lower-lip", "#bbee44"),
        Part("hair", "#e6ab02"),
    ),
)

OPEN = Schema("open", "Own classes", (Part("background", "#202020"),))
"""The background alone: all parts are a data set's or a project's own, see ``Schema.extended``."""
SCHEMAS = {schema.name: schema for schema in (LIP, CIHP, PASCAL_PERSON_PART, HELEN)}


def get_schema(name: str) -> Schema:
    """Returns the schema of that name.

    Raises:
        ValueError: If there is none; the message lists those there are.
    """
    try:
        return OPEN if name == OPEN.name else SCHEMAS[name]
    except KeyError:
        raise ValueError(f"unknown part schema {name!r}; expected one of {', '.join(SCHEMAS)}") from None
