"""A spot without a history borrows its neighbours', so that it can be forecast at all: a virtual sensor.

Shapes: T steps, D days, S series, M of them silent for at least the first day that others report, P steps a patch.

Until a series has told one day of its own, it is taken for the weighted mean of its neighbours in the graph that have,
or of the second ring, or of the spots of its corridor with its variable, or of all of that variable. Who lends is
decided step by step from what was known by then, so nothing looks ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array, diags_array

from mtgpt.tokens.seasonal import DayStates, SeasonalConfig, SeasonalState, day_flags, fold, state_of_day

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtgpt.panel.calendar import Calendar
    from mtgpt.panel.panel import Panel

_STATES = ("location", "scale", "expected", "weekday", "spread")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """What silent series are taken for.

    Attributes:
        index: [M] the silent series.
        values: [T, M] physical units; NaN where nobody could lend.
        days: [D + 1, M] days of lent values before each day.
    """

    index: NDArray[np.int64]
    values: NDArray[np.float32]
    days: NDArray[np.float32]


def borrow(panel: Panel, states: DayStates, config: SeasonalConfig) -> tuple[DayStates, Loan | None]:
    """Gives silent spots a state from their neighbours.

    Args:
        panel: Any panel.
        states: Of its own values, from :func:`mtgpt.tokens.seasonal.fold`.
        config: The same as in that.

    Returns:
        States in which every day of a silent spot is borrowed (``days_seen`` stays its own, so 0 says so), and the
        loan; the same states and None where every spot has reported from the first day on.
    """
    spots = np.arange(panel.n_spot)
    index = spots[(states.days_seen[1:, : len(spots)] == 0).any(0)]
    if not len(index):
        return states, None
    calendar = panel.calendar
    values = _lent(panel, states, index)
    lent = fold(values, calendar, config)
    silent = states.days_seen == 0
    merged: dict[str, NDArray[np.float32]] = {}
    for name in _STATES:
        own = getattr(states, name).copy()
        mask = silent[: len(own), index]
        if own.ndim == 3:
            mask = mask[:, None]
        own[..., index] = np.where(mask, getattr(lent, name), own[..., index])
        merged[name] = own
    error = states.error.copy()
    error[:, index] = np.where(silent[:, index, None, None], lent.error, error[:, index])
    return replace(states, error=error, **merged), Loan(index=index, values=values, days=lent.days_seen)


def _lent(panel: Panel, states: DayStates, index: NDArray[np.int64]) -> NDArray[np.float32]:
    day, slot, spots = panel.calendar.day, panel.calendar.slot, panel.n_spot
    own = np.asarray(panel.values[:, :spots], np.float32)
    seen = np.isfinite(own)
    told = states.days_seen[day][:, :spots] > 0
    # A lender's gap is filled with what it usually does; the first day it lends only what it has.
    known = np.where(seen, own, np.where(told, states.expected[day, slot][:, :spots], 0))
    heard = (seen | told).astype(np.float32)
    out = np.full((len(own), len(index)), np.nan, np.float32)
    for weights in _lenders(panel, index):
        total = (weights @ heard.T).T
        mean = (weights @ (known * heard).T).T / np.maximum(total, 1e-9)
        out = np.where(np.isfinite(out) | (total < 1e-6), out, mean)
    return out.astype(np.float32)


def _lenders(panel: Panel, index: NDArray[np.int64]) -> list[csr_array]:
    """[M, N] weights over the spots for each silent one, nearest kin first."""
    spots = panel.n_spot
    graph = csr_array(panel.graph[:spots, :spots], dtype=np.float32)
    both = csr_array(graph.maximum(graph.T))
    total = np.asarray(both.sum(1)).ravel()
    walk = csr_array(diags_array(np.divide(1, total, out=np.zeros_like(total), where=total > 0)) @ both)
    first = csr_array(walk[index])
    table = panel.series[:spots]
    variable, corridor = (np.unique(table[c].to_numpy(), return_inverse=True)[1] for c in ("variable", "corridor"))
    kin = [variable * (corridor.max() + 1) + corridor, variable]
    return [first, csr_array(first @ walk), *(_members(k, index) for k in kin)]


def _members(group: NDArray[np.int64], index: NDArray[np.int64]) -> csr_array:
    """[M, N]: 1 for every spot of the same group, itself left out."""
    rows, columns = [], []
    for row, spot in enumerate(index):
        peers = np.flatnonzero(group == group[spot])
        rows.append(np.full(len(peers), row))
        columns.append(peers)
    row, column = np.concatenate(rows), np.concatenate(columns)
    return csr_array((np.ones(len(row), np.float32), (row, column)), shape=(len(index), len(group)))


class BorrowedState:
    """The seasonal state of one day, silent spots included; see :class:`mtgpt.tokens.seasonal.SeasonalState`."""

    def __init__(self, panel: Panel, loan: Loan | None, config: SeasonalConfig, cut: int) -> None:
        day = int(panel.calendar.day[cut])
        self._own = state_of_day(np.asarray(panel.values[: cut + 1], np.float32), panel.calendar, config, day)
        self._lent: SeasonalState | None = None
        if loan is not None:
            silent = self._own.days_seen[loan.index] == 0
            self._index = loan.index[silent]
            if len(self._index):
                self._lent = state_of_day(loan.values[: cut + 1, silent], panel.calendar, config, day)

    def expect(
        self, calendar: Calendar, day: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Expectation by day type, by weekday, and the spread of a day to come, each [L, S] in physical units."""
        flags = day_flags(calendar, day)
        own = self._own.expect(**flags)
        if self._lent is None:
            return own
        out = tuple(profile.copy() for profile in own)
        for profile, lent in zip(out, self._lent.expect(**flags), strict=True):
            profile[:, self._index] = lent
        return out[0], out[1], out[2]
