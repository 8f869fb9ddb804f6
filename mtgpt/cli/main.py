"""The ``mtgpt`` command: one group of commands per layer.

Every group's file imports what is heavy (torch, Delta, plots) inside its commands, so that ``--help`` stays quick.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from mtgpt.cli import contracts, evaluate, train
from mtgpt.cli.sentences import as_sentences

app = typer.Typer(
    name="mtgpt",
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


app.add_typer(contracts.app, name="contracts")
app.command("train")(train.command)
app.command("evaluate")(evaluate.command)


def run() -> None:
    """Runs the command line."""
    with as_sentences():
        app()
