"""Builds a city's panel from the lake; memory grows with the panel, not with the raw rows."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time as clock
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mtgpt.contracts.variables import variables
from mtgpt.errors import PanelError
from mtgpt.panel import grid
from mtgpt.panel.assemble import finish, lay_out, spot_series
from mtgpt.panel.calendar import service_rules
from mtgpt.panel.choose import choose
from mtgpt.panel.covariates import covariates, events_by_kind
from mtgpt.panel.graph import series_graph, spot_graph
from mtgpt.panel.panel import TRANSFER_SCHEMA, PanelMeta
from mtgpt.panel.store import open_panel, save_panel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from scipy.sparse import csr_array

    from mtgpt.contracts.variables import Variable
    from mtgpt.ingest.manifest import CityManifest
    from mtgpt.lake.lake import Lake
    from mtgpt.panel.assemble import Layout
    from mtgpt.panel.calendar import Calendar
    from mtgpt.panel.panel import Panel

_TABLES = ("spot", "link", "observation", "trip", "weather", "service", "service_day", "event")
_ATTRIBUTE = "attribute:"
_TRANSFER = "transfer"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tables:
    """One city's rows of the tables, all at the versions that the panel will name.

    Observations that looked wrong when they came stand apart, unless the recipe takes them as they are.
    """

    spot: pl.DataFrame
    link: pl.DataFrame
    observation: pl.LazyFrame
    suspect: pl.LazyFrame
    trip: pl.LazyFrame
    weather: pl.LazyFrame
    service: pl.LazyFrame
    service_day: pl.LazyFrame
    event: pl.LazyFrame
    versions: dict[str, int]
    batches: int | None


def build_panel(
    manifest: CityManifest, lake: Lake, *, folder: Path, progress: Callable[[str], None] | None = None
) -> Panel:
    """Builds and stores the panel that a manifest describes, from what the lake holds now.

    Args:
        manifest: City, time zone and the panel's recipe.
        lake: Where the city's tables are.
        folder: Folder of this city's panels, usually ``settings.panels / city``; see
            :func:`mtgpt.panel.store.save_panel`.
        progress: Called with a short text at each stage.

    Returns:
        The stored panel, memory-mapped.

    Raises:
        PanelError: If there is nothing to build from, the recipe does not fit the data, or the disk refuses.
        LakeError: If the lake cannot be read.
    """
    say = progress or (lambda _: None)
    began = clock.monotonic()
    spec = manifest.panel
    vocabulary = variables()
    rules = service_rules(
        time_zone=manifest.time_zone,
        interval_s=spec.interval_s,
        days=spec.days,
        hours=spec.hours,
        country=manifest.country,
        subdivision=manifest.subdivision,
    )
    tables = _open(lake, manifest)
    chosen = choose(tables.observation, tables.trip, manifest, rules=rules, vocabulary=vocabulary, say=say)
    columns, calendar, notes = chosen.columns, chosen.calendar, dict(chosen.notes)
    say(f"laying out {columns.keys.height:,} series")
    series, spots = _series(columns.keys, tables.spot, vocabulary)
    links, transfers = _parted(tables.link, tables.spot, spots)
    layout, notes["graph"] = _lay_out(series, spots, links, manifest)
    notes |= {name: facts for name, facts in _further(tables, transfers, calendar).items() if facts}
    meta = PanelMeta(
        city=manifest.city,
        name=manifest.name,
        interval_s=spec.interval_s,
        time_zone=manifest.time_zone,
        simulated=manifest.simulated,
        table_versions=tables.versions,
        contracts={name: lake.contracts[name].sha256 for name in tables.versions},
        batches=tables.batches,
        spec=spec.model_dump(mode="json"),
    )
    with _scratch(folder, (calendar.time.size, layout.series.height)) as values:
        say("filling the grid")
        placed = _in_order(columns, layout)
        grid.scatter(tables.observation, placed, calendar.time, spec.interval_s, values)
        grid.blank(tables.suspect, placed.keys, calendar.time, spec.interval_s, values)
        known = covariates(
            weather=tables.weather, service=tables.service, service_day=tables.service_day, calendar=calendar
        )
        say("adding up corridors and the network")
        panel = finish(values, layout, calendar=calendar, covariates=known, meta=meta, transfers=transfers)
        notes["seconds"] = round(clock.monotonic() - began, 2)
        say("storing")
        place = save_panel(replace(panel, meta=replace(panel.meta, notes=notes)), folder)
    return open_panel(place)


def _open(lake: Lake, manifest: CityManifest) -> _Tables:
    city = manifest.city
    versions = {name: version for name in _TABLES if (version := lake.version(name)) is not None}
    _refuse_plans_alone(lake, city)
    if "observation" not in versions:
        raise PanelError("the lake holds no observations", where=city, next_step=f"ingest first: `mtgpt ingest {city}`")

    def rows(name: str) -> pl.LazyFrame:
        return lake.scan(name, city_id=city, version=versions.get(name))

    observation = rows("observation")
    fine = pl.lit(True) if manifest.panel.use_suspect else pl.col("suspect").is_null()
    return _Tables(
        spot=rows("spot").collect().sort("spot_id", "valid_from"),
        link=rows("link").select("from_spot", "to_spot", "kind", "distance_m", "weight").collect(),
        observation=observation.filter(fine),
        suspect=observation.filter(~fine),
        trip=rows("trip"),
        weather=rows("weather"),
        service=rows("service"),
        service_day=rows("service_day"),
        event=rows("event"),
        versions=versions,
        batches=lake.ledger(city).height,
    )


def _refuse_plans_alone(lake: Lake, city: str) -> None:
    """A timetable says what should run: it is a covariate of what was measured, and no series of its own."""
    planned, measured = (
        lake.scan(name, city_id=city).head(1).collect().height for name in ("service_day", "observation")
    )
    if planned and not measured:
        raise PanelError(
            "the lake holds the city's timetables and nothing that was measured there",
            where=city,
            next_step="add a source that measures to its manifest, such as GTFS-Realtime, docks or counts, and ingest "
            "again; the timetable then becomes a covariate",
        )


def _further(tables: _Tables, transfers: pl.DataFrame, calendar: Calendar) -> dict[str, Any]:
    """Facts worth showing that no series tells."""
    suspect = tables.suspect.group_by("suspect").len().sort("suspect").collect(engine="streaming")
    return {
        "suspect_rows": dict(suspect.iter_rows()),
        "transfers": transfers.height,
        "events": events_by_kind(tables.event, calendar),
    }


def _parted(link: pl.DataFrame, spot: pl.DataFrame, spots: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Links that may carry a variable, and transfers between modes, which do not.

    A dock beside a station has no variable in common with it; as an edge, the link would only keep the dock from
    being joined to its nearest docks. A station without a series of its own is worth knowing all the same.
    """
    modes = spot.group_by("spot_id", maintain_order=True).last().select("spot_id", "mode")
    ends = link.join(modes.rename({"spot_id": "from_spot", "mode": "from_mode"}), on="from_spot", how="left").join(
        modes.rename({"spot_id": "to_spot", "mode": "to_mode"}), on="to_spot", how="left"
    )
    between = (pl.col("kind") == _TRANSFER) & (pl.col("from_mode") != pl.col("to_mode")).fill_null(value=True)
    ours = spots["spot_id"].implode()
    known = pl.col("from_mode").is_not_null() & pl.col("to_mode").is_not_null()
    transfers = (
        ends.filter(between & known & (pl.col("from_spot").is_in(ours) | pl.col("to_spot").is_in(ours)))
        .group_by("from_spot", "to_spot")
        .agg(pl.col("distance_m").min())
        .sort("from_spot", "to_spot")
        .select(TRANSFER_SCHEMA.names())
        .cast(TRANSFER_SCHEMA)
    )
    return ends.filter(~between).select(link.columns), transfers


def _series(
    keys: pl.DataFrame, spot: pl.DataFrame, vocabulary: Mapping[str, Variable]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The spot series, and the spots they are measured at, one row each."""
    newest = spot.group_by("spot_id", maintain_order=True).last()
    # A feed without a spot file: the city's usual kind of place is the best guess.
    usual = {
        name: (newest[name].mode().sort().first() if newest.height else default)
        for name, default in (("mode", "road"), ("kind", "detector"))
    }
    facts = pl.DataFrame(
        [(v.name, v.unit, v.counted, v.aggregate) for v in vocabulary.values()],
        schema=["variable", "unit", "counted", "aggregate"],
        orient="row",
    )
    series = (
        keys.join(newest.drop("city_id", strict=False), on="spot_id", how="left")
        .join(facts, on="variable", how="left")
        .with_columns(pl.col(name).fill_null(value) for name, value in usual.items())
        .sort("column")
    )
    spots = series.unique("spot_id", keep="first", maintain_order=True)
    return series, spots.select("spot_id", "mode", "lon", "lat")


def _lay_out(
    series: pl.DataFrame, spots: pl.DataFrame, link: pl.DataFrame, manifest: CityManifest
) -> tuple[Layout, dict[str, int]]:
    spec = manifest.panel
    between, notes = spot_graph(link, spots, neighbours=spec.neighbours)
    number = spots.select("spot_id", number=pl.int_range(pl.len(), dtype=pl.Int64))
    spot = series.join(number, on="spot_id", how="left", maintain_order="left")["number"].to_numpy()
    graph: csr_array = series_graph(between, spot, series["variable"].to_numpy().astype(str))
    labels = None
    if spec.corridors.startswith(_ATTRIBUTE):
        names = spec.corridors.removeprefix(_ATTRIBUTE).split(",")
        labels = [_attribute(text, names) for text in series["attributes"].to_list()]
        if not any(labels):
            raise PanelError(
                "no spot has the attribute that names its corridor",
                where=f"{manifest.file}: panel.corridors",
                got=spec.corridors,
                next_step="use `graph`, or an attribute that the spot table has",
            )
    layout = lay_out(spot_series(series), graph, city=manifest.name, labels=labels, corridor_size=spec.corridor_size)
    return layout, notes


def _attribute(text: str | None, names: Sequence[str]) -> str | None:
    if text is None:
        return None
    try:
        facts = json.loads(text)
        value = next((facts[name] for name in names if facts.get(name) is not None), None)
    except (ValueError, AttributeError):
        return None
    return None if value is None else str(value)


def _in_order(columns: grid.Columns, layout: Layout) -> grid.Columns:
    place = np.empty(layout.order.size, dtype=np.int64)
    place[layout.order] = np.arange(layout.order.size)
    return grid.Columns(
        keys=columns.keys.with_columns(column=pl.Series(place[columns.keys["column"].to_numpy()])),
        adds_up=columns.adds_up[layout.order],
        merges=columns.merges[layout.order],
        windows=tuple(columns.windows[i] for i in layout.order),
    )


@contextlib.contextmanager
def _scratch(folder: Path, shape: tuple[int, int]) -> Iterator[np.ndarray]:
    """A float32 grid on the disk where the panel will lie, gone afterwards."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".grid.", suffix=".tmp", dir=folder) as scratch:
            path = Path(scratch) / "values.f32"
            with path.open("wb") as sink:
                # A map over a hole would meet a full disk as a bus error, not as one that can be told.
                os.posix_fallocate(sink.fileno(), 0, max(1, 4 * shape[0] * shape[1]))
            yield np.memmap(path, dtype=np.float32, mode="r+", shape=shape)
    except OSError as error:
        raise PanelError(
            "the panel could not be written",
            where=folder,
            got=error.strerror or str(error),
            expected=f"about {8 * shape[0] * shape[1] / 1e6:,.0f} MB of free, writable disk",
            next_step="free space or set MTGPT_HOME to another disk, then build again",
        ) from error
