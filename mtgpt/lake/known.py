"""Rows of a batch that the lake has already: what another batch brought is a duplicate, not a second row."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.lake.disk import refusals
from mtgpt.lake.table import unquoted

if TYPE_CHECKING:
    from pathlib import Path

    from deltalake import DeltaTable

    from mtgpt.lake.staging import Piece, Staging
    from mtgpt.lake.table import Table

_FROM = "valid_from"
# Who said it is no part of what is said: two feeds that agree are no change.
_SAYER = "source_id"
_SINCE_EVER = datetime(1970, 1, 1, tzinfo=UTC)


def drop_known(table: Table, delta: DeltaTable, staged: Staging, *, city_id: str, received_at: datetime) -> int:
    """Takes out of the staged rows those that the table has; call it under the table's lock.

    Rows that are measured at a time are known where their key is. A spot or link is known where it says what its
    latest version says; where it says something else, it becomes a new version, valid from ``received_at``.

    Returns:
        How many rows were taken out.

    Raises:
        LakeError: The table cannot be read.
    """
    before = staged.rows(table.name)
    with refusals(table.name):
        if _FROM in table.contract.key:
            existing = _versions(table, delta, city_id)
            if existing.height:
                staged.rewrite(table.name, lambda piece: new_versions(piece.read(), existing, table, received_at))
        else:
            files = _overlapping(table, delta, city_id, *staged.span(table.name))
            if files:
                change = partial(_without, files=files, table=table)
                staged.rewrite(table.name, change, time_column=table.time_column)
    return before - staged.rows(table.name)


def new_versions(frame: pl.DataFrame, existing: pl.DataFrame, table: Table, received_at: datetime) -> pl.DataFrame:
    """The rows that say something new, dated where they contradict what is there.

    Args:
        frame: Rows with the contract's columns.
        existing: The city's rows in the table.
        table: Its key must have ``valid_from``.
        received_at: When the batch arrived.
    """
    key = list(table.contract.key)
    identity = [name for name in key if name != _FROM]
    content = [name for name in frame.columns if name not in (*key, _SAYER)]
    latest = existing.sort(_FROM).unique(subset=identity, keep="last")
    same = pl.all_horizontal([pl.col(name).eq_missing(pl.col(f"{name}_there")) for name in content] or [pl.lit(True)])

    def says_the_same(other: pl.DataFrame, on: list[str]) -> pl.Series:
        # True: there and equal; false: there and different; null: not there.
        there = other.select(
            *on, pl.lit(True).alias("there"), *(pl.col(name).alias(f"{name}_there") for name in content)
        )
        joined = frame.join(there, on=on, how="left", maintain_order="left")
        return joined.select(pl.when(pl.col("there")).then(same).alias("same"))["same"]

    marked = frame.with_columns(
        says_the_same(latest, identity).alias("__latest"),
        says_the_same(existing, key).alias("__exact"),
        (pl.col(_FROM) == _SINCE_EVER).alias("__undated"),
    )
    is_known = (
        pl.when(pl.col("__undated"))
        .then(pl.col("__latest"))
        .otherwise(
            pl.col("__exact").fill_null(False) | (pl.col("__exact").is_not_null() & pl.col("__latest").fill_null(False))
        )
    )
    contradicts = (
        pl.when(pl.col("__undated")).then(pl.col("__latest").is_not_null()).otherwise(pl.col("__exact").is_not_null())
    )
    new = marked.filter(~is_known.fill_null(False))
    dated = pl.when(contradicts).then(pl.lit(received_at, dtype=pl.Datetime("us", "UTC"))).otherwise(pl.col(_FROM))
    return new.with_columns(dated.alias(_FROM)).select(frame.columns)


def _versions(table: Table, delta: DeltaTable, city_id: str) -> pl.DataFrame:
    if not delta.file_uris():
        return pl.DataFrame(schema=table.contract.polars_schema)
    return table.scan(version=delta.version()).filter(pl.col("city_id") == city_id).collect()


def _overlapping(
    table: Table, delta: DeltaTable, city_id: str, low: datetime | None, high: datetime | None
) -> list[Path]:
    files = table.files(delta)
    if not files.height:
        return []
    wanted = pl.lit(True)
    if "partition.city_id" in files.columns:
        wanted &= pl.col("partition.city_id") == city_id
    least, most = f"min.{table.time_column}", f"max.{table.time_column}"
    if low is not None and least in files.columns:
        wanted &= (pl.col(least) <= high).fill_null(True) & (pl.col(most) >= low).fill_null(True)
    return [table.path / unquoted(name) for name in files.filter(wanted)["path"]]


def _without(piece: Piece, *, files: list[Path], table: Table) -> pl.DataFrame:
    # City is a partition of every such table: it is not inside the files, and all rows here have the same one.
    key = [name for name in table.contract.key if name != "city_id"]
    frame = piece.read()
    rows = pl.scan_parquet(files, hive_partitioning=False)
    if table.time_column is not None and piece.low is not None:
        rows = rows.filter(pl.col(table.time_column).is_between(piece.low, piece.high))
    known = rows.select(key).join(frame.lazy().select(key), on=key, how="semi").collect(engine="streaming")
    return frame.join(known, on=key, how="anti", maintain_order="left") if known.height else frame
