"""Scales: which spots form a corridor, in which order they stand, and how aggregates come from them.

Everything here is sparse: cost grows with spots and edges, never with their square.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csc_array, csgraph, csr_array, eye_array
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh, splu

if TYPE_CHECKING:
    from collections.abc import Sequence

_DENSE = 24
_TOLERANCE: Any = 1e-5  # scipy says int, takes float
_STRONGEST = 8
_BLOCK_BYTES = 32_000_000
_LEAST_WEIGHT = 0.5


def corridors_by_graph(graph: csr_array, size: int) -> list[np.ndarray]:
    """Cuts a graph into parts of at most ``size`` nodes that hang together.

    Recursive spectral bisection (Pothen, Simon & Liou 1990): every part is cut along its Fiedler vector until it is
    small enough; the number of parts is the smallest possible. Nodes without edges are packed in the order given.
    Deterministic: the eigensolver starts from a fixed vector.

    Args:
        graph: [n, n] non-negative weights; directions are ignored.
        size: Most nodes of a part.

    Returns:
        Index arrays, one per part; neighbouring parts stand next to each other.
    """
    affinity = _strongest(undirected(graph))
    parts: list[np.ndarray] = []
    todo = [np.arange(_nodes(graph))]
    while todo:
        nodes = todo.pop()
        count = -(-nodes.size // size)
        if count <= 1:
            if nodes.size:
                parts.append(np.sort(nodes))
            continue
        left = count // 2
        # Rounded up, but never above what the left parts can hold: left · n / count ≤ left · size.
        cut = -(-nodes.size * left // count)
        order = _bisection_order(affinity[nodes][:, nodes], cut)
        todo.append(nodes[order[cut:]])
        todo.append(nodes[order[:cut]])
    return parts


def corridors_by_label(labels: Sequence[str | None], graph: csr_array, size: int) -> tuple[list[np.ndarray], list[str]]:
    """Corridors that the data names (routes, lines, freeways); those above ``size`` are cut along the graph.

    Args:
        labels: [n] corridor name per node; nodes without one are partitioned by the graph.
        graph: [n, n] weights.
        size: Most nodes of a part.

    Returns:
        Index arrays and one name per part (``""`` where the graph decided).
    """
    keys = np.array([label or "" for label in labels], dtype=object)
    parts: list[np.ndarray] = []
    names: list[str] = []
    for label in [*sorted(set(keys) - {""}), ""]:
        nodes = np.flatnonzero(keys == label)
        if nodes.size == 0:
            continue
        pieces = corridors_by_graph(graph[nodes][:, nodes], size)
        parts += [nodes[piece] for piece in pieces]
        if label == "" or len(pieces) == 1:
            names += [label] * len(pieces)
        else:
            names += [f"{label} ({i + 1} of {len(pieces)})" for i in range(len(pieces))]
    return parts, names


def nearness_rank(graph: csr_array) -> np.ndarray:
    """int64 [n]: rank of each node in reverse Cuthill–McKee order, so that neighbours get near numbers."""
    joined = undirected(graph)
    if joined.nnz == 0:
        return np.arange(_nodes(joined))
    order = csgraph.reverse_cuthill_mckee(joined, symmetric_mode=True)
    rank = np.empty(order.size, dtype=np.int64)
    rank[order] = np.arange(order.size)
    return rank


def undirected(graph: csr_array) -> csr_array:
    """The larger of both directions' weights, without a diagonal."""
    both = csr_array(graph.maximum(graph.T))
    both.setdiag(0)
    both.eliminate_zeros()
    return csr_array(both)


def weights_of_means(flow: np.ndarray) -> np.ndarray:
    """float64 [m]: weights summing to 1 for a mean over m spots, by their flow where it is known.

    Args:
        flow: [m] mean flow of each spot over the training part; NaN where it has none.

    Returns:
        Flow shares; a spot without flow counts like the median of the others, all alike if none is known.
    """
    known = np.isfinite(flow) & (flow > 0)
    filled = np.where(known, flow, np.median(flow[known]) if known.any() else 1.0)
    return filled / filled.sum()


def fill_aggregates(values: np.ndarray, aggregation: csr_array) -> None:
    """Computes the aggregate columns of a panel in place, block by block, from its spot columns.

    A cell is NaN unless at least half of its weight is observed; with partial observation a sum is scaled up to
    the full weight and a mean is taken over what is there. A cell depends on its own step only.

    Args:
        values: float32 [T, N + S_agg], spots first.
        aggregation: [S_agg, N], no negative weights.
    """
    spots = values.shape[1] - _nodes(aggregation)
    weights = csr_array(aggregation, dtype=np.float64)
    full = np.asarray(weights.sum(axis=1)).reshape(-1, 1)
    rows = max(1, _BLOCK_BYTES // (8 * max(1, spots)))
    for start in range(0, values.shape[0], rows):
        block = values[start : start + rows, :spots].T
        there = np.isfinite(block)
        total = weights @ np.where(there, block, 0).astype(np.float64)
        observed = weights @ there.astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            cells = np.where(observed >= _LEAST_WEIGHT * full * (1 - 1e-12), total * (full / observed), np.nan)
        values[start : start + rows, spots:] = cells.T


def _strongest(graph: csr_array) -> csr_array:
    """Keeps each node's strongest edges: enough to cut along, and it keeps the factorisation of dense graphs sparse."""
    counts = np.diff(graph.indptr)
    if counts.max(initial=0) <= _STRONGEST:
        return graph
    rows = np.repeat(np.arange(counts.size), counts)
    order = np.lexsort((graph.indices, np.negative(graph.data), rows))
    place = np.arange(order.size) - np.repeat(graph.indptr[:-1], counts)
    kept = order[place < _STRONGEST]
    return undirected(csr_array((graph.data[kept], (rows[kept], graph.indices[kept])), shape=graph.shape))


def _bisection_order(graph: csr_array, cut: int) -> np.ndarray:
    """An order of the nodes whose first ``cut`` ones are one side; only the component at the cut is ordered inside."""
    count, component = csgraph.connected_components(graph, directed=False)
    if count == 1:
        return _fiedler_order(graph)
    order = np.argsort(component, kind="stable")
    ends = np.cumsum(np.bincount(component))
    torn = int(np.searchsorted(ends, cut, side="left"))
    start, stop = (0 if torn == 0 else int(ends[torn - 1])), int(ends[torn])
    if stop > cut and stop - start > 2:
        nodes = order[start:stop]
        order[start:stop] = nodes[_fiedler_order(graph[nodes][:, nodes])]
    return order


def _fiedler_order(graph: csr_array) -> np.ndarray:
    n = _nodes(graph)
    if n <= 2:
        return np.arange(n)
    laplacian = csc_array(csgraph.laplacian(graph.astype(np.float64)))
    if n <= _DENSE:
        vector = np.linalg.eigh(laplacian.toarray())[1][:, 1]
    else:
        # The shift makes the matrix positive definite: factored once, its inverse finds the smallest eigenvalues fast.
        shifted = csc_array(laplacian + 1e-4 * float(laplacian.diagonal().mean()) * eye_array(n))
        factor = splu(shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
        inverse = LinearOperator((n, n), matvec=factor.solve)  # pyright: ignore[reportCallIssue] # its __new__ is not typed
        start = np.random.default_rng(0).standard_normal(n)
        try:
            vector = eigsh(shifted, k=2, sigma=0, which="LM", v0=start, tol=_TOLERANCE, OPinv=inverse)[1][:, 1]
        except ArpackNoConvergence:
            return np.asarray(csgraph.reverse_cuthill_mckee(graph, symmetric_mode=True))
    # Eigenvectors have no sign of their own; rounding keeps ties in the given order on every machine.
    vector = np.round(vector / np.abs(vector).max(), 6)
    lead = vector[np.flatnonzero(vector)[0]] if vector.any() else 1.0
    return np.argsort(vector if lead < 0 else -vector, kind="stable")


def _nodes(graph: csr_array) -> int:
    return graph.indptr.size - 1
