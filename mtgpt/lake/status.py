"""What a lake holds, at a glance."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.lake.disk import refusals
from mtgpt.lake.lake import QUARANTINE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mtgpt.lake.lake import Lake


@dataclass(frozen=True, slots=True, kw_only=True)
class TableStatus:
    """One table.

    Attributes:
        table: Its name.
        version: Newest version.
        rows: Rows.
        files: Data files; many small ones are a reason to compact.
        bytes: Their size.
    """

    table: str
    version: int
    rows: int
    files: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeStatus:
    """A whole lake.

    Attributes:
        root: Its folder.
        tables: Tables that were written.
        cities: Cities that have batches.
        batches: Rows of the ledger.
        held: Batches that wait for a fix.
        superseded: Ids of held batches in whose place other bytes of the same name landed since.
        quarantined: Refused rows that were not judged again.
        suspect: Rows that landed and whose values looked wrong, by reason; panels leave them out.
        raw_files: Objects in bronze.
        raw_bytes: Their size.
    """

    root: str
    tables: tuple[TableStatus, ...]
    cities: tuple[str, ...]
    batches: int
    held: int
    superseded: tuple[str, ...]
    quarantined: int
    suspect: Mapping[str, int]
    raw_files: int
    raw_bytes: int


def status(lake: Lake) -> LakeStatus:
    """Looks at the logs of all tables, the ledger and bronze; no data file of a table is read.

    Raises:
        LakeError: A table cannot be read.
    """
    ledger = lake.ledger()
    with refusals(QUARANTINE):
        waiting = lake.scan(QUARANTINE).select(pl.col("replayed_in").is_null().sum()).collect().item()
    replaced = superseded(ledger)
    sizes = [path.stat().st_size for path in lake.bronze.objects()]
    return LakeStatus(
        root=str(lake.root),
        tables=tuple(_table(lake, name) for name in lake.versions()),
        cities=tuple(ledger["city_id"].unique().sort().to_list()),
        batches=ledger.height,
        held=ledger.filter(pl.col("status") == "held").height - len(replaced),
        superseded=replaced,
        quarantined=int(waiting),
        suspect=_suspect(ledger),
        raw_files=len(sizes),
        raw_bytes=sum(sizes),
    )


def superseded(ledger: pl.DataFrame) -> tuple[str, ...]:
    """Held batches that nobody has to mend: the publisher sent the file of that name again, and that landed.

    Args:
        ledger: Rows of the table ``batch``; they stay as they are, and a replay judges such a batch all the same.
    """
    landed: set[tuple[str, str, str]] = set()
    found = []
    rows = ledger.sort("received_at", descending=True).select("batch_id", "city_id", "source_id", "status", "files")
    for batch_id, city, source, status_, files in rows.iter_rows():
        name = (city, source, json.loads(files)[0]["name"])
        if status_ == "committed":
            landed.add(name)
        elif status_ == "held" and name in landed:
            found.append(batch_id)
    return tuple(found)


def _suspect(ledger: pl.DataFrame) -> dict[str, int]:
    counts = Counter[str]()
    for tables in ledger.filter(pl.col("status") != "held")["tables"]:
        for facts in json.loads(tables).values():
            counts.update(facts.get("flagged", {}))
    return dict(sorted(counts.items()))


def _table(lake: Lake, name: str) -> TableStatus:
    table = lake.table(name)
    with refusals(name):
        delta = table.open()
        files = table.files(delta)
    return TableStatus(
        table=name,
        version=delta.version(),
        rows=int(files["num_records"].sum()) if files.height else 0,
        files=files.height,
        bytes=int(files["size_bytes"].sum()) if files.height else 0,
    )
