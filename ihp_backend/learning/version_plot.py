"""A picture of what a project's versions came to: each on the photos that were held back from it, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from ihp_backend.learning.version import Version

_CLICKS = {"miou_at_0": "no click", "miou_at_1": "1 click per class", "miou_at_2": "2 clicks per class"}
_MARKERS = {"promoted": "o", "rejected": "x", "rolled back": "s"}


def draw_versions(versions: Sequence[Version], current: str) -> bytes:
    """Draws a line from before to after for each version and number of clicks.

    Before and after are of the same photos; two versions may have been measured on others.

    Args:
        versions: Of one label set, the oldest first.
        current: The name of the one that is served.

    Returns:
        A PNG.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(max(6.5, 3.0 + 0.7 * len(versions)), 3.8), dpi=120)
    axes = figure.subplots()
    for number, version in enumerate(versions):
        status = version.status
        for colour, name in enumerate(_CLICKS):
            if name in status.before and name in status.after:
                place, values = [number - 0.25, number + 0.25], [status.before[name], status.after[name]]
                axes.plot(place, values, color=f"C{colour}", linewidth=1.5)
                axes.plot(place[1:], values[1:], _MARKERS.get(status.state, "."), color=f"C{colour}", markersize=6)
    names = [v.name + (" (served)" if v.name == current else "") for v in versions]
    axes.set_xticks(range(len(versions)), names, rotation=30, ha="right", fontsize=7)
    axes.set(ylabel="mIoU on photos held back", xlim=(-0.6, len(versions) - 0.4))
    lines = [Line2D([], [], color=f"C{n}", label=label) for n, label in enumerate(_CLICKS.values())]
    marks = [Line2D([], [], color="grey", marker=m, linestyle="", label=state) for state, m in _MARKERS.items()]
    axes.legend(handles=[*lines, *marks], fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    axes.grid(alpha=0.3, axis="y")
    figure.tight_layout()
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
