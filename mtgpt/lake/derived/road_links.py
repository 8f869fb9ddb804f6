"""``road`` links: which detectors, approaches and bus stops follow each other along the streets, and how far apart.

Places are put onto the city's road network and joined to their nearest along it. They are linked again, as a whole,
where roads or places changed since the last time, and only then.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import shapely

from mtgpt.ingest.adapter import FeedFile
from mtgpt.ingest.rows.places import links
from mtgpt.lake.batch import Batch
from mtgpt.lake.derived.road_net import Roads, flat, heading_deg, nearest_along, snap
from mtgpt.lake.disk import refusals
from mtgpt.lake.landing import Landing, land
from mtgpt.lake.reading import Judged
from mtgpt.lake.staging import Staging, workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from mtgpt.lake.batch import BatchResult
    from mtgpt.lake.lake import Lake

KIND = "road_links"
VERSION = 1
SOURCE = "derived:road"
CUTOFF_M = 3000.0
"""Longest way between two linked places."""
NEAREST = 8
"""Places that a place is linked to, at most."""
WITHIN_M = 50.0
"""Places farther from every road are on none."""
_SPOT, _LINK, _ROAD = "spot", "link", "road"
_KINDS = ("detector", "approach", "stop")
_MODES = ("road", "bus")
_LEAST_PLACES = 2
_LINE = 1


def derive_road_links(lake: Lake, city_id: str, *, progress: Callable[[str], None] | None = None) -> list[BatchResult]:
    """Links a city's places along its roads, where roads or places changed since the last time.

    Args:
        lake: Holds roads and places; the links go there too, with source ``derived:road``.
        city_id: City.
        progress: Called with what is going on.

    Returns:
        One result where links were derived; empty where nothing changed, or the city has no roads.

    Raises:
        LakeError: The lake cannot be read or written.
    """
    version, previous, done = _books(lake, city_id)
    if version is None:
        return []
    started = time.monotonic()
    with refusals(_SPOT):
        spots = places(lake.scan(_SPOT, city_id=city_id))
    facts = {"roads": version, "places": _digest(spots), "derivation": VERSION}
    if facts == done or (spots.height < _LEAST_PLACES and previous is None):
        return []
    if progress is not None:
        progress(f"linking {spots.height:,} places along the roads")
    with refusals(_ROAD):
        roads = newest_roads(lake.scan(_ROAD, city_id=city_id))
    found = along_roads(spots, roads)
    with refusals(_LINK):
        stated = (
            lake.scan(_LINK, city_id=city_id)
            .filter((pl.col("kind") == _ROAD) & (pl.col("source_id") != SOURCE).fill_null(value=True))
            .select("from_spot", "to_spot")
            .collect()
        )
    # What a feed says of two detectors is better than what the map says.
    found = found.join(stated, on=["from_spot", "to_spot"], how="anti")
    batch = _batch(city_id, facts, spots.height, previous=previous)
    with workspace(lake.staging) as folder:
        judged = Judged(staged=Staging(folder=folder))
        chunk = links(found["from_spot"], found["to_spot"], kind="road", distance_m=found["distance_m"].to_numpy())
        judged.take(chunk, batch, lake)
        judged.finish(lake)
        gone = f"city_id = '{city_id}' AND source_id = '{SOURCE}'"
        result = land(batch, judged, lake, landing=Landing(replace={_LINK: gone}))
    return [replace(result, seconds=time.monotonic() - started)]


def places(spot: pl.LazyFrame) -> pl.DataFrame:
    """Places on roads, as they are now.

    Args:
        spot: Rows of the table of one city.

    Returns:
        spot_id, lon, lat, attributes; one row per place that has a position, in the order of their ids.
    """
    newest = spot.sort("valid_from").group_by("spot_id").last()
    placed = pl.col("lon").is_finite() & pl.col("lat").is_finite()
    wanted = pl.col("kind").is_in(_KINDS) & pl.col("mode").is_in(_MODES) & pl.col("valid_to").is_null()
    return newest.filter(wanted & placed).select("spot_id", "lon", "lat", "attributes").sort("spot_id").collect()


def newest_roads(road: pl.LazyFrame) -> pl.DataFrame:
    """Pieces of road as they are now: from_node, to_node, length_m, oneway, geometry."""
    key = ["source_id", "road_id"]
    wanted = ["from_node", "to_node", "length_m", "oneway", "geometry"]
    return road.sort("valid_from").group_by(key, maintain_order=True).last().select(wanted).collect()


def along_roads(
    spots: pl.DataFrame,
    roads: pl.DataFrame,
    *,
    within_m: float = WITHIN_M,
    cutoff_m: float = CUTOFF_M,
    nearest: int = NEAREST,
) -> pl.DataFrame:
    """Each place's nearest places along the roads, one-way streets respected.

    Args:
        spots: spot_id, lon, lat, attributes (JSON whose ``direction`` tells the carriageway).
        roads: from_node, to_node, length_m, oneway, geometry (WKT).
        within_m: Places farther from every road are on none.
        cutoff_m: Longest way.
        nearest: How many each place is linked to.

    Returns:
        from_spot, to_spot, distance_m (along the road), sorted.
    """
    schema = pl.Schema({"from_spot": pl.String(), "to_spot": pl.String(), "distance_m": pl.Float64()})
    if spots.height < _LEAST_PLACES or not roads.height:
        return schema.to_frame()
    centre = (float(np.median(spots["lon"].to_numpy())), float(np.median(spots["lat"].to_numpy())))
    network = _network(roads, centre)
    point = flat(spots["lon"].to_numpy(), spots["lat"].to_numpy(), centre=centre)
    heading = np.array([_heading(text) for text in spots["attributes"]])
    on = snap(
        point[:, 0], point[:, 1], network.lines, within_m=within_m, heading=heading, oneway=network.oneway.tolist()
    )
    start, end, metres = nearest_along(network, on, cutoff_m=cutoff_m, nearest=nearest)
    ids = spots["spot_id"].to_numpy()
    found = {"from_spot": ids[start], "to_spot": ids[end], "distance_m": np.round(metres, 1)}
    return pl.DataFrame(found, schema=schema).sort("from_spot", "distance_m", "to_spot")


def _network(roads: pl.DataFrame, centre: tuple[float, float]) -> Roads:
    lines = shapely.from_wkt(roads["geometry"].to_numpy(), on_invalid="ignore")
    sound = shapely.get_type_id(lines) == _LINE
    degrees = shapely.get_coordinates(lines[sound])
    lines[sound] = shapely.set_coordinates(lines[sound], flat(degrees[:, 0], degrees[:, 1], centre=centre))
    # A point on the other side of the earth has no place on this plane.
    sound &= np.isfinite(shapely.bounds(lines)).all(axis=1)
    roads, lines = roads.filter(pl.Series(sound)), lines[sound]
    nodes = pl.concat([roads["from_node"], roads["to_node"]]).rank("dense").to_numpy() - 1
    return Roads(
        lines=lines,
        from_node=nodes[: roads.height].astype(np.int64),
        to_node=nodes[roads.height :].astype(np.int64),
        length_m=roads["length_m"].to_numpy(),
        oneway=roads["oneway"].to_numpy().astype(str),
    )


def _heading(attributes: str | None) -> float:
    try:
        facts = json.loads(attributes) if attributes else {}
    except ValueError:
        facts = {}
    return heading_deg(facts.get("direction")) if isinstance(facts, dict) else float("nan")


def _digest(spots: pl.DataFrame) -> str:
    return hashlib.sha256(spots.write_json().encode()).hexdigest()


def _books(lake: Lake, city_id: str) -> tuple[int | None, str | None, dict[str, Any]]:
    """Version of the roads that landed last (None: there are none), the last derived batch, what that was from."""
    version, previous, done = None, None, {}
    for row in lake.ledger(city_id).iter_rows(named=True):
        if row["kind"] == KIND:
            previous = row["batch_id"]
            done = {name: json.loads(row["files"])[0][name] for name in ("roads", "places", "derivation")}
            continue
        brought = json.loads(row["tables"]).get(_ROAD)
        if row["status"] != "held" and brought is not None and brought["version"] is not None:
            version = max(version or 0, brought["version"])
    return version, previous, done


def _batch(city_id: str, facts: dict[str, Any], count: int, *, previous: str | None) -> Batch:
    # The one before is part of the name: going back to earlier places is a new batch.
    text = json.dumps([KIND, city_id, facts, previous], sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()
    file = FeedFile(
        role=_ROAD, path=Path(name), name=f"places within {WITHIN_M:g} m of a road", sha256=name, size=count
    )
    return Batch(
        batch_id=name,
        city_id=city_id,
        source_id=SOURCE,
        kind=KIND,
        adapter_version=VERSION,
        received_at=datetime.now(UTC),
        files=(file,),
        facts={_ROAD: facts},
    )
