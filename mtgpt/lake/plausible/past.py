"""A source's recent past, one value an hour and series: what its next batches are compared with.

It lies beside the tables as an Arrow file per source and may be lost at any time: it is then read again from the newest
data files of the source. So a batch of one instant, every minute, costs a look at one small file and not at two weeks.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.lake.disk import refusals
from mtgpt.lake.table import unquoted

if TYPE_CHECKING:
    from mtgpt.lake.table import Table

PAST_HOURS = 14 * 24
"""Hours of the past that are kept: a change that lasts longer is the new past."""

SERIES = ("spot_id", "variable")
SCHEMA = pl.Schema(
    {
        "spot_id": pl.String(),
        "variable": pl.String(),
        "hour": pl.Int64(),
        "value": pl.Float32(),
        "fine": pl.Boolean(),
    }
)
_MOST_ROWS, _MOST_FILES = 4_000_000, 256
_HOUR_S = 3600
_SEVERAL_AN_HOUR = 200_000


@dataclass(slots=True, kw_only=True)
class Past:
    """The past of one source, as far as its batches were judged.

    Attributes:
        table: Observations.
        folder: Where the pasts of all sources lie.
        city_id: City.
        source_id: Source.
    """

    table: Table
    folder: Path
    city_id: str
    source_id: str
    _frame: pl.DataFrame | None = field(default=None, repr=False)
    _changed: bool = False
    _saved_at: float | None = None

    def frame(self) -> pl.DataFrame:
        """Rows of :data:`SCHEMA`, at most one per series and hour; empty where the source is new.

        Raises:
            LakeError: The table observation cannot be read.
        """
        if self._frame is None:
            self._frame = self._kept()
        if self._frame is None:
            self._frame = self._from_table()
        return self._frame

    def become(self, frame: pl.DataFrame) -> None:
        """Takes the place of what it was.

        Args:
            frame: Rows of :data:`SCHEMA`, this past with a batch more.
        """
        self._frame, self._changed = frame, True

    def save(self, *, every_s: float = 0.0) -> None:
        """Writes it beside the tables, if it changed. A disk that refuses is no reason to fail: it is a cache.

        Args:
            every_s: Not again within so many seconds.
        """
        now = time.monotonic()
        if not self._changed or self._frame is None or (self._saved_at is not None and now < self._saved_at + every_s):
            return
        self._saved_at = now
        path = self._path
        with suppress(OSError, pl.exceptions.ComputeError):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
            os.close(handle)
            try:
                self._frame.write_ipc(name, compression="lz4")
                Path(name).replace(path)
            finally:
                Path(name).unlink(missing_ok=True)
            self._changed = False

    @property
    def _path(self) -> Path:
        return self.folder / self.city_id / f"{self.source_id}.arrow"

    def _kept(self) -> pl.DataFrame | None:
        try:
            found = pl.read_ipc(self._path)
        except (OSError, pl.exceptions.PolarsError):
            return None
        return found if found.schema == SCHEMA else None

    def _from_table(self) -> pl.DataFrame:
        table = self.table
        empty = SCHEMA.to_frame()
        if not table.exists:
            return empty
        with refusals(table.name):
            files = table.files(table.open())
            wanted = {"partition.city_id", "partition.source_id", "max.time_start"}
            if not files.height or not wanted <= set(files.columns):
                return empty
            own = files.filter(
                (pl.col("partition.city_id") == self.city_id) & (pl.col("partition.source_id") == self.source_id)
            ).sort("max.time_start", descending=True)
            own = own.head(_MOST_FILES).filter(pl.col("num_records").cum_sum().shift(1, fill_value=0) < _MOST_ROWS)
            if not own.height:
                return empty
            paths = [table.path / unquoted(name) for name in own["path"]]
            there = {name for path in paths for name in pl.read_parquet_schema(path)}
            rows = pl.scan_parquet(paths, hive_partitioning=False, missing_columns="insert", extra_columns="ignore")
            fine = pl.col("suspect").is_null() if "suspect" in there else pl.lit(True)
            hours = an_hour(rows, count=int(own["num_records"].sum()), fine=fine).collect(engine="streaming")
        return pl.concat([empty, *(recent(part) for part in hours.partition_by("variable"))]).unique(
            [*SERIES, "hour"], keep="first", maintain_order=True
        )


def an_hour(rows: pl.LazyFrame, *, count: int, fine: pl.Expr | None = None) -> pl.LazyFrame:
    """One value an hour of each series, the first one of the hour.

    Args:
        rows: spot_id, variable, time_start, interval_s, value.
        count: How many, about: of many, only those that begin with the hour are looked at.
        fine: Whether a value was not suspect; always where not given.

    Returns:
        Rows of :data:`SCHEMA`; of a series that has several values in an hour, perhaps more than one.
    """
    second = pl.col("time_start").dt.epoch("s")
    if count > _SEVERAL_AN_HOUR:
        rows = rows.filter(second % _HOUR_S < pl.col("interval_s"))
    return rows.select(
        "spot_id",
        "variable",
        hour=second // _HOUR_S,
        value=pl.col("value").cast(pl.Float32),
        fine=pl.lit(True) if fine is None else fine,
    )


def recent(rows: pl.DataFrame) -> pl.DataFrame:
    """The last two weeks of one variable's rows."""
    return rows.filter(pl.col("hour") > pl.col("hour").max() - PAST_HOURS)
