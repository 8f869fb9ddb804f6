"""One small sound feed of every kind, to be broken."""

from __future__ import annotations

import gzip
import io
import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import polars as pl

from tests.cli.command_line import MATRIX, Feed
from tests.ingest.feeds.test_bike_trips import NEW, OLD
from tests.ingest.feeds.test_scats import HEADERS, day, scats_xlsx
from tests.ingest.feeds.test_tlc import HEADER as TLC
from tests.ingest.feeds.test_tlc import row

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

STEPS = 60
GRID = 40 + np.random.default_rng(1).random((STEPS, 5)) * 9
ADJACENCY = "0,1,0,0,0\n1,0,1,0,0\n0,1,0,1,0\n0,0,1,0,1\n0,0,0,1,0\n"
STATIONS = "station_id,longitude,latitude,pile_num,avg_power\n0,-46.68,-23.60,1,22\n1,-46.67,-23.61,2,7\n"
KINDS = (
    "csv", "csv.gz", "npz", "h5", "json", "tlc.csv", "tlc.csv.gz", "tlc.parquet", "bikes_old", "bikes_new", "scats.csv",
    "scats.xlsx", "charged", "weather",
)  # fmt: skip
PACKED = ("csv.gz", "npz", "h5", "tlc.csv.gz", "tlc.parquet", "scats.xlsx")
TEXTS = tuple(kind for kind in KINDS if kind not in PACKED and kind != "json")


def times(step_s: int = 300, count: int = STEPS, start: datetime = datetime(2024, 3, 4)) -> list[str]:  # noqa: DTZ001 - local
    return [(start + timedelta(seconds=step_s * step)).isoformat(sep=" ") for step in range(count)]


def matrix_csv(grid: NDArray[np.float64] = GRID) -> bytes:
    lines = [",".join(["time", *(f"d{place}" for place in range(grid.shape[1]))])]
    lines += [
        ",".join([time, *(f"{value:.2f}" for value in values)]) for time, values in zip(times(), grid, strict=True)
    ]
    return ("\n".join(lines) + "\n").encode()


def npz(**arrays: NDArray[np.generic]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # pyright: ignore[reportArgumentType]
    return stream.getvalue()


def h5(**datasets: object) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, value in datasets.items():
            file[name] = value
    return stream.getvalue()


def node_link(**changes: object) -> bytes:
    nodes = [{"id": f"n{at}", "v": GRID[:, at].tolist(), "x": 10 + at / 9, "y": 59, **changes} for at in range(5)]
    links = [{"source": "n0", "target": "n1", "weight": changes.get("weight", 5)}]
    return json.dumps({"nodes": nodes, "links": links}).encode()


def taxi_rows() -> str:
    return "".join(
        row(f"2020-03-{1 + at % 28:02d} 10:{at % 60:02d}:00", f"2020-03-{1 + at % 28:02d} 11:00:00") for at in range(40)
    )


def taxi_parquet(*columns: pl.Expr) -> bytes:
    stream = io.BytesIO()
    frame = pl.read_csv((TLC + taxi_rows()).encode(), try_parse_dates=True)
    frame.with_columns(*columns).write_parquet(stream)
    return stream.getvalue()


def bikes(text: str, count: int = 40) -> bytes:
    header, ride, _ = text.split("\n")
    number = "121DD7DD23CB1335" if "ride_id" in header else ",29677,"
    rides = [ride.replace(number, number.replace("2", str(10 + at))) for at in range(count)]
    return "\n".join([header, *rides, ""]).encode()


def scats() -> list[list[str]]:
    return [day(f"10/{date}/2006", range(1, 97), site=site) for date in range(1, 4) for site in ("0970", "2000")]


def charged(unit: float = 1.0) -> str:
    lines = [f"{time},{at % 5 * unit},0" for at, time in enumerate(times(3600))]
    return "\n".join([",0,1", *lines, ""])


def feed(kind: str, folder: Path) -> Feed:
    grid = {**MATRIX, "start": "2024-03-04"}
    nodes = {"values": "v", "lon": "x", "lat": "y", "links": "links"}
    weather = {"columns": {"temperature_c": "temp", "rain_mm": "rain"}}
    hourly = "\n".join(["time,temp,rain", *(f"{time},{at % 20},0.{at % 5}" for at, time in enumerate(times(3600))), ""])
    taxis = (TLC + taxi_rows()).encode()
    csv_scats = "\n".join(",".join(line) for line in [*HEADERS, *scats()]) + "\n"
    made: dict[str, tuple[str, str, bytes, dict[str, Any], dict[str, str], str]] = {
        "csv": ("matrix", "s.csv", matrix_csv(), {**MATRIX, "time": "time"}, {"adjacency": ADJACENCY}, "Europe/Oslo"),
        "csv.gz": ("matrix", "s.csv.gz", gzip.compress(matrix_csv()), {**MATRIX, "time": "time"}, {}, "Europe/Oslo"),
        "npz": ("matrix", "s.npz", npz(data=GRID), grid, {"ids": "d0,d1,d2,d3,d4\n"}, "Europe/Oslo"),
        "h5": ("matrix", "s.h5", h5(data=GRID), grid, {}, "Europe/Oslo"),
        "json": ("matrix", "s.json", node_link(), {**grid, "nodes": nodes}, {}, "Europe/Oslo"),
        "tlc.csv": ("tlc", "green_2020-03.csv", taxis, {}, {}, "America/New_York"),
        "tlc.csv.gz": ("tlc", "green_2020-03.csv.gz", gzip.compress(taxis), {}, {}, "America/New_York"),
        "tlc.parquet": ("tlc", "green_2020-03.parquet", taxi_parquet(), {}, {}, "America/New_York"),
        "bikes_old": ("bike_trips", "JC-202101.csv", bikes(OLD), {}, {}, "America/New_York"),
        "bikes_new": ("bike_trips", "JC-202102.csv", bikes(NEW), {}, {}, "America/New_York"),
        "scats.csv": ("scats", "scats.csv", csv_scats.encode(), {}, {}, "Australia/Melbourne"),
        "scats.xlsx": ("scats", "scats.xlsx", b"", {}, {}, "Australia/Melbourne"),
        "charged": ("charged", "volume.csv", charged().encode(), {}, {"stations": STATIONS}, "America/Sao_Paulo"),
        "weather": ("weather_table", "w.csv", hourly.encode(), weather, {}, "Europe/Oslo"),
    }
    adapter, name, good, options, files, zone = made[kind]
    if kind == "scats.xlsx":
        folder.mkdir(exist_ok=True)
        good = scats_xlsx(folder, *scats()).read_bytes()
    return Feed(folder=folder, kind=adapter, name=name, good=good, options=options, files=files, zone=zone)
