"""The lake: raw bytes in bronze, one Delta table per contract, the ledger and the quarantine."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.contracts.registry import contracts
from mtgpt.errors import LakeError, NotFound
from mtgpt.lake.bronze import Bronze
from mtgpt.lake.disk import refusals
from mtgpt.lake.plausible.past import Past
from mtgpt.lake.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from deltalake import DeltaTable

    from mtgpt.contracts.contract import Contract

BATCH = "batch"
QUARANTINE = "quarantine"
OBSERVATION = "observation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lake:
    """A lake on a disk.

    Attributes:
        root: Its folder: ``bronze/``, ``tables/``, and what writers need (``.locks/``, ``.staging/``, ``.past/``).
        contracts: The contracts of its tables, as they were when it was opened.
    """

    root: Path
    contracts: Mapping[str, Contract]
    _opened: dict[Path, DeltaTable] = field(default_factory=dict, repr=False, compare=False)
    _pasts: dict[tuple[str, str], Past] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, root: Path, *, create: bool = True, contracts_folder: Path | None = None) -> Lake:
        """Opens a lake.

        Args:
            root: Its folder.
            create: Make the folder where it is absent.
            contracts_folder: Contract files; the settings' own if not given.

        Raises:
            LakeError: There is none, it cannot be made, or a table is older than the ledger says.
            ContractError: A contract is malformed.
        """
        if create:
            with refusals(root):
                root.mkdir(parents=True, exist_ok=True)
        elif not root.is_dir():
            raise LakeError("there is no lake", where=root, next_step="ingest a city first: mtgpt ingest CITY")
        lake = cls(root=root, contracts=contracts(contracts_folder))
        lake._refuse_lost()
        return lake

    @property
    def bronze(self) -> Bronze:
        """The raw bytes."""
        return Bronze(root=self.root / "bronze")

    @property
    def staging(self) -> Path:
        """Folder of what is on its way in; anything there may be lost without loss."""
        return self.root / ".staging"

    def table(self, name: str) -> Table:
        """One table, whether or not it was written yet.

        Raises:
            NotFound: No contract has that name.
        """
        if name not in self.contracts:
            raise NotFound("no such table", where=self.root, got=name, expected=", ".join(sorted(self.contracts)))
        return Table(path=self.root / "tables" / name, contract=self.contracts[name], opened=self._opened)

    def past(self, city_id: str, source_id: str) -> Past:
        """The recent past of a source, read once for all of its batches."""
        return self._pasts.setdefault(
            (city_id, source_id),
            Past(table=self.table(OBSERVATION), folder=self.root / ".past", city_id=city_id, source_id=source_id),
        )

    def lock(self, name: str) -> Path:
        """The lock file of a table's writer."""
        return self.root / ".locks" / f"{name}.lock"

    def version(self, table: str) -> int | None:
        """The table's newest version; None where nothing was written yet."""
        known = self.table(table)
        return known.open().version() if known.exists else None

    def versions(self) -> dict[str, int]:
        """The newest version of every table that was written."""
        found = {name: self.version(name) for name in sorted(self.contracts)}
        return {name: version for name, version in found.items() if version is not None}

    def scan(self, table: str, *, city_id: str | None = None, version: int | None = None) -> pl.LazyFrame:
        """Rows of a table, lazily, with exactly its contract's columns; none where nothing was written yet.

        Args:
            table: Its name.
            city_id: Only this city's rows; other cities' files are not read.
            version: An earlier version; the newest if not given.

        Raises:
            NotFound: No such table.
            LakeError: No such version, or the table cannot be read.
        """
        rows = self.table(table).scan(version=version)
        return rows if city_id is None else rows.filter(pl.col("city_id") == city_id)

    def _refuse_lost(self) -> None:
        # The ledger is written last: a table that is behind it lost what was acknowledged, and to ingest on would hide
        # that for good.
        if not self.table(BATCH).exists:
            return
        self.table(BATCH).refuse_torn_log()
        with refusals(BATCH):
            written = self.scan(BATCH).select("tables").collect()["tables"].drop_nulls().to_list()
        promised: dict[str, int] = {}
        for tables in written:
            for name, facts in json.loads(tables).items():
                promised[name] = max(promised.get(name, -1), -1 if facts["version"] is None else facts["version"])
        for name, version in promised.items():
            self.table(name).refuse_torn_log()
            newest = self.version(name) if version >= 0 else None
            if version >= 0 and (newest is None or newest < version):
                raise LakeError(
                    "the table lost what the ledger says is there",
                    where=self.root / "tables" / name,
                    got="no table" if newest is None else f"version {newest}",
                    expected=f"version {version}",
                    next_step="restore the folder of the lake, or ingest anew into another MTGPT_HOME",
                )

    def ledger(self, city_id: str | None = None) -> pl.DataFrame:
        """One row per batch, the latest last."""
        with refusals(BATCH):
            return self.scan(BATCH, city_id=city_id).sort("received_at", "batch_id").collect()

    def quarantine(self, city_id: str | None = None, batch_id: str | None = None) -> pl.DataFrame:
        """Refused rows, with rule, message, raw row and the raw file they came from."""
        rows = self.scan(QUARANTINE, city_id=city_id)
        if batch_id is not None:
            rows = rows.filter(pl.col("batch_id") == batch_id)
        with refusals(QUARANTINE):
            return rows.sort("quarantined_at", "batch_id", "table_name", "row").collect()

    def batch_id(self, start: str) -> str:
        """The one batch whose id begins with ``start``.

        Raises:
            NotFound: None does, or several do.
        """
        ids = self.ledger()["batch_id"].to_list()
        found = [name for name in ids if name.startswith(start)] if start else []
        if len(found) != 1:
            what = "several batches begin like this" if found else "no such batch"
            raise NotFound(what, where="ledger", got=start, next_step="mtgpt lake status lists the batches")
        return found[0]
