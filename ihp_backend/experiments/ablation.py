"""What each part of the method is worth: the same training with one more part in each row."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ihp_backend.data.sample import DataSet
from ihp_backend.files import write_whole
from ihp_backend.network.parser import HumanParser
from ihp_backend.network.weights import load_parser
from ihp_backend.training.config import TrainConfig
from ihp_backend.training.run_folder import TrainerError
from ihp_backend.training.trainer import Trainer

AS_CONFIGURED = "as configured"
ROWS: dict[str, dict[str, Any]] = {
    "no clicks": {
        "sp_loss": "none",
        "parser": {"early_fusion": True, "late_fusion": False, "previous": False, "prototypes": False},
        "sampling": {"drop_all": 1.0, "random_sampling": False, "error_rounds": 0},
    },
    "class-agnostic clicks": {"parser": {"semantic": False}, "sampling": {"drop_all": AS_CONFIGURED}},
    "semantic-aware clicks, early fusion": {"parser": {"semantic": True}},
    "+ random sampling": {"sampling": {"random_sampling": True}},
    "+ error-driven clicks": {"sampling": {"error_rounds": 3}},
    "+ previous mask": {"parser": {"previous": True}},
    "+ late fusion": {"parser": {"late_fusion": True}},
    "+ prototypes": {"parser": {"prototypes": True}},
    "+ SP-loss, reading 1 (pairs)": {"sp_loss": "pairs"},
    "+ SP-loss, reading 2 (prototypes)": {"sp_loss": "prototypes"},
    "late fusion without early fusion": {"parser": {"early_fusion": False}},
}
"""Each row's difference from the one before it; the first one's from the configuration, to which a field can return."""


def row_configs(base: TrainConfig) -> dict[str, TrainConfig]:
    """Returns the configuration of each row: steps, data and seed are the base's, so the budget is equal."""
    configs: dict[str, TrainConfig] = {}
    configured = base.sampling
    for name, changes in ROWS.items():
        changes = dict(changes)
        parser = replace(base.parser, **changes.pop("parser", {}))
        clicks = {
            k: getattr(configured, k) if v == AS_CONFIGURED else v for k, v in changes.pop("sampling", {}).items()
        }
        sampling = replace(base.sampling, **clicks)
        base = configs[name] = replace(base, parser=parser, sampling=sampling, **changes)
    return configs


def ablate(
    base: TrainConfig,
    data: DataSet,
    out: Path,
    measure: Callable[[HumanParser], dict[str, float]],
    *,
    start: Path | None = None,
    device: str = "cpu",
    rows: Sequence[str] | None = None,
    measured_on: str = "",
) -> dict[str, dict[str, float]]:
    """Trains and measures row by row; a row that was finished before is not trained again.

    Args:
        base: Budget and everything that the rows do not change.
        data: Photos to train on.
        out: Folder; one run a row, ablation.json and ablation.md.
        measure: Figures of a trained parser, such as its mIoU at some clicks per class.
        start: Weights of the backbone; or of a parser, which each row takes without what it does with clicks: then the
            budget is spent on clicks, not on seeing.
        device: Where to train.
        rows: Train and measure only these.
        measured_on: Says which photos ``measure`` looks at; rows measured on others are not put beside them.

    Returns:
        For each finished row its figures, those of earlier calls included.

    Raises:
        TrainerError: If the folder holds rows of other options, or measured on other photos.
    """
    found: dict[str, dict[str, float]] = {}
    for number, (name, config) in enumerate(row_configs(base).items(), 1):
        folder = out / f"row-{number}"
        figures = folder / "figures.json"
        if rows is None or name in rows or figures.exists():
            config = replace(config, validate_every=config.steps)
            info = {"version": name}
            trainer = Trainer(config, data, folder, start=start, forget_clicks=True, device=device, info=info)
            trainer.run()
            if not figures.exists():
                row = {"measured_on": measured_on, "miou": measure(load_parser(folder / "best")[0])}
                write_whole(figures, json.dumps(row, indent=1))
            row = json.loads(figures.read_text())
            if row["measured_on"] != measured_on:
                raise TrainerError(
                    f"{figures} was measured on {row['measured_on']!r}, not on {measured_on!r}; take another --out"
                )
            found[name] = row["miou"]
            write_whole(out / "ablation.json", json.dumps(found, indent=1))
            write_whole(out / "ablation.md", table(found))
    return found


def table(found: dict[str, dict[str, float]]) -> str:
    """Returns the figures as a Markdown table."""
    columns = list(next(iter(found.values())))
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    lines += [f"| {name} | {' | '.join(f'{row[c]:.3f}' for c in columns)} |" for name, row in found.items()]
    return "\n".join(lines) + "\n"
