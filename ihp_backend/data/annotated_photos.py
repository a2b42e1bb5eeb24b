"""Photos that a project's annotators have labelled: what the learner needs of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ihp_backend.data.sample import Sample


class AnnotatedPhotos(Protocol):
    """Annotated photos of one project, in the project's own labels."""

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """The project's labels, in their order, and the schema's parts that each stands for; none: its own label."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Names of the photos, by their place."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Reads a photo; its labels are (H, W) uint8: 0 where no mask is, k + 1 for the k-th of ``labels``."""
        ...
