"""Grids of time × place: the form in which most research sets are published.

One adapter and a dozen options read METR-LA, PEMS-BAY, PEMS03/04/07/08, PeMSD7(M), LargeST, LOS-loop, metro and bus
counts: what differs between them is written in a city's manifest, not in code.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mtgpt.errors import FeedError
from mtgpt.ingest.adapter import DATA, Chunk, Roles
from mtgpt.ingest.feeds.matrix.grid_clock import ClockOptions, counted_clock, read_clock
from mtgpt.ingest.feeds.matrix.grid_file import Grid, read_array, read_csv_grid, read_h5, suffix
from mtgpt.ingest.feeds.matrix.grid_links import nearest_links, read_pairs, weighted_links
from mtgpt.ingest.feeds.matrix.grid_nodes import NodeLinkOptions, read_node_link
from mtgpt.ingest.feeds.matrix.grid_places import Places, read_ids, read_locations
from mtgpt.ingest.feeds.matrix.long_rows import LongRows
from mtgpt.ingest.rows.places import WGS84, Kind, LinkKind, Mode, spots
from mtgpt.ingest.rows.units import between, to_variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mtgpt.ingest.adapter import FeedContext, FeedFile
    from mtgpt.ingest.feeds.matrix.grid_links import Pairs
    from mtgpt.ingest.feeds.matrix.long_rows import Clock

ADJACENCY, DISTANCES, LOCATIONS, IDS = "adjacency", "distances", "locations", "ids"
_NEAREST = 5
_LINKS: Mapping[str, LinkKind] = {"road": "road", "metro": "transit", "rail": "transit", "bus": "transit"}


class MatrixOptions(ClockOptions):
    """Options of a ``matrix`` source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    variable: str | tuple[str | None, ...] = Field(
        description="What the numbers are; for time × place × channel a list, null for a channel to leave out."
    )
    unit: str | dict[str, str] | None = Field(
        default=None,
        description="Unit of the numbers (mph, %, veh/interval, …), or by variable; the variable's own if absent.",
    )
    mode: Mode = Field(description="Mode of transport of the places.")
    kind: Kind = Field(description="What the places are.")
    key: str | None = Field(default=None, description="Array of an npz, object of an h5.")
    transpose: bool = Field(default=False, description="The file has a line per place, not per step.")
    windows: bool = Field(
        default=False,
        description="The file has overlapping windows (window, step, place, channel): take each one's first step.",
    )
    header: bool = Field(default=True, description="The first line of a csv names the places.")
    time: str | None = Field(
        default=None, description="Column of a csv with the times; '' for a column without a name."
    )
    missing: tuple[float, ...] = Field(default=(), description="Numbers that mean: not measured (0 in METR-LA).")
    spots: bool = Field(
        default=True, description="Give spots and links too; false where another source of the city does."
    )
    ids: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] | None = Field(
        default=None, min_length=1, description="Ids of the places in the file's order, if it has none worth keeping."
    )
    spot_prefix: str = Field(default="", max_length=32, description="Put before every spot id.")
    crs: str = Field(default=WGS84, description="Reference system of the locations, such as EPSG:32721.")
    nodes: NodeLinkOptions | None = Field(default=None, description="For a node-link JSON: which keys hold what.")
    link: LinkKind | None = Field(default=None, description="What relates linked places; by mode if absent.")
    min_weight: float = Field(default=0.0, ge=0, description="Weights of the adjacency at or below it are no link.")
    most_links: int | None = Field(default=None, ge=1, description="Keep only each place's heaviest links.")
    nearest: int | None = Field(
        default=None,
        ge=0,
        description="Link each place to so many nearest by the distances; 5 if there is no adjacency, else 0.",
    )
    distance_unit: str = Field(default="m", description="Unit of the distances: m, km, mile, ft.")

    @model_validator(mode="after")
    def _matches(self) -> Self:
        if self.time is not None and self.start is not None:
            raise ValueError("either start or time, not both")
        return self

    @property
    def variables(self) -> tuple[str | None, ...]:
        """One per channel."""
        return (self.variable,) if isinstance(self.variable, str) else self.variable

    @property
    def link_kind(self) -> LinkKind:
        """``link``, or what suits the mode."""
        return self.link or _LINKS.get(self.mode, "proximity")


class MatrixAdapter:
    """Reads ``matrix`` sources."""

    kind: str = "matrix"
    version: int = 2
    roles: Roles = Roles(optional=frozenset({ADJACENCY, DISTANCES, LOCATIONS, IDS}))
    Options: type[BaseModel] = MatrixOptions

    def read(self, files: Mapping[str, FeedFile], options: MatrixOptions, context: FeedContext) -> Iterator[Chunk]:
        """Yields spots, links, then observations in order of time.

        Raises:
            FeedError: Files that do not fit each other or the options; the sizes that differ are named.
        """
        file = files[DATA]
        grid, places, inner_links = _read(file, options)
        values = _channels(grid.values, options, file.name)
        places = _named(grid, places, files, width=values.shape[1], options=options)
        clock = _clock(grid, values.shape[0], options, context, file.name)
        if options.spots:
            yield spots(
                places.ids,
                kind=options.kind,
                mode=options.mode,
                lon=places.lon,
                lat=places.lat,
                name=places.name,
                attributes=places.attributes,
            )
            yield from _links(files, places.ids, inner_links, options)
        rows = LongRows(places.ids)
        for channel, variable in enumerate(options.variables):
            if variable is not None:
                yield from rows.chunks(
                    _Channel(values, channel, file.name),
                    clock,
                    variable=variable,
                    conversion=to_variable(
                        variable, _unit(options, variable), interval_s=options.interval_s, where=file.name
                    ),
                    missing=options.missing,
                    unreadable=grid.unreadable if channel == 0 else (),
                )


class _Channel:
    """One channel of [T, N, C], sliced along time only when asked, so that a large file may stay on disk."""

    def __init__(self, values: Any, channel: int, where: str) -> None:
        self._values = values
        self._channel = channel
        self._where = where

    def __getitem__(self, steps: slice) -> np.ndarray:
        try:
            block = self._values[steps]
        except OSError as error:
            # A damaged block inside an HDF5 file shows only when it is read.
            raise FeedError("the values are damaged", where=self._where, got=str(error)) from None
        return block if block.ndim == 2 else block[..., self._channel]


def _unit(options: MatrixOptions, variable: str) -> str | None:
    return options.unit.get(variable) if isinstance(options.unit, dict) else options.unit


def _read(file: FeedFile, options: MatrixOptions) -> tuple[Grid, Places | None, Pairs | None]:
    kind = suffix(file.name)
    if kind == ".json":
        if options.nodes is None:
            raise FeedError("a JSON needs the option nodes", where=file.name, expected="which keys hold id and values")
        return read_node_link(file, options.nodes, crs=options.crs)
    if kind in {".npz", ".npy"}:
        return Grid(values=read_array(file, options.key)), None, None
    if kind in {".h5", ".hdf5", ".hdf"}:
        return read_h5(file, options.key), None, None
    header = options.header and not options.transpose
    grid = read_csv_grid(file, header=header, time=() if options.time is None else (options.time,))
    if options.transpose:
        grid = replace(grid, unreadable=tuple(cell.transposed() for cell in grid.unreadable))
    return grid, None, None


def _channels(values: Any, options: MatrixOptions, where: str) -> Any:
    """[T, N] or [T, N, C] with C = number of variables."""
    if options.windows:
        if len(values.shape) != 4:
            raise FeedError(
                "no windows", where=where, got=f"{len(values.shape)} axes", expected="window, step, place, channel"
            )
        values = values[:, 0]
    if options.transpose:
        values = np.swapaxes(values[:], 0, 1)
    shape = values.shape
    count = len(options.variables)
    if len(shape) not in {2, 3} or 0 in shape:
        raise FeedError("not a grid of time × place", where=where, got=" × ".join(map(str, shape)))
    channels = shape[2] if len(shape) == 3 else 1
    if channels != count:
        raise FeedError(
            "channels and variables differ in number",
            where=where,
            got=f"{channels} channels",
            expected=f"{count} variables",
            next_step="list a variable per channel in the option variable, null to leave one out",
        )
    return values


def _named(
    grid: Grid, places: Places | None, files: Mapping[str, FeedFile], *, width: int, options: MatrixOptions
) -> Places:
    """Ids and positions of the places: from a list of ids, else the file itself, else the locations, else counted."""
    where = files[DATA].name
    located = read_locations(files[LOCATIONS], crs=options.crs) if LOCATIONS in files else None
    sources = _lists(grid, places, files, located, options)
    for name, ids in sources:
        if len(ids) != width:
            raise FeedError(
                f"the matrix and the list of places in {name} differ in width",
                where=where,
                got=f"{width} columns",
                expected=f"{len(ids)} ids",
            )
    ids = list(sources[0][1]) if sources else [str(at) for at in range(width)]
    if len(set(ids)) != len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise FeedError("a place stands twice", where=where, got=twice)
    named = places if places is not None else Places(ids=ids)
    if located is not None:
        if set(located.ids).isdisjoint(ids):
            raise FeedError(
                "none of its places is in the matrix",
                where=files[LOCATIONS].name,
                got=", ".join(located.ids[:3]),
                expected=", ".join(ids[:3]),
            )
        named = located.at(ids)
    return named.prefixed(ids, options.spot_prefix)


def _lists(
    grid: Grid, places: Places | None, files: Mapping[str, FeedFile], located: Places | None, options: MatrixOptions
) -> list[tuple[str, Sequence[str]]]:
    """Every list of ids that there is, with the name of where it stands; the first one counts."""
    where = files[DATA].name
    sources: list[tuple[str, Sequence[str]]] = []
    if options.ids is not None:
        sources.append(("the option ids", options.ids))
    if IDS in files:
        sources.append((files[IDS].name, read_ids(files[IDS])))
    if grid.ids is not None:
        sources.append((where, grid.ids))
    if places is not None:
        sources.append((where, places.ids))
    if not sources and located is not None:
        sources.append((files[LOCATIONS].name, located.ids))
    return sources


def _clock(grid: Grid, count: int, options: MatrixOptions, context: FeedContext, where: str) -> Clock:
    if options.start is None and grid.times is not None:
        if options.transpose or len(grid.times) != count:
            raise FeedError(
                "times and steps differ in number",
                where=where,
                got=f"{count} steps",
                expected=f"{len(grid.times)} times",
            )
        return read_clock(grid.times, options, zone=context.time_zone, where=where)
    return counted_clock(count, options, zone=context.time_zone, where=where)


def _links(
    files: Mapping[str, FeedFile], ids: Sequence[str], inner: Pairs | None, options: MatrixOptions
) -> Iterator[Chunk]:
    plain = [one.removeprefix(options.spot_prefix) for one in ids]
    distance = inner
    if DISTANCES in files:
        distance = read_pairs(files[DISTANCES], plain)
    if distance is not None:
        metres = between(options.distance_unit, "m", where=DISTANCES).factor
        distance = distance.scaled(metres)
    if ADJACENCY in files:
        yield weighted_links(
            read_pairs(files[ADJACENCY], plain),
            ids,
            kind=options.link_kind,
            min_weight=options.min_weight,
            most=options.most_links,
            distance=distance,
        )
    nearest = options.nearest if options.nearest is not None else (0 if ADJACENCY in files else _NEAREST)
    if distance is not None and nearest:
        # A list of distances is a network's edges; a full matrix says only how far.
        yield nearest_links(distance, ids, kind="proximity" if distance.complete else options.link_kind, count=nearest)
