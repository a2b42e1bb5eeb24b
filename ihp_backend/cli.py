"""The ``ihp`` command. It only finds the subcommands; each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

import click

from ihp_backend import __version__
from ihp_backend.serving import process

COMMANDS = {
    "serve": ("ihp_backend.commands.serve:serve", "Answer Label Studio's clicks over HTTP."),
    "demo": ("ihp_backend.commands.demo:demo", "Start Label Studio, the backend and photos to click on."),
    "connect": ("ihp_backend.commands.connect:connect", "Connect a project of an existing Label Studio."),
    "trainer": ("ihp_backend.commands.trainer:trainer", "Do the trainings that projects ask for."),
    "versions": ("ihp_backend.commands.versions:versions", "List, promote and roll back versions of a project."),
    "preannotate": ("ihp_backend.commands.preannotate:preannotate", "Predict for all tasks without an annotation."),
    "export": ("ihp_backend.commands.export:export", "Write a project's annotations as a data set."),
    "import": ("ihp_backend.commands.import_data:import_data", "Make tasks of a data set, with its masks."),
    "review": ("ihp_backend.commands.review:review", "Find the annotations that are likely wrong."),
    "predict": ("ihp_backend.commands.predict:predict", "Cut the clicked parts out of one photo."),
    "evaluate": ("ihp_backend.commands.evaluate:evaluate", "Measure how many clicks the weights need."),
    "negative-clicks": (
        "ihp_backend.commands.negative_clicks:negative_clicks",
        "Measure what an Alt+click takes away.",
    ),
    "wrong-labels": (
        "ihp_backend.commands.wrong_labels:wrong_labels",
        "Measure how well `ihp review` finds wrong labels.",
    ),
    "thresholds": (
        "ihp_backend.commands.thresholds:thresholds_command",
        "Measure what the numbers in the path of a click are worth.",
    ),
    "whole-photos": (
        "ihp_backend.commands.whole_photos:whole_photos_command",
        "Measure what a photo costs an annotator.",
    ),
    "bench": ("ihp_backend.commands.bench:bench", "Measure how fast it is on this machine."),
    "ablate": ("ihp_backend.commands.ablate:ablate", "Train once for each part of the method, and compare."),
    "rounds": ("ihp_backend.commands.rounds:rounds", "Measure how many clicks a project's learning saves."),
    "meanings": ("ihp_backend.commands.meanings:meanings", "Measure how soon a label's meaning is learnt."),
    "fill": ("ihp_backend.commands.fill:fill", "Make training data from photos with known outlines of people."),
    "train": ("ihp_backend.commands.train:train", "Train weights with simulated clicks."),
}
"""For each subcommand: where its click command is, and its line in ``ihp --help``."""


class LazyGroup(click.Group):
    """A group that imports a subcommand when it runs, and none of them for its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the subcommands' names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a subcommand, or returns ``None`` if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        process.prepare()
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of subcommands from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="ihp")
def main() -> None:
    """Interactive human parsing for Label Studio: click a body part, get its mask.

    To try it with a Label Studio of its own: `make run`. To serve an existing Label Studio: `ihp serve`,
    then connect http://THIS-HOST:9090 under the project's Settings > Model, with interactive preannotations
    on.

    Options that all commands share are environment variables named IHP_*. `ihp COMMAND --help` explains a
    command.
    """
