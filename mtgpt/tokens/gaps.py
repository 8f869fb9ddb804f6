"""What fills the gaps of a patch that is over: anchors for steps that were not measured, looking both ways.

Shapes: T steps, S series, B cuts, N series of a sequence, P steps a patch, G = 3 gap anchors.

A forecast sees the past of its cut. An imputation may also see what came after the gap, and only here does it: the
features of the tokens stay causal, so that the same network, in the same pass, does both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtgpt.tokens.dense import Scale
    from mtgpt.tokens.history import History

GAP_ANCHORS = ("bridge", "expected", "weekday")
_LONGEST_SPREAD = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridges:
    """A straight line of surprise over every gap, from its last value before to its first one after.

    Attributes:
        values: [T, S] physical units; measured values where there are any. A gap that has no end is carried on, and a
            silent spot is what its neighbours lend.
        reach: [T, S] how many steps ahead a last value would have to be carried to be about as wrong as the bridge is
            here; 0 where measured.
    """

    values: NDArray[np.float32]
    reach: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Input of the filling head for one context patch.

    Attributes:
        anchors: [B, N, P, G] normalised by the state of the cut: bridge, expectation by day type and by weekday.
        log_error: [B, N, P, G] log of how wrong each recently was.
        spread: [B, N, P] usual deviation from the expectation, normalised and capped.
    """

    anchors: NDArray[np.float32]
    log_error: NDArray[np.float32]
    spread: NDArray[np.float32]


def bridge(history: History) -> Bridges:
    """Prepares a history for filling; looks at all of it."""
    calendar, states, steps = history.calendar, history.states, history.steps
    day, slot = calendar.day[:steps], calendar.slot[:steps]
    location, scale, usual = states.location[day], states.scale[day], states.expected[day, slot]
    values = history.z * scale + location
    now = np.arange(steps)
    before = np.maximum.accumulate(np.where(history.seen, now[:, None], -1), axis=0)
    after = np.minimum.accumulate(np.where(history.seen, now[:, None], steps)[::-1], axis=0)[::-1]
    open_start, open_end = before < 0, after >= steps
    width = np.maximum(after - before, 1)
    ahead = ((now[:, None] - before) / width).astype(np.float32)
    surprise = values - usual
    first = np.take_along_axis(surprise, np.maximum(before, 0), axis=0)
    last = np.take_along_axis(surprise, np.minimum(after, steps - 1), axis=0)
    inside = ~history.seen & ~open_start & ~open_end
    values = np.where(inside, usual + first + ahead * (last - first), values)
    to, on = now[:, None] - before, after - now[:, None]
    both = to * on / np.maximum(to + on, 1)
    reach = np.where(open_start, on, np.where(open_end, to, both))
    reach = np.where(open_start & open_end, steps, reach)
    return Bridges(values=values.astype(np.float32), reach=np.where(history.seen, 0, reach).astype(np.float32))


def gaps(
    history: History, over: Bridges, cuts: NDArray[np.integer], index: NDArray[np.int64] | slice, state: Scale
) -> Gaps:
    """Anchors of the patches that end at some cuts.

    Args:
        history: Of the panel.
        over: From :func:`bridge` of the same history.
        cuts: [B] the last step of each patch.
        index: The series of the sequence.
        state: From :func:`mtgpt.tokens.dense.encode` of the same cuts and series.
    """
    patch, states, calendar = history.patch, history.states, history.calendar
    past = cuts[:, None] + np.arange(1 - patch, 1)
    today, day, slot = calendar.day[cuts], calendar.day[past], calendar.slot[past]
    rows = [x[past][:, :, index] for x in (over.values,)]
    rows += [x[day, slot][:, :, index] for x in (states.expected, states.weekday)]
    location, scale = state.location[:, None], state.scale[:, None]
    anchors = np.stack([(row - location) / scale for row in rows], -1).transpose(0, 2, 1, 3)
    error = states.error[today][:, index]  # B, N, P, A
    far = np.clip(np.ceil(over.reach[past][:, :, index]).astype(np.int64), 1, patch).transpose(0, 2, 1) - 1
    carried = np.take_along_axis(error[..., 0], far, axis=2)
    spread = np.minimum(states.spread[day, slot][:, :, index] / scale, _LONGEST_SPREAD).transpose(0, 2, 1)
    log_error = np.log(np.maximum(np.stack([carried, error[..., 1], error[..., 2]], -1), 1e-2))
    return Gaps(
        anchors=np.ascontiguousarray(anchors, np.float32),
        log_error=log_error.astype(np.float32),
        spread=np.ascontiguousarray(spread, np.float32),
    )


def past_targets(
    values: NDArray[np.float32], cuts: NDArray[np.integer], index: NDArray[np.int64] | slice, patch: int, state: Scale
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The patch that ends at each cut in normalised units and where it is known, both [B, N, P].

    Args:
        values: [T, S] with the values that the history does not have, NaN = unknown.
        cuts: [B].
        index: The series of the sequence.
        patch: P.
        state: As in :func:`gaps`.
    """
    truth = values[cuts[:, None] + np.arange(1 - patch, 1)][:, :, index].transpose(0, 2, 1)
    known = np.isfinite(truth)
    normal = (np.where(known, truth, 0) - state.location[..., None]) / state.scale[..., None]
    return np.where(known, normal, 0).astype(np.float32), known
