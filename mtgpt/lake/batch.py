"""A batch: the files that a source gave at one time, its name, and its row in the ledger."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from mtgpt.errors import LakeError
from mtgpt.ingest.adapter import DATA

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from mtgpt.contracts.contract import Contract
    from mtgpt.ingest.adapter import FeedFile

SOURCE_ROLE = "source"
"""Role of the file that says how the batch was read: kind, options, time zone. A replay needs nothing else."""

Status = Literal["committed", "held", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a batch is, before it is known what becomes of it.

    Attributes:
        batch_id: See :func:`batch_id`.
        city_id: The manifest's ``city``.
        source_id: The source's ``id``.
        kind: The adapter's kind.
        adapter_version: The adapter's version.
        received_at: When the bytes arrived, UTC.
        files: Its raw files in bronze, the data file first.
        facts: Further facts about a file by role, for the ledger (``etag``).
        replay_of: The batch that is judged again, if this is a replay.
    """

    batch_id: str
    city_id: str
    source_id: str
    kind: str
    adapter_version: int
    received_at: datetime
    files: tuple[FeedFile, ...]
    facts: Mapping[str, Mapping[str, Any]]
    replay_of: str | None = None

    def told(self, facts: Mapping[str, Any]) -> Batch:
        """The same batch with what its adapter found out about the data file."""
        if not facts:
            return self
        return replace(self, facts={**self.facts, DATA: {**self.facts.get(DATA, {}), **facts}})

    def files_json(self) -> str:
        """The files as the ledger keeps them."""
        return json.dumps(
            [
                {"role": f.role, "name": f.name, "sha256": f.sha256, "size": f.size, **self.facts.get(f.role, {})}
                for f in self.files
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TableCounts:
    """What became of a batch's rows of one table; ``rows_in = good + quarantined + duplicate``.

    Attributes:
        rows_in: Rows read.
        good: Rows that keep the contract and were not there yet; they landed unless the batch is held.
        quarantined: Rows that were put aside.
        duplicate: Rows whose key stood earlier, in this batch or in the table.
        version: The table's version that shows them; None where none landed.
        start: First time of the good rows, if the table has times.
        end: Last time of the good rows.
        flagged: Good rows whose values look wrong, by reason.
    """

    rows_in: int
    good: int
    quarantined: int
    duplicate: int
    version: int | None = None
    start: datetime | None = None
    end: datetime | None = None
    flagged: Mapping[str, int] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """JSON values for the ledger."""
        facts = {
            "in": self.rows_in,
            "good": self.good,
            "quarantined": self.quarantined,
            "duplicate": self.duplicate,
            "version": self.version,
            "start": None if self.start is None else self.start.isoformat(),
            "end": None if self.end is None else self.end.isoformat(),
        }
        return facts | ({"flagged": dict(self.flagged)} if self.flagged else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of a batch; ``rows_in = rows_good + rows_quarantined + rows_duplicate``, always.

    Attributes:
        batch_id: Its id.
        source_id: Its source.
        status: ``committed``; ``held`` (no data table was touched); ``replay`` (the lake had it already).
        rows_in: Rows read from the feed.
        rows_good: Rows that landed (that would have landed, where it is held).
        rows_quarantined: Rows put aside.
        rows_duplicate: Rows that stood earlier.
        reason: Why it is held.
        tables: Counts by table, as the ledger keeps them.
        seconds: Wall-clock time, pull included.
        name: Name of its data file.
    """

    batch_id: str
    source_id: str
    status: Status
    rows_in: int
    rows_good: int
    rows_quarantined: int
    rows_duplicate: int
    reason: str | None
    tables: Mapping[str, Any]
    seconds: float = 0.0
    name: str = ""


def batch_id(
    *, city_id: str, source_id: str, kind: str, adapter_version: int, options: Any, files: Iterable[tuple[str, str]]
) -> str:
    """The name of a batch: the same bytes, read the same way for the same source, are the same batch.

    Args:
        city_id: City.
        source_id: Source.
        kind: Adapter's kind.
        adapter_version: Adapter's version.
        options: The adapter's options as JSON values, defaults included.
        files: Role and SHA-256 of every file.

    Returns:
        64 hex digits.
    """
    return _hash([city_id, source_id, kind, adapter_version, options, sorted(files)])


def replay_id(original: str, *, adapter_version: int, contracts: Mapping[str, Contract]) -> str:
    """The name of judging a batch again with these contracts: doing so twice is doing it once."""
    return _hash(["replay", original, adapter_version, sorted((c.name, c.sha256) for c in contracts.values())])


def ledger_row(
    batch: Batch,
    status: Literal["committed", "held"],
    counts: Mapping[str, TableCounts],
    *,
    reason: str | None,
    contract: Contract,
    judged_by: Mapping[str, Contract],
) -> pl.DataFrame:
    """The batch's row in the ledger.

    Args:
        batch: The batch.
        status: What became of it.
        counts: By table.
        reason: Why it is held, or what it is a replay of.
        contract: The ledger's own.
        judged_by: Contracts of the tables.

    Raises:
        LakeError: Rows were lost or made up on the way; nothing was acknowledged.
    """
    for name, one in counts.items():
        if one.rows_in != one.good + one.quarantined + one.duplicate:
            raise LakeError(
                "rows do not add up",
                where=f"{batch.source_id}, {name}",
                got=f"{one.good} good + {one.quarantined} quarantined + {one.duplicate} duplicate",
                expected=f"{one.rows_in} rows in",
                next_step="this is a fault of mtgpt, not of the feed: please report it",
            )
    row = {
        "batch_id": batch.batch_id,
        "city_id": batch.city_id,
        "source_id": batch.source_id,
        "kind": batch.kind,
        "adapter_version": str(batch.adapter_version),
        "received_at": batch.received_at,
        "files": batch.files_json(),
        "rows_in": sum(one.rows_in for one in counts.values()),
        "rows_good": sum(one.good for one in counts.values()),
        "rows_quarantined": sum(one.quarantined for one in counts.values()),
        "rows_duplicate": sum(one.duplicate for one in counts.values()),
        "status": status,
        "reason": None if reason is None else reason[:2000],
        "tables": json.dumps({name: one.facts() for name, one in counts.items()}),
        "contracts": json.dumps({name: one.sha256 for name, one in sorted(judged_by.items())}),
    }
    return pl.DataFrame([row], schema=contract.polars_schema)


def result_of(row: Mapping[str, Any], *, status: Status | None = None, seconds: float = 0.0) -> BatchResult:
    """A result from a row of the ledger.

    Args:
        row: The row by column name.
        status: Another status than the ledger's.
        seconds: Wall-clock time.
    """
    known: Status = "held" if row["status"] == "held" else "committed"
    return BatchResult(
        batch_id=row["batch_id"],
        source_id=row["source_id"],
        status=status or known,
        rows_in=row["rows_in"],
        rows_good=row["rows_good"],
        rows_quarantined=row["rows_quarantined"],
        rows_duplicate=row["rows_duplicate"],
        reason=row["reason"],
        tables=json.loads(row["tables"]),
        seconds=seconds,
        name=json.loads(row["files"])[0]["name"],
    )


def _hash(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
