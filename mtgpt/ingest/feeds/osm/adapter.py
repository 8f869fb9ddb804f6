"""Roads from an OpenStreetMap extract (``.osm.pbf``): the drivable ways, cut at their junctions.

Nodes are kept at 16 bytes each while their ways are read, and ways as plain numbers; everything after that is done over
arrays. How much a file holds is counted first, see :mod:`mtgpt.ingest.feeds.osm.blobs`.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
import polars as pl
import pyproj
import shapely
from osmium import FileProcessor
from osmium.filter import EntityFilter, TagFilter
from osmium.io import File
from osmium.osm import NODE, WAY
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mtgpt.errors import FeedError, SourceRefused
from mtgpt.ingest.adapter import DATA, FAULT, ROW, Chunk, Roles
from mtgpt.ingest.feeds.osm.blobs import survey
from mtgpt.ingest.feeds.osm.tags import DRIVABLE, is_drivable, lanes, max_speed_km_h, oneway, shown
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.marks import PLACE_UNKNOWN, marked
from mtgpt.ingest.rows.places import SINCE_EVER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mtgpt.ingest.adapter import FeedContext, FeedFile

_MOST_BYTES = 512 << 20
_MOST_NODES = 40_000_000
_MOST_WAYS = 8_000_000
_MOST_REFERENCES = 20_000_000
_ROWS = 100_000
# A node that the file does not have lies far beyond 180 degrees.
_PER_DEGREE = 1e7
_NAME, _REF = 500, 200
_FACTS = {
    "kind": pl.String, "name": pl.String, "ref": pl.String, "oneway": pl.String, "lanes": pl.Float64,
    "max_speed_km_h": pl.Float64,
}  # fmt: skip


class OsmOptions(BaseModel):
    """Options of an ``osm`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    classes: tuple[Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")], ...] = Field(
        default=DRIVABLE, min_length=1, max_length=40, description="Values of highway to keep."
    )
    bbox: tuple[float, float, float, float] | None = Field(
        default=None, description="West, south, east, north in degrees: only pieces that touch it."
    )
    private: bool = Field(default=False, description="Keep ways that are closed to motor vehicles, or private.")

    @model_validator(mode="after")
    def _is_a_box(self) -> Self:
        if self.bbox is not None:
            west, south, east, north = self.bbox
            if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
                raise ValueError("bbox as west, south, east, north in degrees")
        return self


class OsmAdapter:
    """Reads ``osm`` sources."""

    kind: str = "osm"
    version: int = 1
    roles: Roles = Roles()
    Options: type[BaseModel] = OsmOptions

    def read(self, files: Mapping[str, FeedFile], options: OsmOptions, context: FeedContext) -> Iterator[Chunk]:
        """Yields pieces of road between junctions, then ways of which the file does not say where they lie.

        Raises:
            FeedError: Not a PBF, cut off, damaged, or no road in it.
            SourceRefused: More nodes or ways than a city has.
        """
        del context
        file = files[DATA]
        if file.size > _MOST_BYTES:
            raise SourceRefused(
                "the map is too large",
                where=file.name,
                got=f"{file.size} bytes",
                expected=f"at most {_MOST_BYTES}",
                next_step="cut it to the city: osmium extract --bbox",
            )
        survey(file.path, file.name, most_nodes=_MOST_NODES, most_ways=_MOST_WAYS)
        ways = _read(file, options)
        if not ways.ids:
            raise FeedError(
                "no road in the map", where=file.name, expected=f"ways with highway={options.classes[0]}, …"
            )
        pieces = _cut(ways)
        lost = np.setdiff1d(np.arange(len(ways.ids)), pieces.way)
        if not len(pieces.way):
            raise FeedError(
                "no road has a place",
                where=file.name,
                got=f"{len(ways.ids)} ways without their nodes",
                expected="nodes before ways",
                next_step="sort it: osmium sort",
            )
        if options.bbox is not None:
            pieces = pieces.touching(options.bbox)
        for first in range(0, len(pieces.way), _ROWS):
            yield Chunk(table="road", frame=_rows(pieces.part(first, first + _ROWS), ways))
        if lost.size:
            yield Chunk(table="road", frame=_lost(lost, ways))


@dataclass(slots=True, kw_only=True)
class _Ways:
    """W ways over R references to nodes.

    Attributes:
        ids: [W].
        fact: [W] what the rows say of each way, as a number.
        facts: What each number stands for: most streets of a city are many ways that say the same.
        start: [W + 1] where each way's references begin.
        node: [R] ids.
        x: [R] degrees east × 10⁷; beyond 180 degrees where the file does not have the node.
        y: [R] degrees north × 10⁷.
    """

    ids: array[int] = field(default_factory=lambda: array("q"))
    fact: array[int] = field(default_factory=lambda: array("i"))
    facts: dict[tuple[Any, ...], int] = field(default_factory=dict)
    start: array[int] = field(default_factory=lambda: array("q", [0]))
    node: array[int] = field(default_factory=lambda: array("q"))
    x: array[int] = field(default_factory=lambda: array("i"))
    y: array[int] = field(default_factory=lambda: array("i"))


def _read(file: FeedFile, options: OsmOptions) -> _Ways:
    ways = _Ways()
    wanted = TagFilter(*(("highway", one) for one in options.classes))
    reader = (
        FileProcessor(File(str(file.path), "pbf"), NODE | WAY)
        .with_locations("sparse_mem_array")
        .with_filter(EntityFilter(WAY))
        .with_filter(wanted)
    )
    try:
        for way in reader:
            tags = {tag.k: tag.v for tag in way.tags}
            if options.private or is_drivable(tags):
                _take(ways, way, tags)
                if len(ways.node) > _MOST_REFERENCES:
                    raise SourceRefused(
                        "the roads are too many", where=file.name, got=f"more than {_MOST_REFERENCES:,} points"
                    )
    except (RuntimeError, ValueError, UnicodeDecodeError, OverflowError) as error:
        raise FeedError("damaged map data", where=file.name, got=str(error)[:200], next_step="pull it again") from None
    return ways


def _take(ways: _Ways, way: Any, tags: dict[str, str]) -> None:
    ways.ids.append(way.id)
    said = (
        tags["highway"], shown(tags.get("name"), _NAME), shown(tags.get("ref"), _REF), oneway(tags), lanes(tags),
        max_speed_km_h(tags),
    )  # fmt: skip
    ways.fact.append(ways.facts.setdefault(said, len(ways.facts)))
    for node in way.nodes:
        ways.node.append(node.ref)
        ways.x.append(node.x)
        ways.y.append(node.y)
    ways.start.append(len(ways.node))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pieces:
    """P pieces over Q points.

    Attributes:
        way: [P] index of the way.
        number: [P] of the piece within its way, from 0.
        first: [P] index of the first point.
        last: [P] index of the last point.
        node: [Q] ids.
        lon: [Q] degrees.
        lat: [Q] degrees.
    """

    way: np.ndarray
    number: np.ndarray
    first: np.ndarray
    last: np.ndarray
    node: np.ndarray
    lon: np.ndarray
    lat: np.ndarray

    def _of(self, chosen: Any) -> _Pieces:
        return _Pieces(
            way=self.way[chosen], number=self.number[chosen], first=self.first[chosen], last=self.last[chosen],
            node=self.node, lon=self.lon, lat=self.lat,
        )  # fmt: skip

    def part(self, start: int, stop: int) -> _Pieces:
        """Some of the pieces."""
        return self._of(slice(start, stop))

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Index of each point of each piece, and of the piece; a junction is in each piece that it ends."""
        length = self.last - self.first + 1
        piece = np.repeat(np.arange(len(length)), length)
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        return self.first[piece] + within, piece

    def touching(self, bbox: tuple[float, float, float, float]) -> _Pieces:
        """The pieces whose own box meets another."""
        at, piece = self.points()
        begins = np.flatnonzero(np.r_[True, np.diff(piece) > 0]) if piece.size else np.empty(0, np.int64)
        low = [np.minimum.reduceat(axis[at], begins) for axis in (self.lon, self.lat)]
        high = [np.maximum.reduceat(axis[at], begins) for axis in (self.lon, self.lat)]
        west, south, east, north = bbox
        return self._of((high[0] >= west) & (low[0] <= east) & (high[1] >= south) & (low[1] <= north))


def _cut(ways: _Ways) -> _Pieces:
    """Cuts ways where another one meets them or they meet themselves, and where the file lacks a node."""
    start = np.frombuffer(ways.start, dtype=np.int64)
    node = np.frombuffer(ways.node, dtype=np.int64)
    x, y = (np.frombuffer(axis, dtype=np.int32) for axis in (ways.x, ways.y))
    way = np.repeat(np.arange(len(start) - 1), np.diff(start))
    known = (np.abs(x.astype(np.int64)) <= 180 * _PER_DEGREE) & (np.abs(y.astype(np.int64)) <= 90 * _PER_DEGREE)
    # The same node twice in a row is no junction but a slip of the mapper.
    same = np.r_[False, (node[1:] == node[:-1]) & (way[1:] == way[:-1])]
    kept = np.flatnonzero(known & ~same)
    gap_before = np.r_[0, np.cumsum(~known)][kept]
    way, node = way[kept], node[kept]
    _, index, uses = np.unique(node, return_inverse=True, return_counts=True)
    begins = np.r_[True, (np.diff(way) != 0) | (np.diff(gap_before) != 0)][: len(way)]
    ends = np.r_[begins[1:], True][: len(way)]
    junction = (uses[index] > 1) | begins | ends
    at = np.flatnonzero(junction)
    # Between two junctions after one another in the same run lies a piece.
    run = np.cumsum(begins)
    joined = run[at[1:]] == run[at[:-1]]
    first, last = at[:-1][joined], at[1:][joined]
    of_way = way[first]
    number = np.arange(len(first)) - np.searchsorted(of_way, of_way)
    return _Pieces(
        way=of_way,
        number=number,
        first=first,
        last=last,
        node=node,
        lon=x[kept] / _PER_DEGREE,
        lat=y[kept] / _PER_DEGREE,
    )


def _rows(pieces: _Pieces, ways: _Ways) -> pl.DataFrame:
    at, piece = pieces.points()
    lon, lat = pieces.lon[at], pieces.lat[at]
    inner = np.flatnonzero(np.diff(piece) == 0)
    steps = pyproj.Geod(ellps="WGS84").inv(lon[inner], lat[inner], lon[inner + 1], lat[inner + 1])[2]
    length = np.bincount(piece[inner], weights=steps, minlength=len(pieces.way))
    lines = shapely.linestrings(np.stack([lon, lat], axis=1), indices=piece)
    ids = np.frombuffer(ways.ids, dtype=np.int64)[pieces.way]
    facts = _facts(pieces.way, ways)
    return facts.with_columns(
        pl.Series(ROW, pieces.way, dtype=pl.UInt64),
        pl.Series("road_id", [f"{way}/{number}" for way, number in zip(ids, pieces.number, strict=True)]),
        pl.Series("from_node", pieces.node[pieces.first].astype(str)),
        pl.Series("to_node", pieces.node[pieces.last].astype(str)),
        pl.Series("length_m", length.round(2)),
        pl.Series("geometry", shapely.to_wkt(lines, rounding_precision=7), dtype=pl.String),
        valid_from=pl.lit(SINCE_EVER, dtype=UTC_TIME),
    )


def _facts(which: np.ndarray, ways: _Ways) -> pl.DataFrame:
    numbers = np.frombuffer(ways.fact, dtype=np.int32)[which]
    return pl.DataFrame(list(ways.facts), schema=_FACTS, orient="row")[numbers]


def _lost(which: np.ndarray, ways: _Ways) -> pl.DataFrame:
    facts = _facts(which, ways)
    ids = pl.Series("road_id", np.frombuffer(ways.ids, dtype=np.int64)[which].astype(str))
    frame = facts.with_columns(
        ids, pl.Series(ROW, which, dtype=pl.UInt64), pl.lit(PLACE_UNKNOWN).alias(FAULT),
        valid_from=pl.lit(SINCE_EVER, dtype=UTC_TIME),
    )  # fmt: skip
    return marked(frame, frame.select("road_id", "kind", "name"))
