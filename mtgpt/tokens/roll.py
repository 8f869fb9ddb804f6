"""Windows beyond the first patch: the forecast's own medians take the place of what was measured.

Shapes as in :mod:`mtgpt.tokens.dense`, with one cut (B = 1) of the whole panel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mtgpt.tokens.borrow import BorrowedState
from mtgpt.tokens.covariates import KNOWN_AHEAD, ROOM
from mtgpt.tokens.dense import Window, calendar_features
from mtgpt.tokens.history import History, drift_rates
from mtgpt.tokens.seasonal import SeasonalConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mtgpt.panel.panel import Panel


class Roll:
    """Continues one window patch by patch; everything it expects is what was known on the day of the cut.

    Args:
        panel: The panel of the history.
        history: From :func:`mtgpt.tokens.history.make_history`.
        cut: Index of the last visible step.
        horizon: Steps wanted in all.
    """

    def __init__(self, panel: Panel, history: History, cut: int, horizon: int) -> None:
        self._cut, self._patch = cut, history.patch
        beyond = max(0, cut + horizon + 2 * history.patch + 1 - len(panel.time))
        _, calendar = panel.calendar.extend(beyond)
        self._history = replace(history, calendar=calendar)
        self._state = BorrowedState(panel, history.loan, SeasonalConfig(patch=history.patch), cut)

    def advance(self, view: Window, medians: NDArray[np.float32], patches: int) -> Window:
        """The window whose context is the patch just forecast.

        Args:
            view: The window that forecast it.
            medians: [1, S, P] normalised.
            patches: How many patches lie between the cut and the end of the new context, at least 1.
        """
        z = np.ascontiguousarray(medians.transpose(0, 2, 1))
        usual = (view.expected - view.location[:, None]) / view.scale[:, None]
        drift = view.drift.copy()
        for r, rate in enumerate(drift_rates(self._history.interval_s)):
            for step in range(z.shape[1]):
                drift[:, r] += np.float32(rate) * (z[:, step] - usual[:, step] - drift[:, r])
        end = self._cut + patches * self._patch
        expected, weekday, spread = self._expect(np.arange(end + 1, end + 1 + self._patch))
        return replace(
            view,
            z=z,
            seen=np.ones_like(view.seen),
            neighbours=np.stack([np.stack([(a @ row.T).T for a in self._history.graph]) for row in z]).astype(
                np.float32
            ),
            drift=drift,
            expected_past=view.expected,
            expected=expected[None],
            weekday=weekday[None],
            spread=spread[None],
            calendar=calendar_features(self._history, np.asarray([end])),
            covariates=self._ahead(view.covariates, end),
        )

    def _ahead(self, covariates: NDArray[np.float32], step: int) -> NDArray[np.float32]:
        """The weather of the cut, the timetable of the step."""
        history, out = self._history, covariates.copy()
        rows = history.covariates[step : step + 1], history.covariates_seen[step : step + 1]
        for part, row in zip((out[:, :ROOM], out[:, ROOM:]), rows, strict=True):
            part[:, KNOWN_AHEAD] = row[:, KNOWN_AHEAD] if len(row) else 0
        return out

    def _expect(
        self, steps: NDArray[np.integer]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        calendar = self._history.calendar
        out: tuple[list[NDArray[np.float32]], ...] = ([], [], [])
        for day in np.unique(calendar.day[steps]):
            slots = calendar.slot[steps[calendar.day[steps] == day]]
            for target, profile in zip(out, self._state.expect(calendar, int(day)), strict=True):
                target.append(profile[slots])
        expected, weekday, spread = (np.concatenate(parts).astype(np.float32) for parts in out)
        return expected, weekday, spread
