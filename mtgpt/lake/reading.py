"""Reads a batch's raw files with its adapter and judges every chunk; nothing here touches a table."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.contracts.hold import Counts, hold_reason
from mtgpt.contracts.verdict import judge
from mtgpt.errors import FeedError, NotFound
from mtgpt.ingest.adapter import DATA, FeedContext, FeedFile
from mtgpt.lake.ahead import one_ahead
from mtgpt.lake.lake import OBSERVATION, QUARANTINE
from mtgpt.lake.plausible.batch import Hourly, Look, look

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mtgpt.ingest.adapter import Adapter, Chunk
    from mtgpt.lake.batch import Batch
    from mtgpt.lake.lake import Lake
    from mtgpt.lake.plausible.past import Past
    from mtgpt.lake.staging import Staging


@dataclass(slots=True, kw_only=True)
class Judged:
    """A whole batch, judged: good and bad rows staged, and what they count.

    Attributes:
        staged: Good rows by table, and the refused ones under ``quarantine``.
        counts: By table.
        facts: What the adapter says of the data file.
        seen: What looks wrong in it beside its source's past.
        hourly: What that is judged by, gathered while chunks are taken; None where nothing is compared.
        flagged: Rows that :meth:`good` marked, by reason; None before it ran.
    """

    staged: Staging
    counts: dict[str, Counts] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    seen: Look = field(default_factory=Look)
    hourly: Hourly | None = None
    flagged: Counter[str] | None = None

    @property
    def rows(self) -> int:
        """Rows read."""
        return sum(one.rows for one in self.counts.values())

    def hold_reason(self, lake: Lake) -> str | None:
        """Why the batch must be held, or None."""
        return hold_reason(self.counts.values(), lake.contracts) or self.seen.hold

    def take(self, chunk: Chunk, batch: Batch, lake: Lake) -> None:
        """Judges a chunk and stages its rows.

        Raises:
            NotFound: No contract has the chunk's name.
            ContractError: The chunk has a column that its contract does not know.
        """
        table = lake.table(chunk.table)
        contract = table.contract
        names = contract.polars_schema.names()
        known = {"city_id": batch.city_id, "source_id": batch.source_id, "batch_id": batch.batch_id}
        frame = chunk.frame.with_columns(pl.lit(value).alias(name) for name, value in known.items() if name in names)
        self.facts |= chunk.facts
        verdict = judge(frame, contract, received_at=batch.received_at)
        self.staged.add(chunk.table, verdict.good, time_column=table.time_column)
        if self.hourly is not None and chunk.table == OBSERVATION:
            self.hourly.take(verdict.good)
        found = Counts.of(chunk.table, verdict)
        self.counts[chunk.table] = self.counts[chunk.table] + found if chunk.table in self.counts else found
        if verdict.bad.height:
            added = json.dumps({name: known[name] for name in known if name in names}, separators=(",", ":"))
            self.staged.add(QUARANTINE, _refused(verdict.bad, chunk.table, batch, lake, added=f",{added[1:]}"))

    def good(self, table: str) -> Iterator[pl.DataFrame]:
        """A table's good rows, piece by piece; values that look wrong are marked and counted on the way."""
        if table != OBSERVATION or not self.seen.marks.height:
            yield from self.staged.frames(table)
            return
        self.flagged = Counter()
        for frame in self.staged.frames(table):
            marked = self.seen.mark(frame)
            self.flagged.update(marked["suspect"].drop_nulls().to_list())
            yield marked

    def finish(self, lake: Lake) -> None:
        """Finds the keys that stand in several chunks; call it once, after the last chunk."""
        for name, found in self.counts.items():
            table = lake.table(name)
            repeated = self.staged.drop_repeated(name, table.contract, time_column=table.time_column)
            self.counts[name] = found + Counts(table=name, duplicates=repeated)


def read_batch(
    adapter: Adapter,
    options: Any,
    batch: Batch,
    lake: Lake,
    *,
    context: FeedContext,
    staged: Staging,
    progress: Callable[[str], None],
    past: Past | None = None,
    accept: bool = False,
) -> Judged:
    """Reads and judges a batch, chunk by chunk, and then its values beside the source's past.

    Args:
        adapter: Of the batch's kind.
        options: The adapter's.
        batch: What it is.
        lake: Its contracts judge.
        context: City, zone, source, time of arrival.
        staged: Where its rows go.
        progress: Called with what is going on.
        past: What values are compared with; it takes in those of a batch that may land. None compares nothing.
        accept: Take all values as right, and the message as whole.

    Raises:
        FeedError: The bytes are not what their kind says, or hold no row at all.
        NotFound: An object is missing in bronze, or the adapter names a table that no contract has.
    """
    judged = Judged(staged=staged, hourly=None if past is None else Hourly())
    label = batch.files[0].name if batch.files else batch.source_id
    with closing(one_ahead(iter(adapter.read(_by_role(batch, adapter), options, context)))) as chunks:
        for chunk in chunks:
            judged.take(chunk, batch, lake)
            progress(f"{batch.source_id}: {label}: {judged.rows:,} rows read")
    judged.finish(lake)
    if accept:
        judged.facts.pop("min_share", None)
    if not judged.rows and judged.facts.get("entities") != 0:
        raise FeedError(
            "the feed holds no rows", where=f"{batch.source_id}: {label}", got="0 rows", next_step="check the source"
        )
    if past is not None and judged.hourly is not None and judged.hourly.rows:
        judged.seen = look(judged.hourly, staged, past, accept=accept)
        if judged.hold_reason(lake) is None:
            past.become(judged.seen.hours)
    return judged


def _by_role(batch: Batch, adapter: Adapter) -> dict[str, FeedFile]:
    files = {file.role: file for file in batch.files if file.role in adapter.roles.known}
    missing = adapter.roles.required - files.keys()
    if missing:
        raise NotFound("a file of the batch is missing", where=batch.source_id, expected=", ".join(sorted(missing)))
    return files


def _refused(bad: pl.DataFrame, table: str, batch: Batch, lake: Lake, *, added: str) -> pl.DataFrame:
    # The raw row is the feed's, without the columns that were added to it here.
    raw = pl.when(pl.col("raw").str.ends_with(added)).then(pl.col("raw").str.strip_suffix(added) + "}")
    data = next((file for file in batch.files if file.role == DATA), batch.files[0])
    schema = lake.table(QUARANTINE).contract.polars_schema
    return bad.select(
        pl.lit(batch.batch_id).alias("batch_id"),
        pl.lit(batch.city_id).alias("city_id"),
        pl.lit(batch.source_id).alias("source_id"),
        pl.lit(table).alias("table_name"),
        "row",
        "rule_id",
        "message",
        raw.otherwise(pl.col("raw")).alias("raw"),
        pl.lit(data.sha256).alias("bronze_sha256"),
        pl.lit(batch.received_at).alias("quarantined_at"),
        pl.lit(None, dtype=pl.String).alias("replayed_in"),
    ).select(pl.col(name).cast(dtype) for name, dtype in schema.items())
