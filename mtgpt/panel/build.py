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
from mtgpt.panel.calendar import calendar_of, local_slots, service_rules, service_steps
from mtgpt.panel.cover import covers, union, zero_windows
from mtgpt.panel.graph import series_graph, spot_graph
from mtgpt.panel.panel import PanelMeta
from mtgpt.panel.store import open_panel, save_panel
from mtgpt.panel.weather import weather_covariates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from scipy.sparse import csr_array

    from mtgpt.contracts.variables import Variable
    from mtgpt.ingest.manifest import CityManifest, PanelSpec
    from mtgpt.lake.lake import Lake
    from mtgpt.panel.assemble import Layout
    from mtgpt.panel.calendar import Calendar, ServiceRules
    from mtgpt.panel.cover import Windows
    from mtgpt.panel.panel import Panel

_TABLES = ("spot", "link", "observation", "trip", "weather")
_ATTRIBUTE = "attribute:"
# Observed days may be spread over an axis this many times longer; a stray year is much farther away.
_SPARSEST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tables:
    """One city's rows of the tables, all at the versions that the panel will name."""

    spot: pl.DataFrame
    link: pl.DataFrame
    observation: pl.LazyFrame
    trip: pl.LazyFrame
    weather: pl.LazyFrame
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
    say("surveying observations")
    tables = _open(lake, manifest)
    found = grid.survey(tables.observation, spec.interval_s)
    found, notes = _wanted(found, manifest, vocabulary)
    covered = covers(tables.observation, tables.trip, found, vocabulary, rules)
    calendar = calendar_of(_axis(found, covered, spec, rules), rules)
    if spec.variables is not None:
        found = found.filter(pl.col("variable").is_in(list(spec.variables)))
    columns = _columns(found, covered, vocabulary, calendar)
    say(f"counting what {columns.keys.height:,} series have on {calendar.time.size:,} steps")
    columns, left_out = _select(columns, tables.observation, calendar, spec, manifest)
    notes |= left_out
    say(f"laying out {columns.keys.height:,} series")
    series, spots = _series(columns.keys, tables.spot, vocabulary)
    layout, graph_notes = _lay_out(series, spots, tables.link, manifest)
    notes["graph"] = graph_notes
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
        grid.scatter(tables.observation, _in_order(columns, layout), calendar.time, spec.interval_s, values)
        covariates = weather_covariates(tables.weather, calendar.time)
        say("adding up corridors and the network")
        panel = finish(values, layout, calendar=calendar, covariates=covariates, meta=meta)
        notes["seconds"] = round(clock.monotonic() - began, 2)
        say("storing")
        place = save_panel(replace(panel, meta=replace(panel.meta, notes=notes)), folder)
    return open_panel(place)


def _open(lake: Lake, manifest: CityManifest) -> _Tables:
    city = manifest.city
    versions = {name: version for name in _TABLES if (version := lake.version(name)) is not None}
    if "observation" not in versions:
        raise PanelError("the lake holds no observations", where=city, next_step=f"ingest first: `mtgpt ingest {city}`")

    def rows(name: str) -> pl.LazyFrame:
        return lake.scan(name, city_id=city, version=versions.get(name))

    return _Tables(
        spot=rows("spot").collect().sort("spot_id", "valid_from"),
        link=rows("link").select("from_spot", "to_spot", "distance_m", "weight").collect(),
        observation=rows("observation"),
        trip=rows("trip"),
        weather=rows("weather"),
        versions=versions,
        batches=lake.ledger(city).height,
    )


def _wanted(
    found: pl.DataFrame, manifest: CityManifest, vocabulary: Mapping[str, Variable]
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Leaves out what the panel cannot hold, and says so."""
    spec = manifest.panel
    if found.height == 0:
        raise PanelError(
            "the lake holds no observation of this city",
            where=manifest.city,
            next_step=f"ingest first: `mtgpt ingest {manifest.city}`, then see `mtgpt lake status`",
        )
    there = sorted(found["variable"].unique())
    absent = [name for name in spec.variables or () if name not in there]
    if absent:
        raise PanelError(
            "the city does not measure this variable",
            where=f"{manifest.file}: panel.variables",
            got=", ".join(absent),
            expected=f"some of {', '.join(there)}",
        )
    known = pl.col("variable").is_in(list(vocabulary))
    coarse = pl.col("shortest") > spec.interval_s
    notes = {
        "series_of_unknown_variables": found.filter(~known).height,
        "series_coarser_than_a_step": found.filter(known & coarse).height,
    }
    kept = found.filter(known & ~coarse)
    if kept.height == 0:
        raise PanelError(
            "every series is measured in intervals longer than a step",
            where=f"{manifest.file}: panel.interval_s",
            got=spec.interval_s,
            expected=f"at least {found['shortest'].min()} s",
        )
    return kept, {key: value for key, value in notes.items() if value}


def _axis(found: pl.DataFrame, covered: pl.DataFrame, spec: PanelSpec, rules: ServiceRules) -> np.ndarray:
    """Whole service days from the first to the last that is measured, cut after the last measured step."""
    spans = covered.group_by("source_id", "variable").agg(low=pl.col("first").min(), high=pl.col("last").max())
    zeroed = found.join(spans, on=["source_id", "variable"], how="left").select(
        first=pl.coalesce("low", "first"), last=pl.coalesce("high", "last")
    )
    ends = np.array([zeroed["first"].min(), zeroed["last"].max()], dtype="datetime64[s]")
    days, _ = local_slots(ends, rules)
    first = spec.start or days[0].astype(object)
    last = spec.end or days[1].astype(object)
    nothing = PanelError(
        "nothing was measured in the panel's period",
        got=f"{first} to {last}",
        expected=f"days between {days[0]} and {days[1]}",
        next_step="change panel.start and panel.end in the manifest",
    )
    if first > last:
        raise nothing
    observed = int(found.group_by("source_id").agg(pl.col("days").max())["days"].sum())
    if (last - first).days + 1 > _SPARSEST * (observed + 1):
        raise PanelError(
            "the measured days lie too far apart for one axis",
            got=f"{observed} days with data between {first} and {last}",
            next_step="set panel.start and panel.end in the manifest",
        )
    steps = service_steps(first, last, rules)
    steps = steps[steps <= ends[1]]
    if steps.size == 0:
        raise nothing
    return steps


def _columns(
    found: pl.DataFrame, covered: pl.DataFrame, vocabulary: Mapping[str, Variable], calendar: Calendar
) -> grid.Columns:
    rules = calendar.rules
    phase = int(calendar.time[0].astype(np.int64)) % rules.interval_s
    windows = zero_windows(covered, calendar)
    keys = (
        found.group_by("variable", "spot_id")
        .agg(
            merges=(pl.col("shortest") < rules.interval_s).any()
            | (pl.col("phase_low") != phase).any()
            | (pl.col("phase_high") != phase).any()
            | (pl.len() > 1),
            source_id=pl.col("source_id").unique().sort(),
        )
        .sort("variable", "spot_id")
        .with_columns(column=pl.int_range(pl.len(), dtype=pl.Int64))
    )
    merged: dict[tuple[str, ...], Windows] = {}
    of_column = []
    for variable, sources in zip(keys["variable"].to_list(), keys["source_id"].to_list(), strict=True):
        key = (variable, *sources)
        if key not in merged:
            merged[key] = union([w for s in sources for w in windows.get((s, variable), [])])
        of_column.append(merged[key])
    return grid.Columns(
        keys=keys.select("spot_id", "variable", "column"),
        adds_up=np.array([grid.adds_up(vocabulary[name]) for name in keys["variable"]], dtype=bool),
        merges=keys["merges"].to_numpy(),
        windows=tuple(of_column),
    )


def _select(
    columns: grid.Columns, observation: pl.LazyFrame, calendar: Calendar, spec: PanelSpec, manifest: CityManifest
) -> tuple[grid.Columns, dict[str, Any]]:
    """Drops series that are hardly measured, then all but the largest; largest by the training part only."""
    steps, step_s = calendar.time.size, calendar.rules.interval_s
    seconds, rows, total = grid.census(observation, columns.keys, calendar.time, step_s)
    zeroed = np.array([sum(stop - start for start, stop in windows) for windows in columns.windows])
    coverage = np.where(zeroed > 0, zeroed, seconds / step_s) / steps
    measured = seconds > 0
    kept = np.flatnonzero(measured & (coverage >= spec.min_coverage))
    notes: dict[str, Any] = {"series_below_min_coverage": int(measured.sum() - kept.size)}
    if kept.size == 0:
        raise PanelError(
            "no series is measured often enough",
            where=f"{manifest.file}: panel.min_coverage",
            got=spec.min_coverage,
            expected=f"at most {coverage[measured].max(initial=0):.3f} for the fullest series",
        )
    if spec.max_series is not None and kept.size > spec.max_series:
        mean = np.where(zeroed > 0, total, total / np.maximum(rows, 1))
        # Speeds and passengers do not compare: each variable keeps its own largest series.
        ranked = columns.keys[kept].with_columns(mean=mean[kept])
        ranked = ranked.with_columns(rank=pl.col("mean").rank("ordinal", descending=True).over("variable"))
        largest = ranked.sort("rank", "variable").head(spec.max_series)
        notes["series_above_max_series"] = int(kept.size - largest.height)
        kept = np.sort(largest["column"].to_numpy())
    keys = columns.keys[kept].with_columns(column=pl.int_range(pl.len(), dtype=pl.Int64))
    picked = grid.Columns(
        keys=keys,
        adds_up=columns.adds_up[kept],
        merges=columns.merges[kept],
        windows=tuple(columns.windows[i] for i in kept),
    )
    return picked, {key: value for key, value in notes.items() if value}


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
        name = spec.corridors.removeprefix(_ATTRIBUTE)
        labels = [_attribute(text, name) for text in series["attributes"].to_list()]
        if not any(labels):
            raise PanelError(
                "no spot has the attribute that names its corridor",
                where=f"{manifest.file}: panel.corridors",
                got=spec.corridors,
                next_step="use `graph`, or an attribute that the spot table has",
            )
    layout = lay_out(spot_series(series), graph, city=manifest.name, labels=labels, corridor_size=spec.corridor_size)
    return layout, notes


def _attribute(text: str | None, name: str) -> str | None:
    if text is None:
        return None
    try:
        value = json.loads(text).get(name)
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
