"""One Delta table of the lake, with the schema of its contract and commits that carry the batch they belong to.

Delta does not refuse a batch that is appended twice. Every commit therefore records its batch as a Delta application
transaction, whose number is the count of rows appended: it survives checkpoints, and a run that was killed between
two tables' commits learns from it, later, what is already there.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from deltalake import (
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)

from mtgpt.errors import LakeError
from mtgpt.lake.disk import refusals, sync_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mtgpt.contracts.contract import Contract

_PARTITIONS = {
    "spot": ("city_id",),
    "link": ("city_id",),
    # By source too, so that what is derived again from trips replaces whole files of its own and no others.
    "observation": ("city_id", "source_id"),
    "trip": ("city_id",),
    "weather": ("city_id",),
    "route": ("city_id",),
    "service": ("city_id",),
    "service_day": ("city_id",),
    "stop_visit": ("city_id",),
    "vehicle": ("city_id",),
    "event": ("city_id",),
    "road": ("city_id",),
    "document": ("city_id",),
}
_TIME = ("time_start", "start_time", "time")
_CHECKPOINT_EVERY = 50
# Versions name the data a panel was built from: they must stay readable until someone vacuums on purpose.
_CONFIGURATION = {
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": "interval 30 days",
    "delta.checkpointInterval": str(_CHECKPOINT_EVERY),
}
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
_SIGNED = {pa.uint64(): pa.int64()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A Delta table.

    Attributes:
        path: Its folder.
        contract: What its rows are.
        opened: Tables that a writer has open, by path; shared by the tables of one lake.
    """

    path: Path
    contract: Contract
    opened: dict[Path, DeltaTable] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The contract's name."""
        return self.contract.name

    @property
    def time_column(self) -> str | None:
        """The column by which rows of a batch lie near each other in time, where the table has one."""
        names = self.contract.polars_schema.names()
        return next((name for name in _TIME if name in names), None)

    @property
    def exists(self) -> bool:
        """Whether anything was ever written to it."""
        return (self.path / "_delta_log").is_dir() and DeltaTable.is_deltatable(str(self.path))

    def open(self, *, version: int | None = None) -> DeltaTable:
        """Opens the table for reading.

        Raises:
            LakeError: There is no such table or version, or it cannot be read.
        """
        with refusals(self.name):
            table = DeltaTable(str(self.path))
            newest = table.version()
            if version is not None and not 0 <= version <= newest:
                raise LakeError("no such table version", where=self.name, got=version, expected=f"0 to {newest}")
            if version is not None:
                table.load_as_version(version)
            return table

    def open_or_create(self) -> DeltaTable:
        """Opens the table for writing; call it under the table's lock.

        Raises:
            LakeError: It cannot be written, or its columns are not those of today's contract.
        """
        with refusals(self.name):
            if self.exists:
                table = self._newest()
            else:
                table = DeltaTable.create(
                    str(self.path),
                    _delta_schema(self.contract),
                    mode="ignore",
                    partition_by=list(_PARTITIONS.get(self.name, ())) or None,
                    name=self.name,
                    description=f"{self.contract.description} (contract {self.contract.version})",
                    configuration=_CONFIGURATION,
                )
                self._sync(table)
        self.opened[self.path] = self._with_new_columns(table)
        return self.opened[self.path]

    def refuse_torn_log(self) -> None:
        """Looks at the sizes of the log's last entries; nothing is read.

        A disk that lost power may keep an entry's name and lose its bytes. Delta takes such an entry for a version in
        which nothing happened, so the rows that it acknowledged would be gone without a word.

        Raises:
            LakeError: An entry is empty.
        """
        if not self.exists:
            return
        newest = self.open().version()
        # Older entries are in a checkpoint, which is read in their place.
        for version in range(max(0, newest - _CHECKPOINT_EVERY), newest + 1):
            entry = self.path / "_delta_log" / f"{version:020d}.json"
            if entry.is_file() and entry.stat().st_size == 0:
                raise LakeError(
                    "an entry of the table's log is empty",
                    where=entry,
                    got="0 bytes",
                    next_step="restore the folder of the lake, or ingest anew into another MTGPT_HOME",
                )

    def _newest(self) -> DeltaTable:
        # To open a table is to read its log; a writer that has it open reads only what was added since.
        known = self.opened.pop(self.path, None)
        if known is None or not (self.path / "_delta_log" / f"{known.version():020d}.json").exists():
            return DeltaTable(str(self.path))
        known.update_incremental()
        return known

    def scan(self, *, version: int | None = None) -> pl.LazyFrame:
        """All rows, lazily, with exactly the contract's columns; no rows where nothing was ever written.

        Raises:
            LakeError: There is no such version, it cannot be read, or a data file is missing or cut off.
        """
        schema = self.contract.polars_schema
        if not self.exists:
            if version is not None:
                raise LakeError(
                    "no such table version", where=self.name, got=version, expected="nothing was written yet"
                )
            return pl.LazyFrame(schema=schema)
        table = self.open(version=version)
        self._refuse_damaged(table)
        there = {field.name for field in table.schema().fields}
        # A column that a contract got later is null in what was written before.
        columns = {name: pl.col(name) if name in there else pl.lit(None) for name in schema}
        return pl.scan_delta(table).select(columns[name].cast(dtype).alias(name) for name, dtype in schema.items())

    def appended(self, table: DeltaTable, transaction: str) -> int | None:
        """Rows that the transaction appended, or None where it never committed here."""
        return table.transaction_version(transaction)

    def commit(
        self,
        table: DeltaTable,
        rows: pl.DataFrame | pa.RecordBatchReader,
        *,
        count: int,
        transaction: str,
        facts: dict[str, Any],
        replace: str | None = None,
    ) -> int:
        """Appends rows, or replaces those that a predicate selects, in one atomic commit that is on the disk on return.

        Args:
            table: From :meth:`open_or_create`, opened under the lock that is still held.
            rows: The contract's columns.
            count: Number of rows.
            transaction: Name under which :meth:`appended` finds this commit.
            facts: JSON values for the commit's metadata: source, batch.
            replace: SQL predicate of the rows to be replaced; None appends.

        Returns:
            The table's new version.

        Raises:
            LakeError: The disk refused; nothing became visible.
        """
        mode: dict[str, Any] = {"mode": "append"} if replace is None else {"mode": "overwrite", "predicate": replace}
        with refusals(self.name):
            before = table.version()
            write_deltalake(
                table,
                rows,
                **mode,
                writer_properties=WriterProperties(compression="ZSTD", compression_level=1),
                commit_properties=CommitProperties(
                    custom_metadata={"mtgpt": json.dumps(facts, sort_keys=True), "contract": self.contract.sha256},
                    app_transactions=[Transaction(transaction, count)],
                ),
                post_commithook_properties=PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False),
            )
            self._sync(table, since=before)
        return table.version()

    def files(self, table: DeltaTable) -> pl.DataFrame:
        """The table's data files with the statistics: ``min.time_start``, ``partition.city_id``, …."""
        return pl.DataFrame(table.get_add_actions(flatten=True))

    def compact(self) -> dict[str, Any]:
        """Rewrites small files into large ones and writes a checkpoint; no row changes, older versions stay readable.

        Returns:
            ``version``, ``files_before``, ``files_after``.
        """
        with refusals(self.name):
            table = self.open()
            before = table.version()
            metrics = table.optimize.compact(
                writer_properties=WriterProperties(compression="ZSTD", compression_level=3),
                post_commithook_properties=PostCommitHookProperties(
                    create_checkpoint=False, cleanup_expired_logs=False
                ),
            )
            self._sync(table, since=before)
            table.create_checkpoint()
            after = len(table.file_uris())
        gone = int(metrics["numFilesRemoved"]) - int(metrics["numFilesAdded"])
        return {"table": self.name, "version": table.version(), "files_before": after + gone, "files_after": after}

    def vacuum(self, *, keep_days: int) -> int:
        """Deletes files that no version of the last ``keep_days`` days needs; older versions are then gone.

        Returns:
            How many files were deleted.
        """
        with refusals(self.name):
            removed = self.open().vacuum(
                retention_hours=keep_days * 24, dry_run=False, enforce_retention_duration=False, full=True
            )
        return len(removed)

    def _refuse_damaged(self, table: DeltaTable) -> None:
        # A look at the names and sizes that the log promises: a reader of a cut-off file would panic, not raise.
        with refusals(self.name):
            files = self.files(table)
            for path, size in files.select("path", "size_bytes").iter_rows() if files.height else ():
                file = self.path / unquoted(path)
                there = file.stat().st_size if file.is_file() else None
                if there != size:
                    raise LakeError(
                        "a data file is damaged" if there is not None else "a data file is missing",
                        where=file,
                        got=None if there is None else f"{there} bytes",
                        expected=f"{size} bytes",
                        next_step="restore the folder of the lake, or ingest anew into another MTGPT_HOME",
                    )

    def _with_new_columns(self, table: DeltaTable) -> DeltaTable:
        there = [field.name for field in table.schema().fields]
        wanted = self.contract.polars_schema.names()
        new = [self.contract.field(name) for name in wanted if name not in there]
        if set(there) - set(wanted) or any(field.required for field in new):
            raise LakeError(
                "the table's columns are not those of its contract",
                where=self.name,
                got=", ".join(there),
                expected=", ".join(wanted),
                next_step="start a new lake, or go back to the contract that wrote it",
            )
        if new:
            schema = Schema.from_arrow(_delta_schema(self.contract))
            names = {field.name for field in new}
            with refusals(self.name):
                before = table.version()
                table.alter.add_columns([field for field in schema.fields if field.name in names])
                table.update_incremental()
                self._sync(table, since=before)
        return table

    def _sync(self, table: DeltaTable, *, since: int = -1) -> None:
        # Delta renames files into place but leaves them in the kernel's cache; acknowledged must mean on the disk.
        log = self.path / "_delta_log"
        added: list[Path] = []
        files: list[Path] = []
        for version in range(since + 1, table.version() + 1):
            entry = log / f"{version:020d}.json"
            lines = (json.loads(line) for line in entry.read_bytes().splitlines())
            added += [self.path / unquoted(line["add"]["path"]) for line in lines if "add" in line]
            checkpoint = entry.with_suffix(".checkpoint.parquet")
            files += [entry, checkpoint, log / "_last_checkpoint"] if checkpoint.exists() else [entry]
        folders = {file.parent for file in added}
        for folder in tuple(folders):
            if folder != self.path and len(list(folder.iterdir())) <= len(added):
                # A partition's first file: the names of its folders are new too.
                folders.update(parent for parent in folder.parents if parent.is_relative_to(self.path))
        if since < 0:
            folders.update((self.path, self.path.parent))
        # The kernel writes them together when they are asked for together.
        with ThreadPoolExecutor(max_workers=4) as pool:
            list(pool.map(sync_file, [*files, *added]))
        for folder in (*folders, log):
            sync_folder(folder)


def batches(frames: Iterable[pl.DataFrame], contract: Contract) -> pa.RecordBatchReader:
    """A stream of Arrow batches from frames that need not all be in memory at once."""
    schema = pl.DataFrame(schema=contract.polars_schema).to_arrow().schema

    def stream() -> Iterable[pa.RecordBatch]:
        for frame in frames:
            # Polars's own texts (views) are handed over as they are: no copy.
            yield from frame.to_arrow().cast(schema).to_batches()

    return pa.RecordBatchReader.from_batches(schema, stream())


def _delta_schema(contract: Contract) -> pa.Schema:
    # Delta has no unsigned integers; row numbers fit in a signed one.
    schema = contract.arrow_schema
    return pa.schema([field.with_type(_SIGNED.get(field.type, field.type)) for field in schema])


def unquoted(path: str) -> str:
    """A data file's path as the log writes it (URL-encoded), as the disk knows it."""
    return unquote(path)
