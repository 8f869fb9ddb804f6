"""Rows of the tables spot and link, as adapters make them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import pyproj
from pyproj.exceptions import CRSError

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import Chunk
from mtgpt.ingest.rows.localtime import UTC_TIME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal["detector", "stop", "station", "dock", "zone", "charger", "approach", "cell"]
Mode = Literal["road", "metro", "rail", "bus", "bike", "taxi", "ev", "pedestrian"]
LinkKind = Literal["road", "transit", "transfer", "walk", "proximity"]

SINCE_EVER = datetime(1970, 1, 1, tzinfo=UTC)
"""``valid_from`` where the feed does not say."""

WGS84 = "EPSG:4326"


def spots(
    ids: Sequence[str] | pl.Series,
    *,
    kind: Kind,
    mode: Mode,
    lon: Any = None,
    lat: Any = None,
    name: Any = None,
    capacity: Any = None,
    attributes: Sequence[Mapping[str, Any] | None] | None = None,
) -> Chunk:
    """A chunk of the table spot.

    Args:
        ids: [n] spot ids.
        kind: What they are.
        mode: What they serve.
        lon: [n] degrees WGS 84, or None; not a number where unknown.
        lat: As ``lon``. A place at exactly 0 / 0 is a feed's way to say unknown and becomes null.
        name: [n] names for people, or None.
        capacity: [n] how many fit at once, or None.
        attributes: [n] further facts, or None.
    """
    columns: dict[str, Any] = {"spot_id": ids}
    given = {"name": name, "lon": lon, "lat": lat, "capacity": capacity}
    columns |= {key: values for key, values in given.items() if values is not None}
    if attributes is not None:
        columns["attributes"] = [
            json.dumps(one, ensure_ascii=False, sort_keys=True) if one else None for one in attributes
        ]
    frame = pl.DataFrame(columns).with_columns(
        pl.col("spot_id").cast(pl.String),
        kind=pl.lit(kind),
        mode=pl.lit(mode),
        valid_from=pl.lit(SINCE_EVER, dtype=UTC_TIME),
    )
    if {"lon", "lat"} <= columns.keys():
        place = [pl.col("lon").cast(pl.Float64), pl.col("lat").cast(pl.Float64)]
        known = place[0].is_finite() & place[1].is_finite() & ((place[0] != 0) | (place[1] != 0))
        frame = frame.with_columns(pl.when(known).then(column).alias(column.meta.output_name()) for column in place)
    return Chunk(table="spot", frame=frame)


def links(
    from_spot: Sequence[str] | pl.Series,
    to_spot: Sequence[str] | pl.Series,
    *,
    kind: LinkKind,
    distance_m: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> Chunk:
    """A chunk of the table link.

    Args:
        from_spot: [n] spot ids.
        to_spot: [n] spot ids.
        kind: What relates them.
        distance_m: [n] metres, or None; not a number where unknown.
        weight: [n] strength, or None; not a number where unknown.
    """
    columns: dict[str, Any] = {"from_spot": from_spot, "to_spot": to_spot}
    for key, values in (("distance_m", distance_m), ("weight", weight)):
        if values is not None:
            columns[key] = pl.Series(np.asarray(values, dtype=np.float64), nan_to_null=True)
    frame = pl.DataFrame(columns).with_columns(kind=pl.lit(kind), valid_from=pl.lit(SINCE_EVER, dtype=UTC_TIME))
    return Chunk(table="link", frame=frame)


def to_wgs84(x: np.ndarray, y: np.ndarray, crs: str, *, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of a reference system as longitude and latitude.

    Args:
        x: [n] easting or longitude.
        y: [n] northing or latitude.
        crs: Reference system, such as ``EPSG:32721``.
        where: What to name in an error.

    Raises:
        FeedError: The reference system is unknown.
    """
    if crs == WGS84:
        return x, y
    try:
        transformer = pyproj.Transformer.from_crs(crs, WGS84, always_xy=True)
    except CRSError:
        raise FeedError(
            "unknown reference system", where=where, got=crs, expected="a code such as EPSG:32721"
        ) from None
    lon, lat = transformer.transform(x, y)
    return np.asarray(lon), np.asarray(lat)


def nearest_in(distance: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each row's nearest columns in a square matrix of distances; itself and what is not finite left out.

    Returns:
        From-index, to-index, distance: each at most [n × count].
    """
    ranked = np.where(np.isfinite(distance), distance, np.inf).astype(np.float64)
    np.fill_diagonal(ranked, np.inf)
    count = min(count, len(ranked) - 1)
    if count <= 0:
        none = np.empty(0, dtype=np.intp)
        return none, none, np.empty(0)
    nearest = np.argsort(ranked, axis=1, kind="stable")[:, :count]
    origin = np.repeat(np.arange(len(ranked)), count)
    target = nearest.ravel()
    found = np.isfinite(ranked[origin, target])
    return origin[found], target[found], ranked[origin[found], target[found]]
