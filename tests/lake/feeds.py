"""A small family of feeds for the lake's tests: CSV rows of one table, taken as they are."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl
from pydantic import BaseModel, ConfigDict

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import DATA, ROW, Chunk, FeedContext, FeedFile, Roles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

START = datetime(2024, 3, 1, tzinfo=UTC)


class RowsOptions(BaseModel):
    """Which table the rows are for, and how many go in one chunk."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    table: str = "observation"
    chunk: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsAdapter:
    """Reads ``table.csv`` as that table's rows, all as text; a line ``!`` is a feed that breaks off."""

    kind: ClassVar[str] = "rows"
    version: int = 1
    roles: ClassVar[Roles] = Roles(optional=frozenset({"spots"}))
    Options: ClassVar[type[BaseModel]] = RowsOptions

    def read(self, files: Mapping[str, FeedFile], options: Any, context: FeedContext) -> Iterator[Chunk]:
        if "spots" in files:
            yield Chunk(table="spot", frame=self._frame(files["spots"]))
        rows = self._frame(files[DATA])
        for start in range(0, rows.height, options.chunk):
            yield Chunk(table=options.table, frame=rows.slice(start, options.chunk))

    def _frame(self, file: FeedFile) -> pl.DataFrame:
        text = file.path.read_text("utf-8")
        if "\n!" in text:
            raise FeedError("the file breaks off", where=file.name)
        rows = pl.read_csv(io.StringIO(text), infer_schema=False)
        return rows.with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.UInt64))


KINDS = {"rows": RowsAdapter()}


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Writes a feed's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


OBSERVATION = ("spot_id", "variable", "time_start", "interval_s", "value")


def observations(
    path: Path, *, spots: int = 3, steps: int = 4, first: int = 0, bad: int = 0, value: float = 50.0
) -> Path:
    """Speeds every five minutes; the first ``bad`` of them are faster than any car."""
    rows = [
        (f"s{spot}", "speed", (START + timedelta(minutes=5 * (first + step))).isoformat(), 300, value + spot)
        for step in range(steps)
        for spot in range(spots)
    ]
    rows = [(*row[:4], 9999.0) if index < bad else row for index, row in enumerate(rows)]
    return write_rows(path, OBSERVATION, rows)


TRIP = ("mode", "trip_key", "start_time", "end_time", "from_spot", "to_spot")


def trips(path: Path, keys: Iterable[int], *, mode: str = "bike") -> Path:
    """Trips of ten minutes, one a minute, from dock a to dock b."""
    rows = [
        (
            mode,
            f"{key:016x}",
            (START + timedelta(minutes=key)).isoformat(),
            (START + timedelta(minutes=key + 10)).isoformat(),
            "a",
            "b",
        )
        for key in keys
    ]
    return write_rows(path, TRIP, rows)


SPOT = ("spot_id", "kind", "mode", "name", "valid_from")


def spots(path: Path, names: Mapping[str, str], *, valid_from: str = "1970-01-01T00:00:00Z") -> Path:
    """Road detectors by id, with their names."""
    return write_rows(path, SPOT, [(spot, "detector", "road", name, valid_from) for spot, name in names.items()])
