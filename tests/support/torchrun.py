"""Several processes on one machine, as torchrun starts them."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path


def torchrun(processes: int, *words: object) -> subprocess.Popen[str]:
    """Starts ``torchrun --nproc-per-node=N ...`` in a session of its own; what it writes comes together."""
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.Popen(
        [*run, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def logged(folder: Path) -> dict[tuple[str, str], float]:
    """The values in the log of a run, by step and name, without the times. Each has to be there once.

    Only the validation that a kill stopped is made up for, and may have told before.
    """
    rows = list(csv.reader((folder / "log.csv").read_text().splitlines()))
    found = {(step, name): float(value) for step, name, value in rows if name != "seconds"}
    trained = [(step, name) for step, name, _ in rows if name != "seconds" and "miou" not in name and name != "score"]
    assert len(trained) == len(set(trained)), "written once"
    return found


def processes_of(parent: int) -> list[int]:
    """The processes that torchrun has started."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
