"""What a version of an operator's feed said, out of the lake's own tables.

A new feed adds rows to ``service_day``: days that were not spoken of before, and days that have another timetable now.
The ledger names the version of each table that a batch left behind, so both states can be read again.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.lake.disk import refusals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mtgpt.lake.lake import Lake

DAY, SERVICE, SPOT, ROUTE = "service_day", "service", "spot", "route"
WINDOW = timedelta(days=28)
"""How long the days are that are compared: four of each weekday."""

_CLASS = (
    pl.when(pl.col("service_date").dt.weekday() <= 5)
    .then(pl.lit("workday"))
    .otherwise(pl.when(pl.col("service_date").dt.weekday() == 6).then(pl.lit("Saturday")).otherwise(pl.lit("Sunday")))
)
"""Kind of day, without holidays: the median over the window is what they cannot move."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedVersion:
    """A batch of a timetable in the ledger.

    Attributes:
        source_id: Its source.
        batch_id: Its id.
        name: Name of its file.
        versions: Table → version that shows all of the source's batches up to this one.
    """

    source_id: str
    batch_id: str
    name: str
    versions: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Two timetables of one source, the days of each that are compared, and what they hold.

    Attributes:
        start: First service day of the new timetable.
        before: service_date, pattern_id: days that the old one is known by.
        after: As ``before``, of the new one.
        lines: route_id, kind of day, before, after: median departures a day at all stops together.
        old_lines: route_id of everything that the old one runs.
        new_lines: As ``old_lines``.
        old_spots: spot_id of everything that the old one serves.
        new_spots: As ``old_spots``.
    """

    start: date
    before: pl.DataFrame
    after: pl.DataFrame
    lines: pl.DataFrame
    old_lines: frozenset[str]
    new_lines: frozenset[str]
    old_spots: frozenset[str]
    new_spots: frozenset[str]


def feed_versions(ledger: pl.DataFrame, kind: str) -> dict[str, list[FeedVersion]]:
    """By source, the batches of a kind that landed, the earliest first.

    Args:
        ledger: Rows of one city, in order of arrival.
        kind: Kind of the adapter.
    """
    found: dict[str, list[FeedVersion]] = {}
    for row in ledger.filter((pl.col("kind") == kind) & (pl.col("status") != "held")).iter_rows(named=True):
        known = found.setdefault(row["source_id"], [])
        tables: Mapping[str, Any] = json.loads(row["tables"])
        newest = {name: facts["version"] for name, facts in tables.items() if facts["version"] is not None}
        versions = (dict(known[-1].versions) if known else {}) | newest
        known.append(
            FeedVersion(
                source_id=row["source_id"],
                batch_id=row["batch_id"],
                name=json.loads(row["files"])[0]["name"],
                versions=versions,
            )
        )
    return found


def change_between(
    lake: Lake, city_id: str, old: FeedVersion, new: FeedVersion, *, lines: Mapping[str, str]
) -> Change | None:
    """What differs between two versions of a feed; None where the new one says nothing new of any day.

    Args:
        lake: Holds both.
        city_id: City.
        old: The earlier one.
        new: The later one.
        lines: Name of each route_id. Where an operator gives its lines new ids, they are the same line by name.

    Raises:
        LakeError: A version of a table is gone, or cannot be read.
    """
    if DAY not in old.versions or old.versions[DAY] == new.versions[DAY]:
        return None
    said = _said(lake, city_id, old)
    now = _said(lake, city_id, new)
    added = now.join(said, on=["service_date", "valid_from"], how="anti").sort("service_date")
    if not added.height or not said.height:
        return None
    said, now = _latest(said), _latest(now)
    start = added["service_date"][0]
    if added["service_date"][-1] < said["service_date"][0]:
        # An older feed that came late is no change of today's.
        return None
    after = added.filter(pl.col("service_date") < start + WINDOW).select("service_date", "pattern_id")
    same_days = said.filter(pl.col("service_date").is_between(start, start + WINDOW, closed="left"))
    last_days = said.filter(pl.col("service_date") > said["service_date"][-1] - WINDOW)
    before = pl.concat([same_days, last_days]) if not _covers(same_days, after) else same_days
    before = before.unique("service_date").sort("service_date")
    still = now.filter(pl.col("service_date") >= start)
    counts = _counts(lake, city_id, new.source_id, pl.concat([said, now])["pattern_id"].unique())
    renamed = _renamed(_names(said, counts, "route_id"), _names(still, counts, "route_id"), lines)
    counts = counts.with_columns(pl.col("route_id").replace(renamed))
    return Change(
        start=start,
        before=before,
        after=after,
        lines=_medians(before, counts, "before").join(_medians(after, counts, "after"), on=["route_id", "kind"]),
        old_lines=_names(said, counts, "route_id"),
        new_lines=_names(still, counts, "route_id"),
        old_spots=_names(said, counts, "spot_id"),
        new_spots=_names(still, counts, "spot_id"),
    )


def places(lake: Lake, city_id: str, version: int) -> pl.DataFrame:
    """spot_id, name, lon, lat of a city as a version of the table has them."""
    with refusals(SPOT):
        rows = lake.scan(SPOT, city_id=city_id, version=version)
        return rows.sort("valid_from").group_by("spot_id").last().select("spot_id", "name", "lon", "lat").collect()


def _said(lake: Lake, city_id: str, feed: FeedVersion) -> pl.DataFrame:
    with refusals(DAY):
        rows = lake.scan(DAY, city_id=city_id, version=feed.versions[DAY])
        return rows.filter(pl.col("source_id") == feed.source_id).drop("city_id", "source_id").collect()


def _latest(said: pl.DataFrame) -> pl.DataFrame:
    latest = said.sort("valid_from").unique("service_date", keep="last").sort("service_date")
    return latest.select("service_date", "pattern_id")


def _covers(days: pl.DataFrame, wanted: pl.DataFrame) -> bool:
    return set(wanted.select(_CLASS).to_series()) <= set(days.select(_CLASS).to_series())


def _counts(lake: Lake, city_id: str, source_id: str, patterns: pl.Series) -> pl.DataFrame:
    """pattern_id, route_id, spot_id, departures."""
    with refusals(SERVICE):
        rows = lake.scan(SERVICE, city_id=city_id)
        wanted = (pl.col("source_id") == source_id) & pl.col("pattern_id").is_in(patterns.implode())
        counts = rows.filter(wanted).group_by("pattern_id", "route_id", "spot_id").agg(pl.col("departures").sum())
        return counts.collect(engine="streaming")


def _names(days: pl.DataFrame, counts: pl.DataFrame, column: str) -> frozenset[str]:
    return frozenset(counts.join(days.select("pattern_id").unique(), on="pattern_id", how="semi")[column])


def _renamed(old: frozenset[str], new: frozenset[str], lines: Mapping[str, str]) -> dict[str, str]:
    """Old route_id → new one, where just one line of that name went and just one came."""
    gone, come = (Counter(lines.get(one, one) for one in some) for some in (old - new, new - old))
    now = {lines.get(one, one): one for one in new - old}
    names = {one: lines.get(one, one) for one in old - new}
    return {one: now[name] for one, name in names.items() if gone[name] == come[name] == 1}


def _medians(days: pl.DataFrame, counts: pl.DataFrame, name: str) -> pl.DataFrame:
    """Per line and kind of day the median departures a day; a day without the line is a day with none."""
    kinds = days.select("service_date", "pattern_id", _CLASS.alias("kind"))
    per_line = counts.group_by("pattern_id", "route_id").agg(pl.col("departures").sum())
    every = kinds.join(per_line.select("route_id").unique(), how="cross")
    return (
        every.join(per_line, on=["pattern_id", "route_id"], how="left")
        .group_by("route_id", "kind")
        .agg(pl.col("departures").fill_null(0).median().alias(name))
    )
