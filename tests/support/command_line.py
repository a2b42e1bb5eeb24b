"""The command line, in this process."""

from __future__ import annotations

from click.testing import CliRunner

from ihp_backend.cli import main


def invoke(*words: object) -> tuple[int, str]:
    """Runs ``ihp`` with these words; returns the exit code and what it wrote."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, result.output
