"""Writes what the departments of the simulated city publish, warts and all.

Every department has its own folder, formats and habits, as in a real city. The feeds carry the faults that real feeds
carry, few enough that a batch still passes: error codes among the values, a clock in the year 2042, a line published
twice, a trip that ends before it begins.
"""

from __future__ import annotations

import gzip
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

from mtgpt.sim.network import detector_links, detector_place
from mtgpt.sim.sky import TIME_ZONE

if TYPE_CHECKING:
    from pathlib import Path

    from mtgpt.sim.network import Network
    from mtgpt.sim.sky import Day, Weather
    from mtgpt.sim.traffic import DayTraffic, Incident

SPEED_ERROR = "655.35"
"""What a detector's protocol sends when its speed register overflows (16 bits, hundredths)."""

_STEP = timedelta(minutes=5)
_STRAY = "2042-01-01 00:00"


def write_roads(
    folder: Path, network: Network, period: list[Day], traffic: list[DayTraffic], rng: np.random.Generator
) -> None:
    """Detectors, which feeds which, and a speed and a flow file a week (naive local time; empty = not measured)."""
    folder.mkdir(parents=True, exist_ok=True)
    detectors = network.detectors
    header = ["sensor_id", "name", "lat", "lon", "road", "lanes", "speed_limit_kmh"]
    rows = []
    for street in detectors:
        lon, lat = detector_place(network, street)
        limit = 10 * round(street.free_kmh / 10)
        rows.append((street.detector, street.name, f"{lat:.5f}", f"{lon:.5f}", street.road, street.lanes, limit))
    _write_csv(folder / "detectors.csv", header, rows)
    links = detector_links(network)
    _write_csv(folder / "distances.csv", ["from", "to", "distance_m"], [(a, b, f"{m:.0f}") for a, b, m, _ in links])
    _write_csv(folder / "turns.csv", ["from", "to", "weight"], [(a, b, weight) for a, b, _, weight in links])
    for first in range(0, len(period), 7):
        week, seen = period[first : first + 7], traffic[first : first + 7]
        speed, flow = (np.concatenate([getattr(day, what) for day in seen]) for what in ("speed_kmh", "flow_veh_h"))
        silent = _outages(len(speed), len(detectors), rng)
        clock = _clock(week)
        name = f"{week[0].date:%G-w%V}"
        speed_text = np.where(silent, "", np.char.mod("%.1f", speed))
        flow_text = np.where(silent, "", np.char.mod("%d", flow))
        # A speed needs a vehicle: at night some steps have none, while "no vehicle" is a flow of zero.
        speed_text[flow == 0] = ""
        _spoil(speed_text, SPEED_ERROR, 6, rng)
        for text in (speed_text, flow_text):
            _spoil(text, "-1", 10, rng)
        ids = ["time", *(str(street.detector) for street in detectors)]
        second = first == 7
        for what, text in (("speed_kmh", speed_text), ("flow_veh_h", flow_text)):
            lines = [[at, *row] for at, row in zip(clock, text.tolist(), strict=True)]
            if second and what == "speed_kmh":
                at = min(1000, len(lines) - 1)
                lines.insert(at, [_STRAY, *lines[at][1:]])
            if second and what == "flow_veh_h":
                at = min(400, len(lines) - 1)
                lines.insert(at + 1, list(lines[at]))
            _write_csv_gz(folder / f"{what}_{name}.csv.gz", ids, lines)


def write_incidents(folder: Path, incidents: list[Incident], network: Network) -> None:
    """The log of the traffic control room: the truth behind sudden queues. No adapter reads it yet."""
    detector = {street.key: street.detector for street in network.streets}
    header = ["start_utc", "end_utc", "sensor_id", "kind", "capacity_left"]
    stamp = "%Y-%m-%dT%H:%M:%SZ"
    rows = [(i.start.strftime(stamp), i.end.strftime(stamp), detector[i.street], i.kind, i.left) for i in incidents]
    _write_csv(folder / "incidents.csv", header, rows)


def write_bikes(folder: Path, trips: pl.DataFrame, rng: np.random.Generator) -> None:
    """One file a month in Citi Bike's thirteen columns."""
    folder.mkdir(parents=True, exist_ok=True)
    month = pl.col("started_at").str.slice(0, 7)
    for (label,), part in trips.group_by(month.alias("month"), maintain_order=True):
        faulty = _faulty_trips(part.drop("month", strict=False), rng)
        name = f"{str(label).replace('-', '')}-simulon-tripdata.csv.gz"
        _gzip(folder / name, faulty.write_csv(line_terminator="\n"))


def write_weather(folder: Path, weather: Weather) -> None:
    """Hourly observations in UTC, one file; two sensor failures and one negative rain among them."""
    folder.mkdir(parents=True, exist_ok=True)
    temperature, rain = (np.char.mod("%.1f", v).astype("U6") for v in (weather.temperature_c, weather.rain_mm))
    hours = len(temperature)
    temperature[[hours // 5, hours // 2]] = "-99.9"
    rain[hours // 3] = "-1.0"
    rows = [
        ((weather.start + timedelta(hours=i)).strftime("%Y-%m-%dT%H:%M:%SZ"), t, r, f"{w:.1f}")
        for i, (t, r, w) in enumerate(zip(temperature, rain, weather.wind_m_s, strict=True))
    ]
    _write_csv(folder / "hourly.csv", ["time_utc", "temperature_c", "rain_mm", "wind_m_s"], rows)


def _outages(steps: int, detectors: int, rng: np.random.Generator) -> np.ndarray:
    # Single packets get lost, a detector falls silent for hours, the line to the control room drops for all.
    silent = rng.random((steps, detectors)) < 0.006
    for _ in range(int(rng.poisson(0.06 * detectors))):
        start, column = int(rng.integers(steps)), int(rng.integers(detectors))
        silent[start : start + 3 + int(rng.exponential(70)), column] = True
    if rng.random() < 0.6:
        start = int(rng.integers(steps))
        silent[start : start + int(rng.integers(2, 9))] = True
    return silent


def _spoil(text: np.ndarray, code: str, count: int, rng: np.random.Generator) -> None:
    text[rng.integers(text.shape[0], size=count), rng.integers(text.shape[1], size=count)] = code


def _clock(week: list[Day]) -> list[str]:
    zone = ZoneInfo(TIME_ZONE)
    stamps: list[str] = []
    for day in week:
        steps = int(timedelta(hours=day.hours) / _STEP)
        stamps += [(day.start + i * _STEP).astimezone(zone).strftime("%Y-%m-%d %H:%M") for i in range(steps)]
    return stamps


def _faulty_trips(trips: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    n = trips.height
    backwards, stray, odd, twice = (np.sort(rng.choice(n, size=min(k, n), replace=False)) for k in (8, 3, 2, 11))
    row = pl.int_range(pl.len(), dtype=pl.UInt32)
    spoiled = trips.with_columns(
        started_at=pl.when(row.is_in(backwards.astype(np.uint32).tolist()))
        .then(pl.col("ended_at"))
        .when(row.is_in(odd.astype(np.uint32).tolist()))
        .then(pl.lit("n/a"))
        .when(row.is_in(stray.astype(np.uint32).tolist()))
        .then(pl.concat_str(pl.lit("2042"), pl.col("started_at").str.slice(4)))
        .otherwise(pl.col("started_at")),
        ended_at=pl.when(row.is_in(backwards.astype(np.uint32).tolist()))
        .then(pl.col("started_at"))
        .when(row.is_in(stray.astype(np.uint32).tolist()))
        .then(pl.concat_str(pl.lit("2042"), pl.col("ended_at").str.slice(4)))
        .otherwise(pl.col("ended_at")),
    )
    # The operator's export repeats a few trips at the end of the file.
    return pl.concat([spoiled, trips[twice.tolist()]])


def _write_csv(path: Path, header: list[str], rows: list[tuple]) -> None:
    path.write_text("\n".join(",".join(_cell(c) for c in row) for row in [header, *rows]) + "\n", encoding="utf-8")


def _write_csv_gz(path: Path, header: list[str], rows: list[list[str]]) -> None:
    _gzip(path, "\n".join(",".join(row) for row in [header, *rows]) + "\n")


def _gzip(path: Path, text: str) -> None:
    # Without a time in the header, so that the same seed gives the same bytes.
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def _cell(value: object) -> str:
    text = str(value)
    return f'"{text}"' if "," in text else text
