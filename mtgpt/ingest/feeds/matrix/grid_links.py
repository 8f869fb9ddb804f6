"""Which places of a grid are related, and how strongly or how far: adjacency and distance files to link rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse

from mtgpt.errors import FeedError
from mtgpt.ingest.feeds.matrix.grid_file import read_array, suffix
from mtgpt.ingest.guard.archive import checked_zip, open_guarded
from mtgpt.ingest.guard.text import cells
from mtgpt.ingest.rows.places import links, nearest_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mtgpt.ingest.adapter import Chunk, FeedFile
    from mtgpt.ingest.rows.places import LinkKind

_MATRIX_KEYS = {"indices", "indptr", "data", "shape"}
_COORDINATE_KEYS = {"row", "col", "data", "shape"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Numbers on ordered pairs of places.

    Attributes:
        origin: [E] index of the place it starts at.
        target: [E] index of the place it ends at.
        value: [E] weight or distance.
        complete: Whether it came from a matrix over all pairs.
    """

    origin: np.ndarray
    target: np.ndarray
    value: np.ndarray
    complete: bool

    def dense(self, count: int) -> np.ndarray:
        """[N, N], not a number where there is no pair."""
        matrix = np.full((count, count), np.nan)
        matrix[self.origin, self.target] = self.value
        return matrix

    def scaled(self, factor: float) -> Pairs:
        """The same pairs in another unit."""
        return replace(self, value=self.value * factor)

    def strongest(self, count: int) -> Pairs:
        """Of each place only the ``count`` pairs with the highest values."""
        order = np.lexsort((self.target, -self.value, self.origin))
        starts = np.searchsorted(self.origin[order], self.origin[order])
        kept = order[np.arange(len(order)) - starts < count]
        return Pairs(origin=self.origin[kept], target=self.target[kept], value=self.value[kept], complete=self.complete)


def read_pairs(file: FeedFile, ids: Sequence[str], *, key: str | None = None) -> Pairs:
    """Reads an adjacency or distance file.

    It may be a square matrix (npy, npz, scipy's sparse npz, csv with or without names) or a list of from, to, value
    (csv), whose places are named by id or, where none of the names is an id, by position. Pairs of a list that touch a
    place not among ``ids`` are left out: the published lists cover more sensors than the published series.

    Args:
        file: The file.
        ids: [N] spot ids.
        key: Array of an npz.

    Raises:
        FeedError: A matrix of another size than N × N, or nothing of that kind.
    """
    if suffix(file.name) in {".npy", ".npz"}:
        return _square(_numpy_matrix(file, key, len(ids)), ids, file.name)
    rows = _csv_rows(file)
    labelled = _labelled(rows, ids, file.name)
    if labelled is not None:
        return labelled
    if not rows[0][0].strip():
        raise FeedError(
            "the names above and at its left are not those of the places",
            where=file.name,
            got=f"{len(rows[0]) - 1} × {len(rows) - 1}: {', '.join(rows[0][1:4])}",
            expected=f"{len(ids)} × {len(ids)}: {', '.join(ids[:3])}",
        )
    if len(rows[0]) == 3 and len(ids) != 3:
        return _edges(rows, ids, file.name)
    return _square(_floats(rows, file.name), ids, file.name)


def _numpy_matrix(file: FeedFile, key: str | None, count: int) -> np.ndarray:
    if suffix(file.name) == ".npz":
        try:
            with np.load(checked_zip(file.path, file.name), allow_pickle=False) as arrays:
                names = set(arrays.files)
                if names >= _MATRIX_KEYS or names >= _COORDINATE_KEYS:
                    return _sparse(file, {name: arrays[name] for name in names}, count)
        except (ValueError, TypeError, OSError, EOFError) as error:
            raise FeedError("not a readable numpy file", where=file.name, got=str(error)) from None
    return np.asarray(read_array(file, key), dtype=np.float64)


def _sparse(file: FeedFile, arrays: dict[str, np.ndarray], count: int) -> np.ndarray:
    height, width = (int(size) for size in arrays["shape"])
    # A few bytes may claim a matrix of any size.
    if (height, width) != (count, count):
        raise FeedError(
            "the matrix does not fit the places",
            where=file.name,
            got=f"{height} × {width}",
            expected=f"{count} × {count}",
        )
    if "row" in arrays:
        return scipy.sparse.coo_array((arrays["data"], (arrays["row"], arrays["col"])), shape=(height, width)).toarray()
    form = bytes(arrays["format"].item()).decode() if "format" in arrays else "csr"
    made = {"csr": scipy.sparse.csr_array, "csc": scipy.sparse.csc_array}.get(form)
    if made is None:
        raise FeedError("unknown kind of sparse matrix", where=file.name, got=form, expected="csr, csc or coo")
    matrix = made((arrays["data"], arrays["indices"], arrays["indptr"]), shape=(height, width))
    matrix.check_format(full_check=True)
    return matrix.toarray()


def _csv_rows(file: FeedFile) -> list[list[str]]:
    with open_guarded(file.path, file.name) as stream:
        return cells(stream.read(), where=file.name)


def _labelled(rows: list[list[str]], ids: Sequence[str], where: str) -> Pairs | None:
    # A matrix with names above and at the left, as pandas writes a frame: the names decide the order.
    above, left = rows[0][1:], [row[0] for row in rows[1:]]
    if sorted(above) != sorted(ids) or sorted(left) != sorted(ids):
        return None
    index = {name: at for at, name in enumerate(ids)}
    matrix = np.empty((len(ids), len(ids)))
    values = _floats([row[1:] for row in rows[1:]], where)
    matrix[np.ix_([index[name] for name in left], [index[name] for name in above])] = values
    return _square(matrix, ids, where)


def _edges(rows: list[list[str]], ids: Sequence[str], where: str) -> Pairs:
    body = rows if _is_number(rows[0][2]) else rows[1:]
    odd = next((row for row in body if len(row) != 3), None)
    if odd is not None:
        raise FeedError("a line of another length", where=where, got=", ".join(odd), expected="from, to, value")
    index = {name: at for at, name in enumerate(ids)}
    if not any(row[0] in index or row[1] in index for row in body):
        if len(rows) == 3:
            # Three lines of three numbers: a matrix of another city sooner than a list of three links.
            return _square(_floats(rows, where), ids, where)
        index = {str(at): at for at in range(len(ids))}
    kept = [row for row in body if row[0] in index and row[1] in index and row[0] != row[1]]
    if not kept:
        raise FeedError(
            "none of its pairs is about this city's places", where=where, got=", ".join(body[0] if body else [])
        )
    return Pairs(
        origin=np.array([index[row[0]] for row in kept]),
        target=np.array([index[row[1]] for row in kept]),
        value=_floats([[row[2]] for row in kept], where)[:, 0],
        complete=False,
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _floats(rows: list[list[str]], where: str) -> np.ndarray:
    odd = next((number for number, row in enumerate(rows, start=1) if len(row) != len(rows[0])), None)
    if odd is not None:
        raise FeedError(
            f"row {odd} is not as long as the first",
            where=where,
            got=f"{len(rows[odd - 1])} cells",
            expected=f"{len(rows[0])} cells",
        )
    try:
        return np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise FeedError("not a matrix of numbers", where=where, got=str(error)) from None


def _square(matrix: np.ndarray, ids: Sequence[str], where: str) -> Pairs:
    if matrix.shape != (len(ids), len(ids)):
        raise FeedError(
            "the matrix does not fit the places",
            where=where,
            got=" × ".join(str(size) for size in matrix.shape),
            expected=f"{len(ids)} × {len(ids)}",
        )
    origin, target = np.nonzero(~np.eye(len(ids), dtype=bool))
    return Pairs(
        origin=origin, target=target, value=np.asarray(matrix[origin, target], dtype=np.float64), complete=True
    )


def weighted_links(
    adjacency: Pairs,
    ids: Sequence[str],
    *,
    kind: LinkKind,
    min_weight: float = 0.0,
    most: int | None = None,
    distance: Pairs | None = None,
) -> Chunk:
    """Links for the pairs above ``min_weight``.

    Args:
        adjacency: Weights.
        ids: [N] spot ids.
        kind: What relates the pairs.
        min_weight: Pairs must weigh more.
        most: Keep only so many of each place, the heaviest.
        distance: Metres, if known.
    """
    heavy = adjacency.value > min_weight
    pairs = Pairs(
        origin=adjacency.origin[heavy], target=adjacency.target[heavy], value=adjacency.value[heavy], complete=False
    )
    if most is not None:
        pairs = pairs.strongest(most)
    metres = None if distance is None else distance.dense(len(ids))[pairs.origin, pairs.target]
    return _chunk(pairs, ids, kind=kind, weight=pairs.value, distance_m=metres)


def nearest_links(distance: Pairs, ids: Sequence[str], *, kind: LinkKind, count: int) -> Chunk:
    """Links from each place to its nearest ones.

    Args:
        distance: Metres.
        ids: [N] spot ids.
        kind: What relates them.
        count: How many per place.
    """
    origin, target, metres = nearest_in(distance.dense(len(ids)), count)
    pairs = Pairs(origin=origin, target=target, value=metres, complete=False)
    return _chunk(pairs, ids, kind=kind, weight=None, distance_m=metres)


def _chunk(
    pairs: Pairs, ids: Sequence[str], *, kind: LinkKind, weight: np.ndarray | None, distance_m: np.ndarray | None
) -> Chunk:
    names = list(ids)
    return links(
        [names[at] for at in pairs.origin.tolist()],
        [names[at] for at in pairs.target.tolist()],
        kind=kind,
        weight=weight,
        distance_m=distance_m,
    )
