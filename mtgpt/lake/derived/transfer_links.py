"""Where travellers change modes: ``transfer`` links between docks, chargers, stations and stops near each other.

No feed of one department says that a dock of another stands at its station; the places do. They are linked again, as a
whole, where a batch brought places since, and only then.
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
import pyproj
from scipy.spatial import KDTree

from mtgpt.ingest.adapter import FeedFile
from mtgpt.ingest.rows.places import links
from mtgpt.lake.batch import Batch
from mtgpt.lake.disk import refusals
from mtgpt.lake.landing import Landing, land
from mtgpt.lake.reading import Judged
from mtgpt.lake.staging import Staging, workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from mtgpt.lake.batch import BatchResult
    from mtgpt.lake.lake import Lake

KIND = "transfer_links"
VERSION = 1
SOURCE = "derived:transfer"
NEAREST = 3
"""Places of other modes that a place is linked to, at most; links run both ways, so a station may have more."""
_SPOT, _LINK, _TRANSFER = "spot", "link", "transfer"
# A detector or a zone is no place where somebody changes from one mode to another.
_KINDS = ("dock", "charger", "station", "stop")


def derive_transfer_links(
    lake: Lake, city_id: str, *, within_m: float, progress: Callable[[str], None] | None = None
) -> list[BatchResult]:
    """Links a city's places of different modes, where places or the distance changed since the last time.

    Args:
        lake: Holds the places; the links go there too, with source ``derived:transfer``.
        city_id: City.
        within_m: How far apart two linked places may be, metres; 0 takes earlier links away.
        progress: Called with what is going on.

    Returns:
        One result where links were derived; empty where nothing changed.

    Raises:
        LakeError: The lake cannot be read or written.
    """
    facts, previous, done = _books(lake, city_id, within_m)
    if facts is None or facts == done:
        return []
    started = time.monotonic()
    with refusals(_SPOT):
        spots = places(lake.scan(_SPOT, city_id=city_id))
    found = near(spots, within_m=within_m)
    if not found.height and previous is None:
        return []
    if progress is not None:
        progress(f"linking {spots.height:,} places of {spots['mode'].n_unique()} modes")
    batch = _batch(city_id, facts, spots.height, previous=previous)
    with refusals(_LINK):
        stated = (
            lake.scan(_LINK, city_id=city_id)
            .filter((pl.col("kind") == _TRANSFER) & (pl.col("source_id") != SOURCE).fill_null(value=True))
            .select("from_spot", "to_spot")
            .collect()
        )
    # What a feed says of a transfer is better than what the crow flies.
    found = found.join(stated, on=["from_spot", "to_spot"], how="anti")
    with workspace(lake.staging) as folder:
        judged = Judged(staged=Staging(folder=folder))
        chunk = links(found["from_spot"], found["to_spot"], kind=_TRANSFER, distance_m=found["distance_m"].to_numpy())
        judged.take(chunk, batch, lake)
        judged.finish(lake)
        gone = f"city_id = '{city_id}' AND source_id = '{SOURCE}'"
        result = land(batch, judged, lake, landing=Landing(replace={_LINK: gone}))
    return [replace(result, seconds=time.monotonic() - started)]


def places(spot: pl.LazyFrame) -> pl.DataFrame:
    """Places where travellers change modes, as they are now.

    Args:
        spot: Rows of the table of one city.

    Returns:
        spot_id, mode, lon, lat; one row per place that has a position, in the order of their ids.
    """
    newest = spot.sort("valid_from").group_by("spot_id").last()
    placed = pl.col("lon").is_finite() & pl.col("lat").is_finite()
    wanted = newest.filter(pl.col("kind").is_in(_KINDS) & placed & pl.col("valid_to").is_null())
    return wanted.select("spot_id", "mode", "lon", "lat").sort("spot_id").collect()


def near(spots: pl.DataFrame, *, within_m: float, nearest: int = NEAREST) -> pl.DataFrame:
    """Each place's nearest places of other modes, and the way back.

    Args:
        spots: spot_id, mode, lon, lat (degrees).
        within_m: Greatest distance; 0 for none.
        nearest: How many each place looks for.

    Returns:
        from_spot, to_spot, distance_m (as the crow flies), sorted.
    """
    schema = pl.Schema({"from_spot": pl.String(), "to_spot": pl.String(), "distance_m": pl.Float64()})
    mode = spots["mode"].to_numpy()
    if within_m <= 0 or spots["mode"].n_unique() < 2:
        return schema.to_frame()
    # Metres from the centre of the earth: a city of any size, anywhere, without a zone of its own.
    onto = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    lon, lat = spots["lon"].to_numpy(), spots["lat"].to_numpy()
    point = np.stack(onto.transform(lon, lat, np.zeros(len(lon))), axis=1)
    origin: list[np.ndarray] = [np.empty(0, np.intp)]
    target: list[np.ndarray] = [np.empty(0, np.intp)]
    reach: list[np.ndarray] = [np.empty(0)]
    for name in sorted(set(mode)):
        own, other = np.flatnonzero(mode == name), np.flatnonzero(mode != name)
        count = min(nearest, other.size)
        answer = KDTree(point[other]).query(point[own], k=count, distance_upper_bound=within_m)
        # A single neighbour comes without an axis of its own.
        distance, found = (np.asarray(part).reshape(own.size, count) for part in answer)
        there = np.isfinite(distance)
        origin.append(np.repeat(own, there.sum(axis=1)))
        target.append(other[found[there]])
        reach.append(distance[there])
    ids = spots["spot_id"].to_numpy()
    one, two, metres = ids[np.concatenate(origin)], ids[np.concatenate(target)], np.concatenate(reach)
    pairs = pl.DataFrame(
        {
            "from_spot": np.concatenate([one, two]),
            "to_spot": np.concatenate([two, one]),
            "distance_m": np.round(np.concatenate([metres, metres]), 1),
        },
        schema=schema,
    )
    return pairs.unique(["from_spot", "to_spot"]).sort("from_spot", "to_spot")


def _books(lake: Lake, city_id: str, within_m: float) -> tuple[dict[str, Any] | None, str | None, dict[str, Any]]:
    """What the links would be derived from now (None: nothing), the last derived batch, and what that one was from."""
    previous, done = None, {}
    landed: list[str] = []
    for row in lake.ledger(city_id).iter_rows(named=True):
        if row["kind"] == KIND:
            previous = row["batch_id"]
            done = {name: json.loads(row["files"])[0][name] for name in ("spots", "within_m", "nearest", "derivation")}
            continue
        brought = json.loads(row["tables"]).get(_SPOT)
        if row["status"] != "held" and brought is not None and brought["version"] is not None:
            landed.append(row["batch_id"])
    if not landed:
        return None, previous, done
    # Not the table's version: it counts other cities' commits too, and those come in any order.
    spots = hashlib.sha256(" ".join(sorted(landed)).encode()).hexdigest()
    return {"spots": spots, "within_m": within_m, "nearest": NEAREST, "derivation": VERSION}, previous, done


def _batch(city_id: str, facts: dict[str, Any], count: int, *, previous: str | None) -> Batch:
    # The one before is part of the name: going back to an earlier distance is a new batch.
    text = json.dumps([KIND, city_id, facts, previous], sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()
    within = f"places within {facts['within_m']:g} m"
    file = FeedFile(role=_SPOT, path=Path(name), name=within, sha256=name, size=count)
    return Batch(
        batch_id=name,
        city_id=city_id,
        source_id=SOURCE,
        kind=KIND,
        adapter_version=VERSION,
        received_at=datetime.now(UTC),
        files=(file,),
        facts={_SPOT: facts},
    )
