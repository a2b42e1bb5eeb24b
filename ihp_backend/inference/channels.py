"""Which channel of the network a label speaks through."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from ihp_backend.clicks import Click
from ihp_backend.parts import Schema

log = logging.getLogger(__name__)


class Glance(Protocol):
    """A first parse, without clicks, that can be asked what is where."""

    def likeliest(self, x: float, y: float, among: Sequence[int]) -> int:
        """Returns the channel, of these, that is most probable at a place of the image."""


class Channels:
    """Assigns the labels of one request to channels.

    A label that is one part of the schema takes that part's channel. A label that stands for several parts owns all
    of their channels; a click on it speaks for the part that is most probable there. A label that the schema does
    not know, or whose channel another clicked label has taken, gets a spare channel for this request.
    """

    def __init__(
        self,
        schema: Schema,
        spares: int,
        labels: Mapping[str, tuple[str, ...]],
        clicks: Sequence[Click] = (),
        accepted: Iterable[str] = (),
        glance: Glance | None = None,
    ) -> None:
        self.schema, self.count = schema, len(schema) + spares
        self._glance = glance
        self._channels: dict[str, tuple[int, ...]] = {}
        used = dict.fromkeys([*(c.part for c in reversed(clicks)), *accepted])  # the newest click first
        free = list(range(len(schema), self.count))
        taken: set[int] = set()
        for label in [*used, *(name for name in labels if name not in used)]:
            own = tuple(schema.names.index(part) for part in labels[label])
            if not own or not taken.isdisjoint(own):
                if label not in used or not free:
                    if label in used:
                        log.warning("no spare channel left for label %r; its clicks are not seen", label)
                    continue
                own = (free.pop(0),)
            taken.update(own)
            self._channels[label] = own
        self.used = frozenset(taken)

    def of(self, label: str) -> tuple[int, ...]:
        """Returns a label's channels; none if it has nothing to say in this request."""
        return self._channels.get(label, ())

    def at(self, label: str, x: float, y: float) -> int | None:
        """Returns the channel through which a label speaks at a place of the image."""
        own = self.of(label)
        if len(own) < 2 or self._glance is None:
            return own[0] if own else None
        return self._glance.likeliest(x, y, own)
