"""How a flow runs as a program on this machine: Prefect's own server for the run, its files under the workspace."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mtgpt.cli.sentences import as_sentences, run_app
from mtgpt.errors import MTGPTError, Transient
from mtgpt.settings import settings, share_cores

if TYPE_CHECKING:
    from collections.abc import Callable

LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


def prepare() -> None:
    """Sets Prefect's environment; must run before Prefect is imported, which is when it reads it.

    What is set already stays: with ``PREFECT_API_URL`` the flow reports to that server instead of starting one.
    """
    share_cores()
    with as_sentences():
        for name, value in environment(settings().home).items():
            os.environ.setdefault(name, value)


def environment(home: Path) -> dict[str, str]:
    """What Prefect should know when it serves itself.

    Args:
        home: The workspace; Prefect's folder in it is made if absent.

    Raises:
        OSError: It cannot be made.
    """
    folder = (home / "prefect").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return {
        # Not in the person's home, and where a server of theirs is not touched.
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
        # The first start lays out a database: 20 to 40 s on a small machine.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    }


def program(main: Callable[..., None]) -> None:
    """Runs ``main`` with its arguments from the command line; errors are sentences, in the log too.

    Args:
        main: A function with typer annotations.
    """
    for name in LOGGERS:
        logging.getLogger(name).addFilter(without_traceback)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_app(app)


def is_transient(_task: Any, _run: Any, state: Any) -> bool:
    """Retries only what may go through later; ``retry_condition_fn`` of every task that pulls."""
    return isinstance(state.result(raise_on_failure=False), Transient)


def run_name() -> str:
    """``flow_run_name`` of every flow on a city: ``ingest-demo``, even where the city is the path of a manifest."""
    from prefect.runtime import flow_run  # noqa: PLC0415 - Prefect must not be imported before prepare()

    return f"{flow_run.flow_name}-{Path(flow_run.parameters['city']).stem}"  # pyright: ignore[reportAttributeAccessIssue]


def artifact_key(*parts: str) -> str:
    """Prefect wants lower-case letters, digits and dashes."""
    return "-".join(parts).replace("_", "-")


def without_traceback(record: logging.LogRecord) -> bool:
    """A log filter: an error that has a sentence is logged as that sentence."""
    if record.exc_info and isinstance(record.exc_info[1], MTGPTError):
        record.msg, record.args, record.exc_info = record.exc_info[1].sentence(), (), None
    return True
