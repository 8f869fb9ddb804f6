"""Everything the tokens of one panel are cut from, prepared once: states, filled values, neighbours, drift.

Shapes: T steps, S series, P steps a patch, B cuts, N series of one sequence, G = 3 graph views, R = 3 drift memories.

Causal by construction: row ``t`` of every array depends on values up to ``t`` only, and on the state of its day, which
is built from the days before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import lfilter
from scipy.sparse import csr_array, diags_array, eye_array

from mtgpt.errors import PanelError
from mtgpt.tokens.borrow import Loan, borrow
from mtgpt.tokens.covariates import covariate_features
from mtgpt.tokens.presence import fold_presence
from mtgpt.tokens.seasonal import DayStates, SeasonalConfig, fold

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtgpt.panel.calendar import Calendar
    from mtgpt.panel.panel import Panel

DRIFT_HOURS = (0.5, 2.0, 6.0)
# How soon a jam that was seen before a gap is forgotten in it.
_SURPRISE_HOURS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A panel made ready for tokens.

    Attributes:
        z: [T, S] values in units of the series' own trailing location and scale; gaps hold the expectation and what
            is left of the last surprise before them, silent spots hold what their neighbours lend.
        seen: [T, S] True where a value was measured.
        neighbours: [G, T, S] ``z`` diffused over the graph: neighbours, second ring, upstream.
        drift: [R, T, S] how far the last half hour, two hours and six hours ran above the expectation.
        states: The trailing states of every day.
        calendar: Of T + P steps: the panel's own and one patch more.
        graph: The three row-normalised operators behind ``neighbours``, each [S, S].
        covariates: [T + F, V] see :func:`mtgpt.tokens.covariates.covariate_features`, 0 where not known;
            ``covariates_seen`` says where.
        presence: [D + 1, hours, S] how often each series reports at that hour, or None for always.
        loan: What silent spots are taken for, or None where there is none.
        alive: [D + 1, S] True where there is a state, own or borrowed.
    """

    z: NDArray[np.float32]
    seen: NDArray[np.bool_]
    neighbours: NDArray[np.float32]
    drift: NDArray[np.float32]
    states: DayStates
    calendar: Calendar
    graph: tuple[csr_array, csr_array, csr_array]
    covariates: NDArray[np.float32]
    covariates_seen: NDArray[np.float32]
    presence: NDArray[np.float32] | None
    loan: Loan | None
    alive: NDArray[np.bool_]
    interval_s: int
    patch: int

    @property
    def steps(self) -> int:
        """T."""
        return len(self.z)

    def first_cut(self) -> int:
        """The earliest cut that has one whole day and one patch behind it."""
        return max(int(np.searchsorted(self.calendar.day, 1)), self.patch - 1)


def make_history(panel: Panel, *, patch: int = 12, config: SeasonalConfig | None = None) -> History:
    """Prepares a panel for tokens; costs a few times the memory of its values.

    Args:
        panel: Any panel.
        patch: P, steps a patch.
        config: Rates of the trailing state.

    Raises:
        PanelError: The panel is shorter than one day and two patches.
    """
    values = np.asarray(panel.values, np.float32)
    need = panel.calendar.slots_per_day + 2 * patch
    if len(values) < need:
        raise PanelError(
            "the panel is too short to say anything about usual days",
            where=panel.meta.city,
            got=f"{len(values)} steps",
            expected=f"at least {need} steps: one day and two patches",
            next_step="ingest more days and build the panel again",
        )
    config = config or SeasonalConfig(patch=patch)
    states, loan = borrow(panel, fold(values, panel.calendar, config), config)
    _, calendar = panel.calendar.extend(patch)
    day, slot = panel.calendar.day, panel.calendar.slot
    seen = np.isfinite(values)
    alive = states.days_seen > 0
    location, scale = states.location[day], states.scale[day]
    usual = ((states.expected[day, slot] - location) / scale).astype(np.float32)
    surprise = np.where(seen, (np.where(seen, values, 0) - location) / scale - usual, 0)
    z = (usual + _carried(surprise, seen, panel.meta.interval_s)).astype(np.float32)
    if loan is not None:
        index = loan.index
        alive[:, index] |= loan.days > 0
        lent = (loan.values - location[:, index]) / scale[:, index]
        use = ~seen[:, index] & np.isfinite(lent) & (states.days_seen[day][:, index] == 0)
        z[:, index] = np.where(use, lent, z[:, index])
    graph = operators(panel.graph)
    covariates, covariates_seen = covariate_features(panel, patch)
    return History(
        z=z,
        seen=seen,
        neighbours=np.stack([np.ascontiguousarray((a @ z.T).T) for a in graph]).astype(np.float32),
        drift=_drift(z - usual, panel.meta.interval_s),
        states=states,
        calendar=calendar,
        graph=graph,
        covariates=covariates,
        covariates_seen=covariates_seen,
        presence=fold_presence(seen, panel.calendar),
        loan=loan,
        alive=alive,
        interval_s=panel.meta.interval_s,
        patch=patch,
    )


def operators(graph: csr_array) -> tuple[csr_array, csr_array, csr_array]:
    """Neighbours (A), second ring (A²) and upstream (Aᵀ), row-normalised; a series with none is its own neighbour."""
    adjacency = csr_array(graph, dtype=np.float32)
    forward, backward = _normalised(adjacency), _normalised(csr_array(adjacency.T))
    return forward, csr_array(forward @ forward), backward


def _normalised(adjacency: csr_array) -> csr_array:
    total = np.asarray(adjacency.sum(axis=1)).ravel()
    alone = (total <= 0).astype(np.float32)
    inverse = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
    own = diags_array(alone, format="csr") if alone.any() else eye_array(len(total), format="csr") * 0
    return csr_array(diags_array(inverse) @ adjacency + own, dtype=np.float32)


def drift_rates(interval_s: int) -> NDArray[np.float64]:
    """[R] weight of a new step in each memory of :data:`DRIFT_HOURS`, never more than one half."""
    return np.minimum(0.5, 1 - np.exp(-interval_s / (3600 * np.asarray(DRIFT_HOURS))))


def _drift(surprise: NDArray[np.float32], interval_s: int) -> NDArray[np.float32]:
    rows = [
        lfilter(np.array([rate], np.float32), np.array([1, rate - 1], np.float32), surprise, axis=0)
        for rate in drift_rates(interval_s)
    ]
    return np.stack(rows).astype(np.float32)


def _carried(surprise: NDArray[np.float32], seen: NDArray[np.bool_], interval_s: int) -> NDArray[np.float32]:
    """[T, S] the surprise where there is one; in a gap, what is left of the last one."""
    if seen.all():
        return surprise
    now = np.arange(len(seen), dtype=np.int32)[:, None]
    last = np.maximum.accumulate(np.where(seen, now, 0), axis=0)
    left = np.exp(-(now - last) * (interval_s / (3600 * _SURPRISE_HOURS)))
    return (np.take_along_axis(surprise, last, axis=0) * left).astype(np.float32)
