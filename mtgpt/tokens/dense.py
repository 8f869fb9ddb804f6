"""The dense rendering: one patch of one series becomes one row of features.

Shapes: B cuts, K context patches, N series of the sequence, P steps a patch, F features, A = 3 anchors, C calendar
features.

Three verbs with their state passed explicitly: ``encode → (tokens, state)``, ``targets(…, state)``,
``decode(…, state)``; physical units return exactly. Nothing identifies a spot or a city, so a new city needs no
training. A **cut** is the index of the last visible step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtgpt.tokens.covariates import ROOM

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtgpt.tokens.history import History

_LONGEST_SPREAD = 3.0
_SURPRISE_CAP = 20.0
# Beyond a week the number of days seen says nothing about a series but which day it is, and a net learns days by heart.
_DAYS_THAT_MATTER = 7.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What is visible at B cuts of a whole panel, in normalised units; the input of :func:`encode`.

    All with the series axis last and S series, so that a roll-forward can append to it.

    Attributes:
        z: [B, P, S] the context patch.
        seen: [B, P, S] 1 where measured.
        neighbours: [B, G, P, S] the patch diffused over the graph.
        drift: [B, R, S] at the cut.
        location, scale: [B, S] physical units.
        expected_past: [B, P, S] in physical units, of the patch.
        expected, weekday, spread: [B, P, S] in physical units, of the next patch.
        error: [B, S, P, A].
        days_seen: [B, S].
        calendar: [B, C] of the next patch.
        covariates: [B, 2 V] at the cut, values and mask.
    """

    z: NDArray[np.float32]
    seen: NDArray[np.float32]
    neighbours: NDArray[np.float32]
    drift: NDArray[np.float32]
    location: NDArray[np.float32]
    scale: NDArray[np.float32]
    expected_past: NDArray[np.float32]
    expected: NDArray[np.float32]
    weekday: NDArray[np.float32]
    spread: NDArray[np.float32]
    error: NDArray[np.float32]
    days_seen: NDArray[np.float32]
    calendar: NDArray[np.float32]
    covariates: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Model input; numpy, so that every engine can take it.

    Attributes:
        features: [B, N, F] per series.
        calendar: [B, C] shared by the series of a cut.
        anchors: [B, N, P, A] last value and the two expectations of the next patch, normalised.
        log_error: [B, N, P, A] log of each anchor's recent error.
        spread: [B, N, P] usual deviation from the expectation, normalised and capped.
    """

    features: NDArray[np.float32]
    calendar: NDArray[np.float32]
    anchors: NDArray[np.float32]
    log_error: NDArray[np.float32]
    spread: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The state that leads back to physical units: ``value = normalised × scale + location``, each [B, N]."""

    location: NDArray[np.floating]
    scale: NDArray[np.floating]


def window(history: History, cuts: NDArray[np.integer], index: NDArray[np.integer] | slice = slice(None)) -> Window:
    """Cuts windows out of a history.

    Args:
        history: Of the panel.
        cuts: [B] index of the last visible step; at least ``history.first_cut()``, below ``history.steps``.
        index: The series wanted (all by default).
    """
    patch, states, calendar = history.patch, history.states, history.calendar
    past = cuts[:, None] + np.arange(1 - patch, 1)
    nxt = cuts[:, None] + np.arange(1, patch + 1)
    today = calendar.day[cuts]
    slots = calendar.slots_per_day
    # Steps of the next day are read as this day's state foresees them; steps of the day before from their own day.
    shift = calendar.day[nxt] - today[:, None]
    ahead = calendar.slot[nxt] + slots * np.minimum(shift, 1)
    ahead = np.minimum(ahead, states.expected.shape[1] - 1)
    d = today[:, None]
    return Window(
        z=history.z[past][:, :, index],
        seen=history.seen[past][:, :, index].astype(np.float32),
        neighbours=np.stack([g[past][:, :, index] for g in history.neighbours], 1),
        drift=np.stack([r[cuts][:, index] for r in history.drift], 1),
        location=states.location[today][:, index],
        scale=states.scale[today][:, index],
        expected_past=states.expected[calendar.day[past], calendar.slot[past]][:, :, index],
        expected=states.expected[d, ahead][:, :, index],
        weekday=states.weekday[d, ahead][:, :, index],
        spread=states.spread[d, ahead][:, :, index],
        error=states.error[today][:, index],
        days_seen=states.days_seen[today][:, index],
        calendar=calendar_features(history, cuts),
        covariates=np.concatenate([history.covariates[cuts], history.covariates_seen[cuts]], -1),
    )


def calendar_features(history: History, cuts: NDArray[np.integer]) -> NDArray[np.float32]:
    """[B, C]: harmonics of the time of day, day off and holiday at the cut and at the horizon, log interval."""
    calendar = history.calendar
    last = np.minimum(cuts + history.patch, len(calendar.day) - 1)
    angle = 2 * np.pi * calendar.slot[cuts] / calendar.slots_per_day
    columns = [f(k * angle) for k in (1, 2, 3) for f in (np.sin, np.cos)]
    columns += [flag[calendar.day[at]] for flag in (calendar.day_off, calendar.holiday) for at in (cuts, last)]
    columns.append(np.full(len(cuts), np.log(history.interval_s / 300)))
    return np.stack(columns, -1).astype(np.float32)


def encode(view: Window) -> tuple[Tokens, Scale]:
    """Renders windows as tokens and the state that decodes them."""
    location, scale = view.location[:, None], view.scale[:, None]

    def normal(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return (x - location) / scale

    z = view.z
    last = z[:, -1:]
    expected, weekday = normal(view.expected), normal(view.weekday)
    spread = np.minimum(view.spread / scale, _LONGEST_SPREAD)
    log_error = np.log(np.maximum(view.error, 1e-2))  # [B, S, P, A]
    beside = view.neighbours - last[:, None]
    parts = [
        z - last,
        expected - last,
        weekday - expected,
        normal(view.expected_past) - z,
        spread,
        beside.reshape(len(z), -1, z.shape[-1]),
        view.seen,
        view.drift,
        np.moveaxis(log_error[:, :, [0, 5, -1] if log_error.shape[2] > 5 else [0, -1, -1]], 1, -1).reshape(
            len(z), -1, z.shape[-1]
        ),
        np.stack(
            [
                last[:, 0],
                z.std(1),
                beside[:, 0, -1],
                np.log1p(np.abs(view.location / view.scale)),
                np.log1p(np.minimum(view.days_seen, _DAYS_THAT_MATTER)) / 2,
            ],
            1,
        ),
    ]
    features = np.concatenate(parts, 1).transpose(0, 2, 1)
    anchors = np.stack([np.broadcast_to(last, expected.shape), expected, weekday], -1).transpose(0, 2, 1, 3)
    return (
        Tokens(
            # A detector that jumps by hundreds of its usual deviations must not saturate its whole corridor.
            features=np.ascontiguousarray(np.clip(features, -_SURPRISE_CAP, _SURPRISE_CAP)),
            calendar=np.concatenate([view.calendar, view.covariates], -1),
            anchors=np.ascontiguousarray(anchors),
            log_error=log_error,
            spread=np.ascontiguousarray(spread.transpose(0, 2, 1)),
        ),
        Scale(location=view.location, scale=view.scale),
    )


def feature_count(patch: int) -> int:
    """F, for a patch of P steps."""
    return 9 * patch + 3 + 9 + 5


CALENDAR_COUNT = 6 + 4 + 1 + 2 * ROOM
"""C: harmonics, day types, interval, and covariates with their mask, which stand last."""


def targets(
    values: NDArray[np.float32], cuts: NDArray[np.integer], index: NDArray[np.integer] | slice, patch: int, state: Scale
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The next patch in normalised units and where it was measured, both [B, N, P].

    Args:
        values: [T, S] the panel's values, NaN = missing.
        cuts: [B]; ``cuts + patch`` must lie inside the panel.
        index: The series of the sequence.
        patch: P.
        state: From :func:`encode` of the same cuts and series.
    """
    truth = values[cuts[:, None] + np.arange(1, patch + 1)][:, :, index].transpose(0, 2, 1)
    seen = np.isfinite(truth)
    normal = (np.where(seen, truth, 0) - state.location[..., None]) / state.scale[..., None]
    return np.where(seen, normal, 0).astype(np.float32), seen


def decode(quantiles: NDArray[np.floating], state: Scale) -> NDArray[np.float64]:
    """Quantiles [B, N, P, Q] back in physical units, non-decreasing along Q."""
    physical = quantiles.astype(np.float64) * state.scale[..., None, None] + state.location[..., None, None]
    return np.sort(physical, axis=-1)
