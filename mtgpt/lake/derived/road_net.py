"""A road network over arrays: places put onto its lines, and how far it is from one to the next along them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORWARD, BACKWARD, BOTH = "forward", "backward", "both"
# Signs say north where the road may well run west: only what runs the other way is ruled out.
_AGAINST_DEG = 100.0
_LEAST_M = 1e-3
_AT_ONCE = 4_000_000
_NEAR_M = 1000.0
# Lengths are those on the ellipsoid, squares those of a plane.
_SLACK = 1.01
_COMPASS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
_WORDS = {"north": "N", "east": "E", "south": "S", "west": "W"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapped:
    """n places on lines.

    Attributes:
        line: [n] index of the line; -1 where none is near enough.
        along: [n] share of the line's length from its beginning; not a number without a line.
        gap_m: [n] distance to the line, or to the nearest one where none is near enough.
        x: [n] easting on the line; its own without one.
        y: [n] northing.
    """

    line: np.ndarray
    along: np.ndarray
    gap_m: np.ndarray
    x: np.ndarray
    y: np.ndarray


def heading_deg(text: object) -> float:
    """A direction of travel as degrees clockwise from north; not a number where it is none.

    Args:
        text: ``N``, ``nb``, ``northbound``, ``SW``, ….
    """
    word = str(text).strip().lower().removesuffix("bound").rstrip(" -")
    name = _WORDS.get(word, word.upper())
    name = name.removesuffix("B") if len(name) == 2 else name
    return 45.0 * _COMPASS.index(name) if name in _COMPASS else float("nan")


def snap(
    x: np.ndarray,
    y: np.ndarray,
    lines: np.ndarray,
    *,
    within_m: float,
    heading: np.ndarray | None = None,
    oneway: Sequence[str] | None = None,
) -> Snapped:
    """Puts places onto the nearest line.

    Args:
        x: [n] easting in metres; not a number where unknown.
        y: [n] northing.
        lines: [m] shapely lines in the same metres.
        within_m: Places farther from every line stay where they are.
        heading: [n] direction of travel in degrees clockwise from north, not a number where unknown: a line that is
            used only the other way is taken only where no other one is near enough.
        oneway: [m] ``forward``, ``backward`` or ``both``; needed for ``heading``.
    """
    n = len(x)
    line, along, gap = np.full(n, -1), np.full(n, np.nan), np.full(n, np.nan)
    onto = np.stack([x, y], axis=1).astype(np.float64)
    placed = np.flatnonzero(np.isfinite(onto).all(axis=1))
    if not placed.size or not len(lines):
        return Snapped(line=line, along=along, gap_m=gap, x=onto[:, 0], y=onto[:, 1])
    tree = shapely.STRtree(lines)
    points = np.asarray(shapely.points(onto[placed]))
    point, found = tree.query(points, predicate="dwithin", distance=within_m)
    distance = shapely.distance(points[point], lines[found])
    against = np.zeros(len(point), dtype=bool)
    if heading is not None and oneway is not None:
        against = _against(points[point], lines[found], heading[placed][point], np.asarray(oneway)[found])
    order = np.lexsort((found, distance, against, point))
    _, first = np.unique(point[order], return_index=True)
    best = order[first]
    at = placed[point[best]]
    line[at], gap[at] = found[best], distance[best]
    measured = shapely.line_locate_point(lines[found[best]], points[point[best]])
    along[at] = measured / np.maximum(shapely.length(lines[found[best]]), _LEAST_M)
    onto[at] = shapely.get_coordinates(shapely.line_interpolate_point(lines[found[best]], measured))
    far = np.setdiff1d(placed, at)
    if far.size:
        (which, _), how_far = tree.query_nearest(shapely.points(onto[far]), return_distance=True, all_matches=False)
        gap[far[which]] = how_far
    return Snapped(line=line, along=along, gap_m=gap, x=onto[:, 0], y=onto[:, 1])


def _against(points: np.ndarray, lines: np.ndarray, heading: np.ndarray, oneway: np.ndarray) -> np.ndarray:
    at = shapely.line_locate_point(lines, points)
    ends = [
        shapely.get_coordinates(shapely.line_interpolate_point(lines, np.clip(at + step, 0, shapely.length(lines))))
        for step in (-5.0, 5.0)
    ]
    east, north = (ends[1] - ends[0]).T
    runs = np.degrees(np.arctan2(east, north)) + np.where(oneway == BACKWARD, 180.0, 0.0)
    turn = np.abs((runs - heading + 180.0) % 360.0 - 180.0)
    return (oneway != BOTH) & (turn > _AGAINST_DEG)


def flat(lon: np.ndarray, lat: np.ndarray, *, centre: tuple[float, float]) -> np.ndarray:
    """Degrees to metres around a city's centre, true to scale there and within a thousandth 100 km away.

    Returns:
        float64 [n, 2].
    """
    crs = pyproj.CRS.from_proj4(f"+proj=tmerc +lon_0={centre[0]} +lat_0={centre[1]} +k=1 +ellps=WGS84 +units=m")
    x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    return np.stack([x, y], axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roads:
    """m pieces of road.

    Attributes:
        lines: [m] shapely lines, metres.
        from_node: [m] number of the junction where each begins.
        to_node: [m] number of the junction where it ends.
        length_m: [m].
        oneway: [m] ``forward``, ``backward`` or ``both``.
    """

    lines: np.ndarray
    from_node: np.ndarray
    to_node: np.ndarray
    length_m: np.ndarray
    oneway: np.ndarray


def nearest_along(
    roads: Roads, places: Snapped, *, cutoff_m: float, nearest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each place's nearest other places along the roads, driving only where one may.

    Args:
        roads: The network.
        places: n places on its lines; those on none are left out.
        cutoff_m: Longest way.
        nearest: How many each place is joined to, at most.

    Returns:
        From-index, to-index, metres; each at most [n × nearest], sorted by from and distance.
    """
    on = np.flatnonzero(places.line >= 0)
    graph, first = _graph(roads, places, on)
    where = _places_of_nodes(roads, places, on, first)
    origin, target, metres = [np.empty(0, np.intp)], [np.empty(0, np.intp)], [np.empty(0)]
    todo = np.arange(len(on))
    # In most streets the next places are near: the long way is walked only from where they are not.
    for limit in sorted({min(_NEAR_M, cutoff_m), cutoff_m}):
        left = []
        for part, nodes in _blocks(where, first, todo, limit):
            inner = graph[nodes][:, nodes]
            targets = np.searchsorted(nodes, first)
            own = np.searchsorted(nodes, first + part)
            reach = dijkstra(inner, indices=own, limit=limit)[:, targets:]
            reach[np.arange(len(part)), own - targets] = np.inf
            done = (np.isfinite(reach).sum(axis=1) >= nearest) | (limit == cutoff_m)
            left.append(part[~done])
            one, two, far = _smallest(reach[done], min(nearest, reach.shape[1]))
            origin.append(part[done][one])
            target.append(nodes[targets + two] - first)
            metres.append(far)
        todo = np.concatenate(left) if left else todo[:0]
    start, end, far = np.concatenate(origin), np.concatenate(target), np.concatenate(metres)
    order = np.lexsort((end, far, start))
    return on[start[order]], on[end[order]], far[order]


def _blocks(where: np.ndarray, first: int, todo: np.ndarray, limit: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places of one square of the city at a time, and the nodes that may be reached from there.

    Args:
        where: [N, 2] metres of every node.
        first: Number of the first node that is a place.
        todo: Places to begin from.
        limit: Longest way; none leads farther than two squares.

    Yields:
        Some of ``todo``; sorted numbers of nodes, those places among them.
    """
    square = np.floor((where - where.min(axis=0, initial=0.0)) / (limit * _SLACK)).astype(np.int64)
    wide = int(square[:, 1].max(initial=0)) + 3
    cell = (square[:, 0] + 1) * wide + square[:, 1] + 1
    by_cell = np.argsort(cell, kind="stable")
    ordered = cell[by_cell]
    todo = todo[np.argsort(cell[first + todo], kind="stable")]
    ends = np.flatnonzero(np.diff(cell[first + todo], append=-1)) + 1
    for begin, end in pairwise((0, *ends.tolist())):
        here = cell[first + todo[begin]]
        columns = [here + step * wide for step in (-1, 0, 1)]
        spans = [np.searchsorted(ordered, (low - 1, low + 2)) for low in columns]
        nodes = np.sort(np.concatenate([by_cell[low:high] for low, high in spans]))
        rows = max(1, _AT_ONCE // len(nodes))
        for start in range(begin, end, rows):
            yield todo[start : min(start + rows, end)], nodes


def _places_of_nodes(roads: Roads, places: Snapped, on: np.ndarray, junctions: int) -> np.ndarray:
    where = np.zeros((junctions + len(on), 2))
    for nodes, end in ((roads.from_node, 0), (roads.to_node, -1)):
        where[nodes] = shapely.get_coordinates(shapely.get_point(roads.lines, end))
    where[junctions:, 0], where[junctions:, 1] = places.x[on], places.y[on]
    return where


def _smallest(reach: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not reach.size or not count:
        none = np.empty(0, np.intp)
        return none, none, np.empty(0)
    picked = np.argpartition(reach, count - 1, axis=1)[:, :count]
    far = np.take_along_axis(reach, picked, axis=1)
    there = np.isfinite(far)
    return np.nonzero(there)[0], picked[there], far[there]


def _graph(roads: Roads, places: Snapped, on: np.ndarray) -> tuple[csr_array, int]:
    """Junctions, then places, each of which cuts the line that it is on; and the number of the first place."""
    lines = len(roads.lines)
    junctions = int(max(roads.from_node.max(initial=-1), roads.to_node.max(initial=-1))) + 1
    line = np.concatenate([np.arange(lines), places.line[on], np.arange(lines)])
    node = np.concatenate([roads.from_node, junctions + np.arange(len(on)), roads.to_node])
    at = np.concatenate([np.zeros(lines), places.along[on] * roads.length_m[places.line[on]], roads.length_m])
    rank = np.repeat([0, 1, 2], [lines, len(on), lines])
    order = np.lexsort((at, rank, line))
    line, node, at = line[order], node[order], at[order]
    inner = np.flatnonzero(line[1:] == line[:-1])
    begin, end, way = node[inner], node[inner + 1], roads.oneway[line[inner]]
    # A way of no length would be no way at all to a sparse matrix.
    length = np.maximum(at[inner + 1] - at[inner], _LEAST_M)
    ahead, back = way != BACKWARD, way != FORWARD
    row, column = np.concatenate([begin[ahead], end[back]]), np.concatenate([end[ahead], begin[back]])
    weight = np.concatenate([length[ahead], length[back]])
    shortest = np.lexsort((weight, column, row))
    row, column, weight = row[shortest], column[shortest], weight[shortest]
    first = np.r_[True, (np.diff(row) != 0) | (np.diff(column) != 0)][: len(row)]
    size = junctions + len(on)
    return csr_array((weight[first], (row[first], column[first])), shape=(size, size)), junctions
