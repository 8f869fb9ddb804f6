"""The ``mtgpt`` command: one group of commands per layer, and the only place where errors become sentences."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from pydantic import ValidationError

from mtgpt.cli import show
from mtgpt.errors import MTGPTError

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


def run() -> None:
    """Runs the command line; what a person did wrong, and what a disk refused, is one sentence and an exit code."""
    try:
        app()
    except MTGPTError as error:
        _stop(error.sentence(), error.exit_code)
    except ValidationError as error:
        # Only settings are validated outside mtgpt's own errors: they come straight from the environment.
        if error.title != "Settings":
            raise
        facts = "; ".join(
            f"MTGPT_{str(fault['loc'][0]).upper()}: {fault['msg'].lower()} (got {fault['input']!r})"
            for fault in error.errors()
        )
        _stop(f"{facts}.", 2)
    except OSError as error:
        if error.strerror is None or sys.flags.dev_mode:
            raise
        place = f"{error.filename}: " if error.filename else ""
        _stop(f"{place}{error.strerror.lower()}. Free space, or point MTGPT_HOME at a folder that can be written.", 1)


def _stop(sentence: str, code: int) -> None:
    show.fail(sentence)
    raise SystemExit(code) from None
