"""Makes a judged batch visible: its tables one after the other, the ledger's row last.

Each table's commit names the batch, so a run that is killed between two commits is completed by the next one: what is
there is left alone, what is missing is appended, and only then does the ledger say so. Readers that go by the ledger
see a batch whole or not at all, and no table ever shows one twice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.lake.batch import BatchResult, TableCounts, ledger_row, result_of
from mtgpt.lake.disk import refusals
from mtgpt.lake.known import drop_known
from mtgpt.lake.lake import BATCH, OBSERVATION, QUARANTINE
from mtgpt.lake.lock import locked_all
from mtgpt.lake.shrinkage import shrunk
from mtgpt.lake.table import batches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltalake import DeltaTable

    from mtgpt.lake.batch import Batch
    from mtgpt.lake.lake import Lake
    from mtgpt.lake.reading import Judged
    from mtgpt.lake.table import Table

_ORDER = ("spot", "link", "route", "road", "service")
_SHORT = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """How a batch lands where it does more than append.

    Attributes:
        replace: SQL predicate by table: the rows that the batch's rows take the place of.
        replayed: Row of the ledger that is judged again.
    """

    replace: Mapping[str, str] = field(default_factory=dict)
    replayed: Mapping[str, Any] | None = None


def land(batch: Batch, judged: Judged, lake: Lake, *, landing: Landing | None = None) -> BatchResult:
    """Makes the batch visible, or records that it is held.

    Args:
        batch: What it is.
        judged: Its rows.
        lake: Where to.
        landing: Replacement and replay; appends if not given.

    Returns:
        What became of it; ``replay`` where the ledger had it already.

    Raises:
        LakeError: The disk refused, or another process kept writing. Running the same again completes the batch.
    """
    started = time.monotonic()
    landing = landing or Landing()
    batch = batch.told(judged.facts)
    tables = _tables(judged, landing)
    with locked_all(lake.lock(name) for name in (*tables, QUARANTINE, BATCH)):
        ledger = lake.table(BATCH)
        delta = ledger.open_or_create()
        if ledger.appended(delta, batch.batch_id) is not None:
            return known_result(batch.batch_id, lake, seconds=time.monotonic() - started)
        reason = judged.hold_reason(lake) or shrunk(batch, judged.facts, lake)
        if reason is not None and not _begun(batch, tables, lake):
            counts = {name: _counts(judged, name) for name in tables}
            if landing.replayed is not None:
                return _still_held(batch, counts, reason, time.monotonic() - started)
            _quarantine(batch, judged, lake, landing)
            row = _row(batch, "held", counts, reason, lake)
        else:
            counts = {name: _append(name, batch, judged, lake, landing) for name in tables}
            _quarantine(batch, judged, lake, landing)
            said = None if batch.replay_of is None else f"replay of {batch.replay_of}"
            row = _row(batch, "committed", counts, said, lake)
        _write_ledger(ledger, delta, row, batch, landing)
        return result_of(row.row(0, named=True), seconds=time.monotonic() - started)


def known_result(batch_id: str, lake: Lake, *, seconds: float = 0.0) -> BatchResult:
    """What the ledger says of a batch that it has, as a result with status ``replay`` (or still ``held``)."""
    with refusals(BATCH):
        row = lake.scan(BATCH).filter(pl.col("batch_id") == batch_id).collect().row(0, named=True)
    return result_of(row, status="held" if row["status"] == "held" else "replay", seconds=seconds)


def _tables(judged: Judged, landing: Landing) -> list[str]:
    # Places before what is measured at them: a reader never meets a value without its spot.
    names = {*judged.counts, *landing.replace}
    return [name for name in _ORDER if name in names] + sorted(names - set(_ORDER))


def _begun(batch: Batch, tables: list[str], lake: Lake) -> bool:
    # A killed run may have shown a part before a contract was tightened; a batch is never left half visible.
    known = [lake.table(name) for name in tables]
    return any(table.exists and table.appended(table.open(), batch.batch_id) is not None for table in known)


def _append(name: str, batch: Batch, judged: Judged, lake: Lake, landing: Landing) -> TableCounts:
    table = lake.table(name)
    delta = table.open_or_create()
    replace = landing.replace.get(name)
    done = table.appended(delta, batch.batch_id)
    if done is None:
        done = _append_new(table, delta, batch, judged, replace, transaction=batch.batch_id)
    elif replace is None:
        # A killed run got this far. If the contract was mended since, it left out rows that are good by now.
        again = f"{batch.batch_id}/{table.contract.sha256[:_SHORT]}"
        more = table.appended(delta, again)
        done += more if more is not None else _append_new(table, delta, batch, judged, None, transaction=again)
    return _counts(judged, name, good=done, version=delta.version() if done else None)


def _append_new(
    table: Table, delta: DeltaTable, batch: Batch, judged: Judged, replace: str | None, *, transaction: str
) -> int:
    if replace is None:
        drop_known(table, delta, judged.staged, city_id=batch.city_id, received_at=batch.received_at)
    rows = judged.staged.rows(table.name)
    if rows or replace is not None:
        _commit(table, delta, batch, judged, replace, transaction=transaction)
    return rows


def _commit(
    table: Table, delta: DeltaTable, batch: Batch, judged: Judged, replace: str | None, *, transaction: str
) -> None:
    staged = judged.staged
    marked = table.name == OBSERVATION and judged.seen.marks.height > 0
    whole = None if marked else staged.in_memory(table.name)
    table.commit(
        delta,
        batches(judged.good(table.name), table.contract) if whole is None else whole,
        count=staged.rows(table.name),
        transaction=transaction,
        facts={"city": batch.city_id, "source": batch.source_id, "batch": batch.batch_id},
        replace=replace,
    )


def _counts(judged: Judged, name: str, *, good: int | None = None, version: int | None = None) -> TableCounts:
    found = judged.counts.get(name)
    rows, bad = (found.rows, found.bad) if found is not None else (0, 0)
    # More than that can only have landed before a contract was tightened between a kill and now.
    good = min(judged.staged.rows(name) if good is None else good, rows - bad)
    start, end = judged.staged.span(name)
    return TableCounts(
        rows_in=rows,
        good=good,
        quarantined=bad,
        duplicate=rows - bad - good,
        version=version,
        start=start,
        end=end,
        flagged=_flagged(judged, name),
    )


def _flagged(judged: Judged, name: str) -> dict[str, int]:
    if name != OBSERVATION or not judged.seen.marks.height:
        return {}
    if judged.flagged is None:
        # Held, or landed by a run that was killed: nothing was streamed.
        for _ in judged.good(name):
            pass
    return dict(sorted((judged.flagged or {}).items()))


def _quarantine(batch: Batch, judged: Judged, lake: Lake, landing: Landing) -> None:
    refused = judged.staged.rows(QUARANTINE)
    table = lake.table(QUARANTINE)
    if not refused and landing.replayed is None and not table.exists:
        return
    delta = table.open_or_create()
    done = table.appended(delta, batch.batch_id)
    if landing.replayed is None:
        if (done or 0) != refused:
            # Where a killed run refused other rows, because a contract was mended since, these take their place.
            replace = None if done is None else f"batch_id = '{batch.batch_id}'"
            _commit(table, delta, batch, judged, replace, transaction=batch.batch_id)
        return
    if done is not None:
        return
    original = landing.replayed["batch_id"]
    rows = _judged_again(judged, table.scan(version=delta.version()), batch, original)
    table.commit(
        delta,
        rows,
        count=rows.height,
        transaction=batch.batch_id,
        facts={"city": batch.city_id, "source": batch.source_id, "batch": batch.batch_id, "replay_of": original},
        replace=_either(original, batch.batch_id),
    )


def _judged_again(judged: Judged, quarantined: pl.LazyFrame, batch: Batch, original: str) -> pl.DataFrame:
    """The original's refused rows, each marked with the replay, and those that the replay refuses, as its own."""
    with refusals(QUARANTINE):
        old = quarantined.filter(pl.col("batch_id") == original).collect()
    marked = old.with_columns(pl.col("replayed_in").fill_null(pl.lit(batch.batch_id)))
    return pl.concat([marked, *judged.staged.frames(QUARANTINE)])


def _row(batch: Batch, status: Any, counts: Mapping[str, TableCounts], reason: str | None, lake: Lake) -> pl.DataFrame:
    judged_by = {name: lake.contracts[name] for name in counts}
    return ledger_row(batch, status, counts, reason=reason, contract=lake.table(BATCH).contract, judged_by=judged_by)


def _still_held(batch: Batch, counts: Mapping[str, TableCounts], reason: str, seconds: float) -> BatchResult:
    return BatchResult(
        batch_id=batch.batch_id,
        source_id=batch.source_id,
        status="held",
        rows_in=sum(one.rows_in for one in counts.values()),
        rows_good=sum(one.good for one in counts.values()),
        rows_quarantined=sum(one.quarantined for one in counts.values()),
        rows_duplicate=sum(one.duplicate for one in counts.values()),
        reason=reason,
        tables={name: one.facts() for name, one in counts.items()},
        seconds=seconds,
        name=batch.files[0].name,
    )


def _write_ledger(table: Table, delta: DeltaTable, row: pl.DataFrame, batch: Batch, landing: Landing) -> None:
    facts = {"city": batch.city_id, "source": batch.source_id, "batch": batch.batch_id}
    replace = None
    if landing.replayed is not None:
        original = pl.DataFrame([landing.replayed], schema=row.schema)
        row = pl.concat([original.with_columns(pl.lit("replayed").alias("status")), row])
        replace = _either(landing.replayed["batch_id"], batch.batch_id)
    table.commit(delta, row, count=row.height, transaction=batch.batch_id, facts=facts, replace=replace)


def _either(first: str, second: str) -> str:
    # Both are hex digests made here, so they need no quoting.
    return f"batch_id = '{first}' OR batch_id = '{second}'"
