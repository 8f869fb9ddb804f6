"""What kind of thing a series is, as small integers that never change their meaning.

Ids are positions in these tuples: append, never reorder, or old checkpoints will misread new panels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

ROOM = 64
"""Rows of every embedding: words are appended without a change to the shape of any weight."""

LEVELS = ("spot", "corridor", "network")
MODES = (
    "other", "road", "metro", "rail", "bus", "bike", "taxi", "ev", "pedestrian", "weather",
    "tram", "ferry", "cable", "scooter",
)  # fmt: skip
VARIABLES = (
    "other", "speed", "flow", "occupancy", "boardings", "entries", "exits", "departures", "arrivals", "pedestrians",
    "energy", "charging_time", "price", "bikes_available", "docks_available", "headway", "delay", "queue",
    "travel_time", "density", "alightings", "vehicles_available",
)  # fmt: skip


def kind_ids(series: pl.DataFrame) -> NDArray[np.int64]:
    """[S, 3] ids of mode, variable and level of a panel's series; what is not in the vocabulary is ``other``."""
    columns = []
    for name, words in (("mode", MODES), ("variable", VARIABLES), ("level", LEVELS)):
        known = {word: i for i, word in enumerate(words[:ROOM])}
        columns.append([known.get(value, 0) for value in series[name].to_list()])
    return np.asarray(columns, np.int64).T
