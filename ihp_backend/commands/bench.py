"""``ihp bench``: how fast it is on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from ihp_backend.experiments.benchmark import Row, batches, codec, machine, stages, through_http
from ihp_backend.experiments.soak import soak
from ihp_backend.inference.predictor import Predictor
from ihp_backend.network.weights import WeightsError


@click.command()
@click.option("--weights", default="lip", show_default=True, help="Name in model_weights/, or a folder.")
@click.option("--runs", default=50, show_default=True, type=click.IntRange(5), help="Of each row, after a warm-up.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows here, too.")
@click.option("--markdown", is_flag=True, help="Print a table for a README.")
@click.option("--soak", "minutes", type=click.FloatRange(0, min_open=True), metavar="MINUTES", help="Only this: load.")
@click.option("--clients", default=16, show_default=True, type=click.IntRange(1), help="Of --soak.")
@click.option("--hostile", default=0, show_default=True, type=click.IntRange(0), help="Of them, so many mean harm.")
def bench(
    weights: str,
    runs: int,
    json_file: Path | None,
    markdown: bool,
    minutes: float | None,
    clients: int,
    hostile: int,
) -> None:
    """Measures clicks over HTTP as Label Studio sends them, then each stage, then the brush codec.

    \b
    cold click        a photo that was never seen: download from this machine, decode, parse, encode
    warm click        a part of a photo that was seen, each time at another place
    correction click  a second click of a part, at another place
    all parts         a click on a photo that was seen, all parts in one answer

    Run it on a quiet machine. The figures are medians and 95th percentiles.

    With --soak annotators click without a pause instead; it fails if an answer does, and tells the server's memory.
    With --hostile some clients send bombs and halves instead; before, the others are alone for a fifth of the time. It
    fails, too, if the server stops, if they wait three times longer than alone, or if its memory grows.
    """
    if hostile >= clients:
        raise click.UsageError(f"--hostile is {hostile}; expected fewer than --clients, {clients}")
    if minutes:
        return _soak(weights, minutes, clients, hostile)
    rows: list[Row] = []

    def note(row: Row) -> None:
        rows.append(row)
        click.echo(_line(row), err=markdown)

    where = machine()
    click.echo(", ".join(f"{name} {value}" for name, value in where.items()), err=markdown)
    try:
        predictor = Predictor.load(weights)  # an error of the weights is clearer here than in the server's log
        through_http(weights, runs, note)
        stages(predictor, runs, note)
        batches(predictor, runs, note)
        codec(runs, note)
    except (WeightsError, RuntimeError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if json_file:
        found = {"machine": where, "runs": runs, "rows": [asdict(row) for row in rows]}
        json_file.write_text(json.dumps(found, indent=1) + "\n")
    if markdown:
        click.echo(_table(rows))


def _soak(weights: str, minutes: float, clients: int, hostile: int) -> None:
    try:
        found = soak(weights, 60 * minutes, clients, hostile)
    except (WeightsError, RuntimeError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(", ".join(f"{name} {value}" for name, value in machine().items()))
    click.echo("\n".join(found.lines()))
    if broken := found.broken():
        raise click.ClickException("\n".join(broken))


def _line(row: Row) -> str:
    figures = f"{row.median:9.1f} {row.unit}"
    if row.p95 != row.median:
        figures += f"   p95 {row.p95:9.1f} {row.unit}"
    return f"{row.what:36s} {row.on:24s} {figures}"


def _table(rows: list[Row]) -> str:
    lines = ["| | on | median | p95 |", "|---|---|---:|---:|"]
    for row in rows:
        p95 = f"{row.p95:.1f}" if row.p95 != row.median else ""
        lines.append(f"| {row.what} | {row.on} | {row.median:.1f} {row.unit} | {p95} |")
    return "\n".join(lines)
