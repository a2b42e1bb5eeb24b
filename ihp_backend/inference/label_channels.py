"""Which channel of the network stands for a label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from ihp_backend.clicks import Click
from ihp_backend.parts import Schema


class ClickFree(Protocol):
    """A prediction without clicks, that tells which part is where."""

    def most_probable(self, x: float, y: float, among: Sequence[int]) -> int:
        """Returns the channel, of these, that is most probable at a place of the image."""


class Channels:
    """Assigns the labels of one request to channels.

    A label that is one part of the schema takes that part's channel. A label that stands for several parts owns all
    of their channels; a click on it means the part that is most probable there. A label that the schema does
    not know, or whose channel another clicked label has taken, gets an open-class channel for this request. If there
    are more such labels than channels, the labels whose last click is oldest have none: they stand for the background,
    so that other masks do not cover them, and have no mask of their own in this request.
    """

    def __init__(
        self,
        schema: Schema,
        open_channels: int,
        labels: Mapping[str, tuple[str, ...]],
        clicks: Sequence[Click] = (),
        accepted: Iterable[str] = (),
        click_free: ClickFree | None = None,
    ) -> None:
        self.schema, self.count = schema, len(schema) + open_channels
        self._click_free = click_free
        self._channels: dict[str, tuple[int, ...]] = {}
        self.without_channel: frozenset[str] = frozenset()
        used = dict.fromkeys([*(c.part for c in clicks), *accepted])  # the order stays when clicks are added
        free = range(len(schema), self.count)
        taken: set[int] = set()
        unassigned = []
        for label in [*used, *(name for name in labels if name not in used)]:
            own = tuple(schema.names.index(part) for part in labels[label])
            if own and taken.isdisjoint(own):
                taken.update(own)
                self._channels[label] = own
            elif label in used:
                unassigned.append(label)
        if len(unassigned) > len(free):
            by_age = dict.fromkeys([*(c.part for c in reversed(clicks)), *accepted])
            newest_labels = [label for label in by_age if label in unassigned][: len(free)]
            self.without_channel = frozenset(unassigned).difference(newest_labels)
            unassigned = [label for label in unassigned if label in newest_labels]
        for label, channel in zip(unassigned, free, strict=False):
            taken.add(channel)
            self._channels[label] = (channel,)
        self.used = frozenset(taken)

    def of(self, label: str) -> tuple[int, ...]:
        """Returns a label's own channels; none if it was not used in this request, or has none left."""
        return self._channels.get(label, ())

    def agree_with(self, earlier: Channels) -> bool:
        """Whether the labels that were in use earlier have the same channels now."""
        is_moved = self.without_channel & earlier._channels.keys() or earlier.without_channel - self.without_channel
        return not is_moved and all(
            self.of(label) == own for label, own in earlier._channels.items() if label in self._channels
        )

    def at(self, label: str, x: float, y: float) -> int | None:
        """Returns the channel that stands for a label at a place of the image."""
        own = self.of(label)
        if not own:
            return 0 if label in self.without_channel else None
        if len(own) < 2 or self._click_free is None:
            return own[0]
        return self._click_free.most_probable(x, y, own)
