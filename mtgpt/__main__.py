"""The ``mtgpt`` program and ``python -m mtgpt``, which is also how torchrun starts it."""

import os
import signal
import sys


def run() -> None:
    """Runs the command line; a Ctrl-C that comes while it is still being loaded is one quiet line too."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _stop)
    from mtgpt.cli.main import run as command_line  # noqa: PLC0415 - loading it takes half a second

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command_line()


def _stop(_number: int, _frame: object) -> None:
    # Nothing is at work yet, and libraries that are half loaded may swallow an exception.
    sys.stderr.write("Stopped.\n")
    sys.stderr.flush()
    os._exit(130)


if __name__ == "__main__":
    run()
