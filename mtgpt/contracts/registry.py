"""The contracts of a folder, by table name."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from mtgpt.contracts.compile import read_contract
from mtgpt.contracts.variables import FILE, read_vocabulary
from mtgpt.errors import ContractError, NotFound
from mtgpt.settings import settings

if TYPE_CHECKING:
    from pathlib import Path

    from mtgpt.contracts.contract import Contract

SUFFIX = ".odcs.yaml"


def contracts(folder: Path | None = None) -> dict[str, Contract]:
    """All contracts of a folder, sorted by name.

    An edited file is read anew, so a long-running process sees a contract fix.

    Args:
        folder: Folder of ``*.odcs.yaml`` files and ``variables.yaml``; the settings' own if not given.

    Raises:
        ContractError: The folder has no contracts, or one of them is malformed.
    """
    folder = folder or settings().contracts
    try:
        paths = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))
        stamps = tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in (*paths, folder / FILE))
    except OSError as error:
        raise ContractError(
            "The contracts cannot be read",
            where=error.filename or folder,
            got=error.strerror,
            next_step="set MTGPT_CONTRACTS to the folder data_contracts",
        ) from error
    if not paths:
        raise ContractError("The folder has no contracts", where=folder, expected=f"files named <table>{SUFFIX}")
    return dict(_read(folder, stamps))


def contract(name: str, folder: Path | None = None) -> Contract:
    """The contract of one table.

    Raises:
        NotFound: No contract has this name; ``expected`` lists those that exist.
        ContractError: A contract file is malformed.
    """
    known = contracts(folder)
    if name not in known:
        raise NotFound("There is no such contract", where="contracts", got=name, expected=", ".join(known))
    return known[name]


@lru_cache(maxsize=8)
def _read(folder: Path, stamps: tuple[tuple[str, int, int], ...]) -> tuple[tuple[str, Contract], ...]:
    vocabulary = read_vocabulary(folder / FILE).variables
    found = []
    for name, _, _ in stamps:
        if name == FILE:
            continue
        read = read_contract(folder / name, vocabulary)
        if f"{read.name}{SUFFIX}" != name:
            raise ContractError(
                "The file is not named after its table", where=folder / name, got=name, expected=read.name + SUFFIX
            )
        found.append((read.name, read))
    return tuple(found)
