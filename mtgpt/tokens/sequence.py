"""Which series are read together: ``[network][corridors][spots of some corridors]``, at most ~256 tokens a patch.

The aggregates are the bridges between sequences: a city of any size becomes a number of short sequences, so cost grows
linearly with it. Within a sequence spots keep the panel's order (corridor by corridor, along the graph), so that the
distance of two positions means nearness.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtgpt.panel.panel import Panel

LONGEST = 256
MOST_BRIDGES = 48


def sequences(panel: Panel, *, longest: int = LONGEST) -> list[NDArray[np.int64]]:
    """Index arrays into ``panel.series``; every spot is in exactly one, every aggregate in at least one.

    Args:
        panel: Any panel.
        longest: Most tokens a patch.
    """
    level = np.asarray(panel.series["level"].to_list())
    variable = np.asarray(panel.series["variable"].to_list())
    corridor = np.asarray([-1 if c is None else c for c in panel.series["corridor"].to_list()])
    networks = np.flatnonzero(level == "network")
    corridors = np.flatnonzero(level == "corridor")
    spots = np.flatnonzero(level == "spot")
    groups = _groups(spots, variable, corridor)
    # With few corridors each sequence sees all of them; with many, its own and its neighbours in order.
    bridges = min(len(corridors), MOST_BRIDGES)
    room = max(longest - len(networks) - bridges, longest // 2)
    packed = _pack(groups, room)
    if len(packed) == 1 and bridges == len(corridors):
        return [np.concatenate([networks, corridors, spots])]
    homes = [_home(group, corridors, variable, corridor) for group in packed]
    out, covered = [], set[int]()
    for group, home in zip(packed, homes, strict=True):
        near = _nearest(home, len(corridors), bridges)
        covered.update(near.tolist())
        out.append(np.concatenate([networks, corridors[near], group]))
    missing = np.setdiff1d(np.arange(len(corridors)), sorted(covered))
    return out + [np.concatenate([networks, corridors[part]]) for part in _slices(missing, longest // 2)]


def back_to_front(part: NDArray[np.int64], spots: int) -> NDArray[np.int64]:
    """Positions of a sequence with its spots in reverse and its aggregates where they are.

    Args:
        part: One of :func:`sequences`.
        spots: Spots of the panel, which are its first series.
    """
    order = np.arange(len(part))
    spot = np.flatnonzero(part < spots)
    order[spot] = spot[::-1]
    return order


def owners(parts: list[NDArray[np.int64]], total: int) -> NDArray[np.int64]:
    """[S] which sequence answers for each series: the first that holds it."""
    owner = np.full(total, -1, np.int64)
    for i in range(len(parts) - 1, -1, -1):
        owner[parts[i]] = i
    return owner


def _groups(
    spots: NDArray[np.int64], variable: NDArray[np.str_], corridor: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    if not len(spots):
        return []
    new = (variable[spots][1:] != variable[spots][:-1]) | (corridor[spots][1:] != corridor[spots][:-1])
    return np.split(spots, np.flatnonzero(new) + 1)


def _slices(items: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _pack(groups: list[NDArray[np.int64]], room: int) -> list[NDArray[np.int64]]:
    """Neighbouring corridors share a sequence while they fit; a corridor that does not fit alone is cut."""
    packed: list[list[NDArray[np.int64]]] = []
    used = room + 1
    for group in groups:
        for piece in _slices(group, room):
            if used + len(piece) > room:
                packed.append([])
                used = 0
            packed[-1].append(piece)
            used += len(piece)
    return [np.concatenate(pieces) for pieces in packed]


def _home(
    group: NDArray[np.int64], corridors: NDArray[np.int64], variable: NDArray[np.str_], corridor: NDArray[np.int64]
) -> NDArray[np.int64]:
    own = {(variable[i], corridor[i]) for i in group}
    return np.asarray([j for j, i in enumerate(corridors) if (variable[i], corridor[i]) in own], np.int64)


def _nearest(home: NDArray[np.int64], total: int, wanted: int) -> NDArray[np.int64]:
    if total <= wanted or not len(home):
        return np.arange(min(total, wanted))
    distance = np.abs(np.arange(total)[:, None] - home[None]).min(1)
    return np.sort(np.argsort(distance, kind="stable")[:wanted])
