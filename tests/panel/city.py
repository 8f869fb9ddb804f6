"""A city in memory: a manifest and a lake that answers like the real one, for tests of the panel only."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace

import polars as pl

from mtgpt.ingest.manifest import CityManifest

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SCHEMAS = {
    "spot": {
        "city_id": pl.String,
        "spot_id": pl.String,
        "kind": pl.String,
        "mode": pl.String,
        "name": pl.String,
        "lon": pl.Float64,
        "lat": pl.Float64,
        "attributes": pl.String,
        "valid_from": pl.Datetime("us", "UTC"),
    },
    "link": {
        "city_id": pl.String,
        "from_spot": pl.String,
        "to_spot": pl.String,
        "kind": pl.String,
        "distance_m": pl.Float64,
        "weight": pl.Float64,
    },
    "observation": {
        "city_id": pl.String,
        "spot_id": pl.String,
        "variable": pl.String,
        "time_start": pl.Datetime("us", "UTC"),
        "interval_s": pl.Int32,
        "value": pl.Float32,
        "suspect": pl.String,
        "source_id": pl.String,
        "batch_id": pl.String,
    },
    "trip": {
        "city_id": pl.String,
        "mode": pl.String,
        "start_time": pl.Datetime("us", "UTC"),
        "batch_id": pl.String,
    },
    "weather": {
        "city_id": pl.String,
        "time_start": pl.Datetime("us", "UTC"),
        "interval_s": pl.Int32,
        "temperature_c": pl.Float64,
        "rain_mm": pl.Float64,
        "wind_m_s": pl.Float64,
    },
    "service": {
        "city_id": pl.String,
        "source_id": pl.String,
        "pattern_id": pl.String,
        "spot_id": pl.String,
        "band_start_s": pl.Int32,
        "band_s": pl.Int32,
        "departures": pl.Int32,
    },
    "service_day": {
        "city_id": pl.String,
        "source_id": pl.String,
        "service_date": pl.Date,
        "pattern_id": pl.String,
        "valid_from": pl.Datetime("us", "UTC"),
    },
    "event": {
        "city_id": pl.String,
        "source_id": pl.String,
        "event_id": pl.String,
        "language": pl.String,
        "kind": pl.String,
        "start": pl.Datetime("us", "UTC"),
        "end": pl.Datetime("us", "UTC"),
        "valid_from": pl.Datetime("us", "UTC"),
    },
}


def rows(table: str, data: list[dict]) -> pl.DataFrame:
    """Rows of a table; what a row leaves out is null, but for the city, the source and the interval."""
    usual = {
        "city_id": "testville",
        "source_id": "feed",
        "interval_s": 300,
        "kind": "detector",
        "valid_from": EPOCH,
        "batch_id": "b",
    }
    schema = SCHEMAS[table]
    return pl.DataFrame([{name: row.get(name, usual.get(name)) for name in schema} for row in data], schema=schema)


@dataclass
class StubLake:
    """Answers ``scan``, ``version``, ``ledger`` and ``contracts`` from frames."""

    tables: dict[str, pl.DataFrame]
    contracts: dict = field(default_factory=lambda: {name: SimpleNamespace(sha256=name[0] * 64) for name in SCHEMAS})

    def version(self, table: str) -> int | None:
        return 3 if table in self.tables else None

    def scan(self, table: str, *, city_id: str | None = None, version: int | None = None) -> pl.LazyFrame:
        frame = self.tables.get(table, pl.DataFrame(schema=SCHEMAS[table]))
        return frame.lazy().filter(pl.col("city_id") == city_id)

    def ledger(self, city_id: str | None = None) -> pl.DataFrame:
        return pl.DataFrame({"batch_id": ["b"]})


def manifest(**panel) -> CityManifest:
    """A manifest of Testville, UTC, with the given panel section."""
    place = {key: panel.pop(key) for key in ("time_zone", "country", "subdivision") if key in panel}
    # By way of JSON, as a manifest comes: the models take nothing that JSON cannot say.
    document = json.dumps(
        {
            "city": "testville",
            "name": "Testville",
            "time_zone": "UTC",
            "sources": [{"id": "feed", "kind": "matrix", "path": "feed.npz"}],
            "panel": panel,
            **place,
        }
    )
    return CityManifest.model_validate_json(document)
