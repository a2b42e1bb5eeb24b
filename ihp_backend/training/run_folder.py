"""The folder of a training run: config.json, log.csv, last.pt (to resume), best/ (weights to serve)."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from ihp_backend.files import replacing, write_whole
from ihp_backend.network.parser import HumanParser
from ihp_backend.network.weights import save_parser
from ihp_backend.training.config import TrainConfig


class TrainerError(RuntimeError):
    """Training cannot go on; what was good is kept."""


class WriteError(TrainerError):
    """Files cannot be written, as on a full disk: another try may go well."""


class RunFolder:
    """What a run leaves on disk. Every file but the log is whole or not there."""

    def __init__(self, path: Path, config: TrainConfig, *, writes: bool = True) -> None:
        """Opens the folder of a run, or makes it.

        Args:
            path: The folder.
            config: The run.
            writes: Whether this process writes; if not, another one does, and this one touches nothing.

        Raises:
            TrainerError: If it holds another run.
        """
        self.path, self._writes = path, writes
        self._log, self._state = path / "log.csv", path / "last.pt"
        if not writes:
            return
        written, known = json.dumps(asdict(config), indent=1), path / "config.json"
        if known.exists() and known.read_text() != written:
            raise TrainerError(f"{known} belongs to a run with other options; take another --out, or remove it")
        write_whole(known, written)

    @property
    def last_good_state(self) -> str:
        """Where to go on from, for people."""
        return f"the last good state is in {self._state}" if self._state.exists() else "no state was saved before"

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a row for each value: step, name, value."""
        if not self._writes:
            return
        with self._log.open("a", newline="") as file:
            csv.writer(file).writerows((step, name, f"{value:.6g}") for name, value in values.items())

    def save_state(self, state: dict[str, Any]) -> None:
        """Keeps what the run needs to go on from here, in place of what was kept before.

        Raises:
            WriteError: If it cannot be written; what was there is kept.
        """
        if not self._writes:
            return
        try:
            with replacing(self._state) as new:
                torch.save(state, new)
        except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
            raise WriteError(f"{self._state} cannot be written ({error}); the state before it is kept") from error

    def load_state(self, device: torch.device) -> dict[str, Any] | None:
        """Returns what ``save_state`` kept last; ``None`` if nothing. The log is cut back to that step.

        Raises:
            TrainerError: If it is damaged.
        """
        if not self._state.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self._state, map_location=device, weights_only=True)
        except (RuntimeError, OSError, EOFError, UnpicklingError) as error:
            raise TrainerError(
                f"{self._state} is no training state, or damaged; remove it to start the run over"
            ) from error
        if self._log.exists():  # what came after the state, half a line perhaps, comes again
            rows = [row for row in csv.reader(self._log.read_text().splitlines()) if len(row) == 3]
            kept = [",".join(row) + "\n" for row in rows if row[0].isdecimal() and int(row[0]) <= state["step"]]
            write_whole(self._log, "".join(kept))
        return state

    def save_best(self, parser: HumanParser, info: dict[str, Any]) -> None:
        """Keeps the weights to serve.

        Raises:
            WriteError: If they cannot be written; what was there is kept.
        """
        best = self.path / "best"
        try:
            save_parser(parser, best, info)
        except OSError as error:
            raise WriteError(f"{best} cannot be written ({error}); what was there is kept") from error
