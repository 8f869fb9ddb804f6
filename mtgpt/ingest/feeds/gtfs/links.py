"""How the stops of a GTFS feed hang together: rows of the table link.

* ``transit``: a trip calls at one stop right after the other. The weight is the share of all trips leaving the first
  that go to the second next; the distance is that along the shape where stop_times.txt has it, in metres whatever the
  feed's own unit, and great-circle otherwise.
* ``transfer``: transfers.txt and pathways.txt say that people can change. A row that names one place twice (a rule for
  changing lines there), or that forbids a transfer, joins no two places and makes no link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.sparse import csgraph, csr_array

from mtgpt.ingest.adapter import Chunk
from mtgpt.ingest.feeds.gtfs.faults import NUMBER_UNREADABLE, STOP_UNKNOWN
from mtgpt.ingest.feeds.gtfs.stops import OUTSIDE
from mtgpt.ingest.feeds.gtfs.tables import finite
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.places import SINCE_EVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mtgpt.ingest.feeds.gtfs.faults import GtfsFaults
    from mtgpt.ingest.feeds.gtfs.stop_times import Passings
    from mtgpt.ingest.feeds.gtfs.stops import Stops
    from mtgpt.ingest.feeds.gtfs.tables import GtfsZip

_TRANSFERS, _PATHWAYS, _SHAPES = "transfers.txt", "pathways.txt", "shapes.txt"
_UNITS_M = (1.0, 1000.0, 1609.344, 0.3048)
_UNIT_SLACK = 0.1
_EARTH_M = 6_371_008.8
_MOST_NODES = 20_000
_FARTHEST_M = 1_000_000.0
# Where a pathway has a duration and no length; people walk 1.2 m/s indoors.
_WALK_M_S = 1.2
_NO_TRANSFER = ("3", "4", "5")


def great_circle_m(lon_1: np.ndarray, lat_1: np.ndarray, lon_2: np.ndarray, lat_2: np.ndarray) -> np.ndarray:
    """Haversine distance in metres of points in degrees, elementwise."""
    lon_1, lat_1, lon_2, lat_2 = (np.radians(part) for part in (lon_1, lat_1, lon_2, lat_2))
    half = np.sin((lat_2 - lat_1) / 2) ** 2 + np.cos(lat_1) * np.cos(lat_2) * np.sin((lon_2 - lon_1) / 2) ** 2
    return 2 * _EARTH_M * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def transit_links(passings: Passings, days: np.ndarray, stops: Stops, *, unit_m: float | None, prefix: str) -> Chunk:
    """Links of consecutive stops.

    Args:
        passings: Every stop of every trip.
        days: float64, how often each trip runs in the period: days, times runs a day.
        stops: The stops.
        unit_m: Metres of the feed's shape_dist_traveled; None where it is not known.
        prefix: Goes before every stop id.
    """
    here = np.flatnonzero(passings.goes_on)
    ends = passings.stop[here], passings.stop[here + 1]
    kept = (ends[0] != OUTSIDE) & (ends[1] != OUTSIDE) & (ends[0] != ends[1])
    here = here[kept]
    pairs = pl.DataFrame(
        {
            "from": ends[0][kept],
            "to": ends[1][kept],
            "weight": days[passings.trip[here]],
            "along": (passings.distance[here + 1] - passings.distance[here]).astype(np.float64),
        }
    )
    along = pl.col("along")
    joined = (
        pairs.group_by("from", "to")
        .agg(pl.col("weight").sum(), along.filter(along > 0).mean())
        .sort("from", "to")
        .filter(pl.col("weight") > 0)
    )
    straight = _straight_m(joined, stops)
    if unit_m is None:
        metres = straight
    else:
        travelled = joined["along"].to_numpy() * unit_m
        # A line is never shorter than the straight one, and one ten times as long is a fault of the shape.
        sound = (travelled >= 0.95 * straight) & (travelled <= 10 * straight + 1000)
        metres = np.where(sound | (np.isnan(straight) & (travelled <= _FARTHEST_M)), travelled, straight)
    weight = joined.select(pl.col("weight") / pl.col("weight").sum().over("from")).to_series().to_numpy()
    return _links(joined, stops, "transit", metres=np.round(metres, 1), weight=np.round(weight, 3), prefix=prefix)


def shape_unit_m(feed: GtfsZip) -> float | None:
    """Metres of one unit of ``shape_dist_traveled``: what the first shapes' own points say, or None.

    The standard leaves the unit to the publisher.
    """
    for piece in feed.pieces(_SHAPES):
        if not piece.height:
            continue
        points = piece.select(
            shape=pl.col("shape_id"),
            lon=finite("shape_pt_lon"),
            lat=finite("shape_pt_lat"),
            order=pl.col("shape_pt_sequence").cast(pl.Int64, strict=False),
            dist=finite("shape_dist_traveled"),
        ).drop_nulls()
        points = points.sort("shape", "order")
        if points.height < 2:
            return None
        columns = {name: points[name].to_numpy() for name in ("lon", "lat", "dist")}
        step = np.diff(columns["dist"])
        metres = great_circle_m(columns["lon"][:-1], columns["lat"][:-1], columns["lon"][1:], columns["lat"][1:])
        same = (points["shape"] == points["shape"].shift(1)).fill_null(value=False).to_numpy()[1:]
        usable = same & (step > 0)
        if not usable.any():
            return None
        found = float(metres[usable].sum() / step[usable].sum())
        near = min(_UNITS_M, key=lambda unit: abs(np.log(max(found, 1e-9) / unit)))
        return near if abs(found / near - 1) < _UNIT_SLACK else None
    return None


def transfer_links(feed: GtfsZip, stops: Stops, faults: GtfsFaults, *, prefix: str) -> Iterator[Chunk]:
    """Links of transfers and pathways."""
    kinds = stops.numbers.vstack(_part_numbers(stops))
    found = [pl.DataFrame(schema={"from": pl.UInt32, "to": pl.UInt32, "metres": pl.Float64})]
    found.extend((_transfers(feed, kinds, faults), _pathways(feed, stops, kinds, faults)))
    pairs = pl.concat(found).filter(pl.col("from") != pl.col("to")).group_by("from", "to").agg(pl.col("metres").min())
    pairs = pairs.sort("from", "to")
    if pairs.height:
        straight = _straight_m(pairs, stops)
        metres = np.where(pairs["metres"].is_null().to_numpy(), straight, pairs["metres"].fill_null(0).to_numpy())
        yield _links(pairs, stops, "transfer", metres=np.round(metres, 1), weight=None, prefix=prefix)


def _part_numbers(stops: Stops) -> pl.DataFrame:
    # Entrances and nodes stand for no spot; they are known all the same.
    return stops.parents.select(pl.lit(OUTSIDE, dtype=pl.UInt32).alias("stop"), "stop_id").select(stops.numbers.columns)


def _ends(rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    known = known.unique("stop_id", keep="first")
    for end in ("from", "to"):
        rows = rows.join(
            known.select(pl.col("stop_id").alias(f"{end}_stop_id"), pl.col("stop").alias(end)),
            on=f"{end}_stop_id",
            how="left",
            maintain_order="left",
        )
    return rows


def _transfers(feed: GtfsZip, known: pl.DataFrame, faults: GtfsFaults) -> pl.DataFrame:
    rows = _ends(feed.table(_TRANSFERS), known)
    named = pl.col("from_stop_id").is_not_null() & pl.col("to_stop_id").is_not_null()
    unknown = named & (pl.col("from").is_null() | pl.col("to").is_null())
    sound = faults.sound(_TRANSFERS, rows, (unknown, STOP_UNKNOWN))
    # Types 4 and 5 are about staying in the vehicle and may name trips alone.
    return sound.filter(
        (pl.col("from") != OUTSIDE)
        & (pl.col("to") != OUTSIDE)
        & ~pl.col("transfer_type").is_in(list(_NO_TRANSFER)).fill_null(value=False)
    ).select("from", "to", metres=pl.lit(None, pl.Float64))


def _pathways(feed: GtfsZip, stops: Stops, known: pl.DataFrame, faults: GtfsFaults) -> pl.DataFrame:
    nothing = pl.DataFrame(schema={"from": pl.UInt32, "to": pl.UInt32, "metres": pl.Float64})
    rows = _ends(feed.table(_PATHWAYS), known).with_columns(
        metres=finite("length"),
        seconds=finite("traversal_time"),
    )
    odd = (pl.col("metres").is_null() & pl.col("length").is_not_null()) | (pl.col("metres") < 0)
    rows = faults.sound(
        _PATHWAYS, rows, (pl.col("from").is_null() | pl.col("to").is_null(), STOP_UNKNOWN), (odd, NUMBER_UNREADABLE)
    )
    nodes = pl.concat([rows["from_stop_id"], rows["to_stop_id"].alias("from_stop_id")]).unique().sort()
    if not rows.height or nodes.len() > _MOST_NODES:
        return nothing
    number = dict(zip(nodes.to_list(), range(nodes.len()), strict=True))
    # scipy takes 0 for no way at all.
    length = rows.select(pl.coalesce("metres", pl.col("seconds") * _WALK_M_S, pl.lit(1.0)).clip(lower_bound=0.1))
    ways = np.array([[number[one] for one in rows[end].to_list()] for end in ("from_stop_id", "to_stop_id")])
    both = (rows["is_bidirectional"] == "1").fill_null(value=False).to_numpy()
    cost = length.to_series().to_numpy()
    graph = csr_array(
        (np.r_[cost, cost[both]], (np.r_[ways[0], ways[1][both]], np.r_[ways[1], ways[0][both]])),
        shape=(nodes.len(), nodes.len()),
    )
    spots = nodes.to_frame("stop_id").with_row_index("node").join(stops.places, on="stop_id").sort("node")
    if not spots.height:
        return nothing
    at = spots["node"].to_numpy()
    reach = csgraph.dijkstra(graph, indices=at)[:, at]
    start, end = np.nonzero(np.isfinite(reach))
    numbers = spots["stop"].to_numpy()
    return pl.DataFrame({"from": numbers[start], "to": numbers[end], "metres": reach[start, end]})


def _straight_m(pairs: pl.DataFrame, stops: Stops) -> np.ndarray:
    places = stops.places
    ends = [
        pairs.select(stop=end).join(places, on="stop", how="left", maintain_order="left").select("lon", "lat")
        for end in ("from", "to")
    ]
    (lon_1, lat_1), (lon_2, lat_2) = ((end["lon"].to_numpy(), end["lat"].to_numpy()) for end in ends)
    return great_circle_m(lon_1, lat_1, lon_2, lat_2)


def _links(
    pairs: pl.DataFrame, stops: Stops, kind: str, *, metres: np.ndarray, weight: np.ndarray | None, prefix: str
) -> Chunk:
    ids = pl.lit(prefix) + pl.col("stop_id")
    names = stops.numbers.filter(pl.col("stop") != OUTSIDE).select("stop", ids.alias("spot"))
    ends = {
        f"{end}_spot": pairs.select(stop=end).join(names, on="stop", how="left", maintain_order="left")["spot"]
        for end in ("from", "to")
    }
    columns = {"distance_m": pl.Series(metres, nan_to_null=True)}
    if weight is not None:
        columns["weight"] = pl.Series(weight, nan_to_null=True)
    frame = pl.DataFrame(ends | columns).with_columns(kind=pl.lit(kind), valid_from=pl.lit(SINCE_EVER, dtype=UTC_TIME))
    return Chunk(table="link", frame=frame)
