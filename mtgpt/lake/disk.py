"""What a disk may do to a lake: refuse, fill up, lose power. Refusals become one sentence, writes become durable."""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from polars.exceptions import ComputeError

from mtgpt.errors import LakeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CODE = re.compile(r"os error (\d+)")
_NEXT = "nothing was half-written: run the same command again afterwards"
_REASONS = {
    errno.ENOSPC: ("the disk is full", f"free some space; {_NEXT}"),
    errno.EDQUOT: ("the disk quota is used up", f"free some space; {_NEXT}"),
    errno.EFBIG: ("the file would grow over the allowed size", f"raise the limit (ulimit -f); {_NEXT}"),
    errno.EROFS: ("the disk is read-only", f"point MTGPT_HOME at a folder that can be written; {_NEXT}"),
    errno.EACCES: ("permission denied", f"point MTGPT_HOME at a folder that can be written; {_NEXT}"),
    errno.EPERM: ("permission denied", f"point MTGPT_HOME at a folder that can be written; {_NEXT}"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n) and run the same command again"),
}


@contextmanager
def refusals(where: object) -> Iterator[None]:
    """Turns what the operating system or Delta refuses into a :class:`LakeError` that names the reason.

    Args:
        where: Table or file at work.

    Raises:
        LakeError: Disk full, read-only or forbidden; another writer; a table that cannot be read.
    """
    try:
        yield
    except OSError as error:
        raise _refused(where, error.errno or _code(error), error) from error
    except TableNotFoundError as error:
        raise LakeError(
            "no such table version", where=where, got=_first_line(error), next_step="see mtgpt lake status"
        ) from error
    except CommitFailedError as error:
        if _code(error) is not None:
            raise _refused(where, _code(error), error) from error
        raise LakeError(
            "another process wrote at the same time", where=where, got=_first_line(error), next_step="run it again"
        ) from error
    except (DeltaError, ComputeError) as error:
        raise _refused(where, _code(error), error) from error


def _refused(where: object, code: int | None, error: BaseException) -> LakeError:
    reason = _REASONS.get(code) if code is not None else None
    if reason is None:
        return LakeError(
            "cannot be read or written", where=where, got=_first_line(error), next_step="see mtgpt lake status"
        )
    return LakeError(reason[0], where=where, next_step=reason[1])


def _code(error: BaseException) -> int | None:
    # Delta reports what the system said only as text.
    found = _CODE.search(str(error))
    return int(found.group(1)) if found else None


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def sync_file(path: Path) -> None:
    """Forces a file's bytes onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(path: Path) -> None:
    """Forces a folder's entries (names of new files) onto the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
