"""What a panel holds: which steps, which series, and which of them are left out and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mtgpt.errors import PanelError
from mtgpt.panel import grid
from mtgpt.panel.calendar import calendar_of, local_slots, service_steps
from mtgpt.panel.cover import covers, union, zero_windows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mtgpt.contracts.variables import Variable
    from mtgpt.ingest.manifest import CityManifest, PanelSpec
    from mtgpt.panel.calendar import Calendar, ServiceRules
    from mtgpt.panel.cover import Windows

# Observed days may be spread over an axis this many times longer; a stray year is much farther away.
_SPARSEST = 20
# Days apart by more than a month and with less than a hundredth of the rows are somebody's clock, not the city.
_APART_DAYS = 31
_STRAY_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Steps and series of a panel.

    Attributes:
        columns: The series and how they are filled.
        calendar: The steps.
        notes: What was left out, by reason.
    """

    columns: grid.Columns
    calendar: Calendar
    notes: dict[str, Any]


def choose(
    observation: pl.LazyFrame,
    trip: pl.LazyFrame,
    manifest: CityManifest,
    *,
    rules: ServiceRules,
    vocabulary: Mapping[str, Variable],
    say: Callable[[str], None],
) -> Chosen:
    """Surveys a city's observations and decides what its panel holds.

    Args:
        observation: Rows of the table of one city.
        trip: Rows of the table of the same city.
        manifest: The city and its panel's recipe.
        rules: Service days and hours.
        vocabulary: Variables by name.
        say: Called with a short text at each stage.

    Raises:
        PanelError: There is nothing to build from, or the recipe does not fit the data.
    """
    spec = manifest.panel
    say("surveying observations")
    found = grid.survey(observation, spec.interval_s)
    observation, found, strays = _without_stray_days(observation, found, spec)
    found, notes = _wanted(found, manifest, vocabulary)
    covered = covers(observation, trip, found, vocabulary, rules)
    calendar = calendar_of(_axis(found, covered, spec, rules), rules)
    if spec.variables is not None:
        found = found.filter(pl.col("variable").is_in(list(spec.variables)))
    columns = _columns(found, covered, vocabulary, calendar)
    say(f"counting what {columns.keys.height:,} series have on {calendar.time.size:,} steps")
    columns, left_out = _select(columns, observation, calendar, spec, manifest)
    return Chosen(columns=columns, calendar=calendar, notes=strays | notes | left_out)


def _without_stray_days(
    observation: pl.LazyFrame, found: pl.DataFrame, spec: PanelSpec
) -> tuple[pl.LazyFrame, pl.DataFrame, dict[str, Any]]:
    """Leaves out the few rows of another year that a recorder's clock put there.

    One such row in a grid with times of its own would stretch the axis over all the years between.
    """
    if found.height == 0 or (spec.start is not None and spec.end is not None):
        return observation, found, {}
    first, last, most = found.select(pl.col("first").min(), pl.col("last").max(), pl.col("days").max()).row(0)
    if (last - first) // 86_400 < most + _APART_DAYS:
        return observation, found, {}
    day = pl.col("time_start").dt.epoch("s") // 86_400
    days = observation.group_by(day.alias("day")).len("rows").sort("day").collect(engine="streaming")
    groups = (
        days.with_columns(group=(pl.col("day").diff().fill_null(0) > _APART_DAYS).cum_sum())
        .group_by("group")
        .agg(first=pl.col("day").min(), last=pl.col("day").max(), rows=pl.col("rows").sum())
    )
    stray = groups.filter(pl.col("rows") < _STRAY_SHARE * pl.col("rows").sum())
    if stray.height == 0:
        return observation, found, {}
    inside = pl.all_horizontal([~day.is_between(a, b) for a, b in stray.select("first", "last").iter_rows()])
    observation = observation.filter(inside)
    return observation, grid.survey(observation, spec.interval_s), {"rows_of_stray_days": int(stray["rows"].sum())}


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
