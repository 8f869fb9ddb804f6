"""The one place where errors become sentences: on standard error, with an exit code, without a traceback."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from pydantic import ValidationError

from mtgpt.cli import show
from mtgpt.cli.slips import slip
from mtgpt.errors import MTGPTError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import typer

_INTERRUPTED = 130
_STOPPED = "Stopped. Nothing is half-written: the same command goes on from there."


def run_app(app: typer.Typer) -> None:
    """Runs a command line whose every error is a sentence, what a person mistyped included.

    Raises:
        SystemExit: With the error's exit code, or the command's own.
    """
    with as_sentences():
        try:
            # Typer's own way with errors is a box of several lines.
            code = app(standalone_mode=False)
        except Exception as error:
            said = slip(error)
            if said is not None:
                raise said from None
            if not hasattr(error, "exit_code") or not hasattr(error, "show"):
                raise
            error.show()  # pyright: ignore[reportAttributeAccessIssue] - a command without arguments shows its help
            code = error.exit_code  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(code, int) and code:
            raise SystemExit(code)


@contextmanager
def as_sentences() -> Iterator[None]:
    """Ends the program with one sentence for what a person did wrong and for what a disk refused.

    Anything else is a fault of the program and keeps its traceback. ``python -X dev`` keeps that of disk errors too.

    Raises:
        SystemExit: With the error's exit code.
    """
    sys.unraisablehook = _not_lost
    try:
        yield
    except SystemExit as stop:
        # Typer ends the program silently where a person pressed Ctrl-C.
        if stop.code == _INTERRUPTED:
            show.fail(_STOPPED)
        raise
    except KeyboardInterrupt:
        _stop(_STOPPED, _INTERRUPTED)
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
        _stop(f"{place}{error.strerror.lower()}. Check the disk, or point MTGPT_HOME at another folder.", 1)


def _not_lost(unraisable: sys.UnraisableHookArgs) -> None:
    # A Ctrl-C that meets a destructor is printed and forgotten by Python: send it again, to where it can be heard.
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    else:
        sys.__unraisablehook__(unraisable)


def _stop(sentence: str, code: int) -> NoReturn:
    show.fail(sentence)
    raise SystemExit(code) from None
