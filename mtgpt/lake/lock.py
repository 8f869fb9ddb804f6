"""One writer per table at a time, across processes; the kernel frees a lock when its process dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from mtgpt.errors import LakeError
from mtgpt.lake.disk import refusals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

WAIT_S = 300.0
_POLL_S = 0.02


@contextmanager
def locked(path: Path, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Holds an exclusive lock on ``path``, which is created where absent and never removed.

    Args:
        path: Lock file.
        wait_s: How long to wait for another writer.

    Raises:
        LakeError: Another writer held it all that time, or the file cannot be created.
    """
    with refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _wait(handle, path, wait_s)
        yield
    finally:
        os.close(handle)


@contextmanager
def locked_all(paths: Iterable[Path], *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Holds several locks, taken in the order of their names, so that two writers cannot wait for each other."""
    with ExitStack() as stack:
        for path in sorted(set(paths)):
            stack.enter_context(locked(path, wait_s=wait_s))
        yield


def try_lock(path: Path) -> int | None:
    """Takes a lock without waiting.

    Returns:
        The open handle, to be closed by the caller, or None where another process has it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _wait(handle: int, path: Path, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise LakeError(
                    "another process is writing",
                    where=path.stem,
                    got=f"still busy after {wait_s:.0f} s",
                    next_step="wait for it to end and run this again",
                ) from None
            time.sleep(_POLL_S)
        else:
            return
