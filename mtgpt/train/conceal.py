"""Hides part of a panel from the model: gaps of all lengths, and spots that have never said a word.

Training shows every now and then a panel with holes and asks for what lies in them, so that the same weights forecast
through gaps, fill them, and answer where nothing is measured. The hidden panel goes the same way as any panel with
missing data: states, neighbours and aggregates are made anew from what is left, and nothing hidden leaks.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mtgpt.panel.scales import fill_aggregates

if TYPE_CHECKING:
    from mtgpt.panel.panel import Panel

_SHARED = 0.2  # of the gaps, those in which a whole corridor falls silent at once


def conceal(panel: Panel, rng: np.random.Generator, *, silent: float, missing: float) -> Panel:
    """The same panel with holes; its aggregates are those of what is left.

    Args:
        panel: Any panel.
        rng: Decides what is hidden.
        silent: Expected share of spots (with all their series) hidden altogether.
        missing: Expected share of the other steps hidden in gaps of one step to one day; as many hidden steps lie in
            gaps of about ten steps as in gaps of about a hundred.
    """
    values = np.array(panel.values, np.float32)
    spots = panel.n_spot
    table = panel.series[:spots]
    place = np.unique(table["spot_id"].to_numpy(), return_inverse=True)[1]
    hidden = rng.random(place.max() + 1) < silent
    if hidden.all():
        hidden[rng.integers(len(hidden))] = False
    values[:, :spots][:, hidden[place]] = np.nan
    longest = panel.calendar.slots_per_day
    # Lengths with a density of 1 / length²: each order of magnitude hides the same.
    usual = longest * np.log(longest) / (longest - 1)
    gaps = missing * panel.n_step / usual

    def lengths(count: int) -> np.ndarray:
        return (longest / (longest - rng.random(count) * (longest - 1))).astype(int)

    for column in range(spots):
        for length in lengths(rng.poisson((1 - _SHARED) * gaps)):
            start = rng.integers(-length + 1, panel.n_step)
            values[max(start, 0) : start + length, column] = np.nan
    corridor = table["corridor"].fill_null(-1).to_numpy()
    for one in np.unique(corridor):
        columns = np.flatnonzero(corridor == one)
        for length in lengths(rng.poisson(_SHARED * gaps)):
            start = rng.integers(-length + 1, panel.n_step)
            values[max(start, 0) : start + length, columns] = np.nan
    fill_aggregates(values, panel.aggregation)
    return replace(panel, values=values)
