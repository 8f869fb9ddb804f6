"""The ``mtgpt`` command: one group of commands per layer.

Every group's file imports what is heavy (torch, Delta, plots) inside its commands, so that ``--help`` stays quick.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from typer.core import TyperGroup

from mtgpt.cli import adapt, city, contracts, evaluate, forecast, impute, ingest, lake, panel, train, watch
from mtgpt.cli.sentences import run_app
from mtgpt.settings import share_cores

ROAD = ("city", "contracts", "ingest", "watch", "lake", "panel", "train", "adapt", "forecast", "impute", "evaluate")


class _Road(TyperGroup):
    def list_commands(self, ctx: object) -> list[str]:
        """In the order in which a feed becomes an answer, not groups after commands."""
        del ctx
        return sorted(self.commands, key=lambda name: ROAD.index(name) if name in ROAD else len(ROAD))


app = typer.Typer(
    name="mtgpt",
    cls=_Road,
    help="One generative pre-trained model for a city's whole transport system: feeds in, forecasts out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"mtgpt {version('mtgpt')}\n")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """What holds for every command."""


app.add_typer(city.app, name="city")
app.add_typer(contracts.app, name="contracts")
app.command("ingest")(ingest.command)
app.command("watch")(watch.command)
app.add_typer(lake.app, name="lake")
app.add_typer(panel.app, name="panel")
app.command("train")(train.command)
app.command("adapt")(adapt.command)
app.command("forecast")(forecast.command)
app.command("impute")(impute.command)
app.add_typer(evaluate.app, name="evaluate")


def run() -> None:
    """Runs the command line."""
    share_cores()
    run_app(app)
