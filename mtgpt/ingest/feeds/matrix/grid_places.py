"""Names and positions of a grid's places, from lists beside it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mtgpt.errors import FeedError
from mtgpt.ingest.guard.archive import open_guarded
from mtgpt.ingest.guard.text import cells, utf8
from mtgpt.ingest.rows.places import to_wgs84

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mtgpt.ingest.adapter import FeedFile

_ID = ("sensor_id", "station_id", "spot_id", "stop_id", "node_id", "id", "sensor", "fid", "index")
_LAT = ("latitude", "lat", "y", "northing")
_LON = ("longitude", "lon", "lng", "long", "x", "easting")
_NAME = ("name", "station_name", "stop_name")
# What the contract's 65,536 characters hold, however much of it JSON escapes.
_MOST_ATTRIBUTES, _LONGEST_KEY, _LONGEST_VALUE = 20, 64, 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """N places: degrees WGS 84, not a number where unknown, and further facts as their list has them."""

    ids: list[str]
    lon: np.ndarray | None = None
    lat: np.ndarray | None = None
    name: list[str | None] | None = None
    attributes: list[dict[str, str] | None] | None = None

    def at(self, ids: Sequence[str]) -> Places:
        """The places of those ids in that order; unknown ones without position."""
        index = {one: at for at, one in enumerate(self.ids)}
        where = np.array([index.get(one, -1) for one in ids])

        def taken(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else np.where(where >= 0, values[where], np.nan)

        def found(values: list[Any] | None) -> list[Any] | None:
            return None if values is None else [values[at] if at >= 0 else None for at in where]

        return Places(
            ids=list(ids),
            lon=taken(self.lon),
            lat=taken(self.lat),
            name=found(self.name),
            attributes=found(self.attributes),
        )

    def prefixed(self, ids: Sequence[str], prefix: str) -> Places:
        """The same places, called by ``ids`` with a prefix."""
        return replace(self, ids=[f"{prefix}{one}" for one in ids])


def read_ids(file: FeedFile) -> list[str]:
    """Ids separated by commas, spaces or line ends.

    Raises:
        FeedError: There are none.
    """
    with open_guarded(file.path, file.name) as stream:
        text = utf8(stream.read(), where=file.name)
    ids = text.replace(",", " ").split()
    if not ids:
        raise FeedError("the list of ids is empty", where=file.name)
    return ids


def read_locations(file: FeedFile, *, crs: str) -> Places:
    """A csv of id, latitude, longitude in any order with a header, or in that order without.

    Further named columns become attributes: at most 20, their names in lower case with ``_`` for what is no letter or
    digit, their texts cut after 400 characters; what is empty is left out.

    Raises:
        FeedError: Columns are missing, or a coordinate is no number.
    """
    with open_guarded(file.path, file.name) as stream:
        rows = cells(stream.read(), where=file.name)
    header = [cell.strip().lower() for cell in rows[0]]
    columns = {
        fact: _found(header, names) for fact, names in (("id", _ID), ("lat", _LAT), ("lon", _LON), ("name", _NAME))
    }
    if columns["lat"] is None and columns["lon"] is None and len(header) == 3:
        columns, body = {"id": 0, "lat": 1, "lon": 2, "name": None}, rows
    else:
        body = rows[1:]
    missing = [fact for fact in ("id", "lat", "lon") if columns[fact] is None]
    if missing:
        raise FeedError("columns are missing", where=file.name, got=", ".join(header), expected=", ".join(missing))
    try:
        picked = {fact: [row[at].strip() for row in body] for fact, at in columns.items() if at is not None}
        x, y = (np.array([float(text) for text in picked[axis]]) for axis in ("lon", "lat"))
    except (IndexError, ValueError) as error:
        raise FeedError(
            "a place without position",
            where=file.name,
            got=str(error),
            expected="id, latitude and longitude in every line",
        ) from None
    lon, lat = to_wgs84(x, y, crs, where=file.name)
    return Places(
        ids=picked["id"],
        lon=lon,
        lat=lat,
        name=list(picked["name"]) if "name" in picked else None,
        attributes=None if body is rows else _attributes(header, body, taken=set(columns.values())),
    )


def _attributes(
    header: list[str], body: list[list[str]], *, taken: set[int | None]
) -> list[dict[str, str] | None] | None:
    keys: dict[str, int] = {}
    for at, text in enumerate(header):
        key = re.sub(r"\W+", "_", text).strip("_")[:_LONGEST_KEY]
        if at not in taken and key and len(keys) < _MOST_ATTRIBUTES:
            # Of two columns of one name the first has it; the other says where it stood.
            keys[key if key not in keys else f"{key}_{at + 1}"] = at
    if not keys:
        return None
    facts = (
        {key: text for key, at in keys.items() if at < len(row) and (text := _cut(row[at].strip()))} for row in body
    )
    return [one or None for one in facts]


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _found(header: list[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)
