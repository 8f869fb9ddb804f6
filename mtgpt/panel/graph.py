"""From links and places to a graph over spots, and from there to a graph over series.

A weight is taken as published; a distance becomes a weight through a Gaussian kernel (Shuman et al. 2013, with the
threshold of DCRNN). Spots without any link are joined to their nearest neighbours of the same mode, in metres.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.sparse import csr_array
from scipy.spatial import KDTree

from mtgpt.panel.geo import metres

_THRESHOLD = 0.1


def spot_graph(links: pl.DataFrame, spots: pl.DataFrame, *, neighbours: int) -> tuple[csr_array, dict[str, int]]:
    """Weights between spots.

    Args:
        links: from_spot, to_spot, and weight or distance_m or both (the weight counts then). Links to unknown spots
            and of a spot to itself are left out; of several between two spots the strongest counts.
        spots: n rows with spot_id, mode, lon, lat; defines rows and columns of the graph.
        neighbours: Nearest spots that an unlinked spot is joined to, in both directions; 0 for none.

    Returns:
        float32 [n, n] from → to, and counts of what it was made from (``links``, ``proximity``, ``isolated``).
    """
    n = spots.height
    numbers = spots.select("spot_id", number=pl.int_range(n, dtype=pl.Int64))
    edges = (
        links.join(numbers.rename({"spot_id": "from_spot", "number": "row"}), on="from_spot")
        .join(numbers.rename({"spot_id": "to_spot", "number": "column"}), on="to_spot")
        .filter(pl.col("row") != pl.col("column"))
        .with_columns(weight=_weights(neighbours))
        .filter(pl.col("weight").is_finite() & (pl.col("weight") > 0))
        .group_by("row", "column")
        .agg(pl.col("weight").max())
        .sort("row", "column")
    )
    linked = np.zeros(n, dtype=bool)
    linked[edges["row"].to_numpy()] = True
    linked[edges["column"].to_numpy()] = True
    graph = _matrix(edges["row"].to_numpy(), edges["column"].to_numpy(), edges["weight"].to_numpy(), n)
    near = proximity(spots, neighbours, only=~linked) if neighbours and not linked.all() else csr_array((n, n))
    graph = csr_array(graph.maximum(near.astype(np.float32)))
    degree = np.diff(graph.indptr) + np.bincount(graph.indices, minlength=n)
    counts = {"links": edges.height, "proximity": int(near.nnz), "isolated": int((degree == 0).sum())}
    return graph, counts


def proximity(spots: pl.DataFrame, neighbours: int, *, only: np.ndarray | None = None) -> csr_array:
    """Joins spots to their nearest ones of the same mode, weights by a Gaussian kernel of the distance.

    Args:
        spots: n rows with mode, lon, lat (degrees, null where unknown).
        neighbours: How many.
        only: bool [n], whose neighbours are looked for; all if None. Edges run both ways.

    Returns:
        float32 [n, n], symmetric.
    """
    n = spots.height
    rows, columns, weights = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    placed = spots.select((pl.col("lon").is_finite() & pl.col("lat").is_finite()).fill_null(value=False)).to_series()
    for (_,), group in spots.with_row_index("number").filter(placed).group_by("mode", maintain_order=True):
        number = group["number"].to_numpy().astype(np.int64)
        wanted = np.arange(number.size) if only is None else np.flatnonzero(only[number])
        if number.size < 2 or wanted.size == 0:
            continue
        point = metres(group["lon"].to_numpy(), group["lat"].to_numpy())
        count = min(neighbours + 1, number.size)
        distance, found = KDTree(point).query(point[wanted], k=count)
        source = np.repeat(wanted, count)
        # A spot is its own nearest neighbour, unless others share its place: then they come in any order.
        keep = found.ravel() != source
        source, target, reach = source[keep], found.ravel()[keep], distance.ravel()[keep]
        width = float(np.median(reach)) or 1.0
        weight = np.maximum(np.exp(-np.square(reach / width) / 2), 1e-3)
        rows += [number[source], number[target]]
        columns += [number[target], number[source]]
        weights += [weight, weight]
    return _matrix(np.concatenate(rows), np.concatenate(columns), np.concatenate(weights), n)


def series_graph(graph: csr_array, spot: np.ndarray, variable: np.ndarray) -> csr_array:
    """Spreads a graph over spots to the series measured there: edges join series of the same variable.

    Args:
        graph: [n, n] over spots.
        spot: int [N], the spot of each series.
        variable: [N], the variable of each series, any comparable type.

    Returns:
        float32 [N, N].
    """
    rows, columns, weights = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    for name in np.unique(variable):
        members = np.flatnonzero(variable == name)
        part = graph[spot[members]][:, spot[members]].tocoo()
        rows.append(members[part.row])
        columns.append(members[part.col])
        weights.append(part.data)
    return _matrix(np.concatenate(rows), np.concatenate(columns), np.concatenate(weights), spot.size)


def _weights(nearest: int) -> pl.Expr:
    distance = pl.col("distance_m")
    # σ is the spread of the distances between linked spots; a uniform set of distances has none.
    width = pl.when(distance.std() > 0).then(distance.std()).otherwise(pl.max_horizontal(distance.mean(), 1.0))
    kernel = (-((distance / width) ** 2)).exp()
    # The threshold thins out tables of all pairs. The next stop down the line stays linked, however far it is.
    near = pl.min_horizontal(distance.rank("ordinal").over(end) for end in ("row", "column")) <= nearest
    kernel = pl.when(near).then(pl.max_horizontal(kernel, _THRESHOLD)).when(kernel >= _THRESHOLD).then(kernel)
    return pl.coalesce("weight", kernel, pl.when(distance.is_null()).then(pl.lit(1.0)))


def _matrix(rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, n: int) -> csr_array:
    if rows.size:
        # Of edges named twice the strongest counts; building a matrix would add them up.
        order = np.lexsort((-weights, columns, rows))
        rows, columns, weights = rows[order], columns[order], weights[order]
        first = np.r_[True, (np.diff(rows) != 0) | (np.diff(columns) != 0)]
        rows, columns, weights = rows[first], columns[first], weights[first]
    matrix = csr_array((weights.astype(np.float32), (rows, columns)), shape=(n, n))
    matrix.sort_indices()
    return matrix
