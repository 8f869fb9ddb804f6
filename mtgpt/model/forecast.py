"""A forecast: quantiles in physical units for the selected series of one city, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from mtgpt.errors import ModelError, NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

LEVELS = ("spot", "corridor", "network")
SERIES_COLUMNS = ("series_id", "level", "name", "variable", "unit")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecast:
    """Quantiles of the next ``H`` steps of ``S`` series.

    Shapes: S series, H steps, Q quantile levels, L steps of history. A series that cannot be forecast (a dead
    spot) is NaN at all levels of a step, never at some.

    Attributes:
        city: City id.
        at: End of the last visible step, which is the start of the first forecast step (UTC).
        time: Step starts, ``datetime64[s]`` [H], UTC.
        interval_s: Length of a step in seconds.
        time_zone: IANA name of the city's zone.
        series: S rows of the panel's series table; its column ``index`` refers to the full panel.
        levels: Quantile levels, increasing, inside (0, 1), with 0.5 among them.
        quantiles: float32 [S, H, Q] in the series' units, non-decreasing along Q.
        history_time: ``datetime64[s]`` [L], the tail of the visible window.
        history: float32 [S, L], NaN where missing.
        observed: float32 [S, H] of what happened, or None where the panel does not know it yet.
        provenance: Panel, table versions, window, model and reconciliation that produced the numbers.

    Raises:
        ModelError: The arrays do not fit together, or the quantiles cross.
    """

    city: str
    at: np.datetime64
    time: np.ndarray
    interval_s: int
    time_zone: str
    series: pl.DataFrame
    levels: tuple[float, ...]
    quantiles: np.ndarray
    history_time: np.ndarray
    history: np.ndarray
    observed: np.ndarray | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        faults = [*_shape_faults(self), *_level_faults(self.levels)]
        if not faults:
            faults = _quantile_faults(self.quantiles)
        if faults:
            raise ModelError(
                "the forecast does not hold together: " + "; ".join(faults),
                where=self.city,
                next_step="rebuild the panel or train the model again; if it stays, report it as a fault",
            )

    @property
    def n_series(self) -> int:
        """S, the number of series."""
        return self.series.height

    @property
    def horizon(self) -> int:
        """H, the number of steps."""
        return len(self.time)

    @property
    def median(self) -> np.ndarray:
        """Quantile 0.5, float32 [S, H]."""
        return self.quantile(0.5)

    @property
    def zone(self) -> ZoneInfo:
        """The city's time zone."""
        return ZoneInfo(self.time_zone)

    def quantile(self, level: float) -> np.ndarray:
        """One quantile level, float32 [S, H].

        Raises:
            NotFound: The forecast does not carry this level.
        """
        distance = np.abs(np.asarray(self.levels) - level)
        at = int(distance.argmin())
        if distance[at] > 1e-6:
            raise NotFound(
                "the forecast does not carry this quantile level",
                where=self.city,
                got=level,
                expected=list(self.levels),
            )
        return self.quantiles[:, :, at]

    @property
    def coverages(self) -> tuple[float, ...]:
        """Central bands whose two ends are among the levels, narrow to wide: 0.8 is from 0.1 to 0.9."""
        given = np.asarray(self.levels)
        upper = given[given > 0.5 + 1e-6]
        both = np.abs(given[:, None] - (1 - upper)).min(axis=0) <= 1e-6
        return tuple(round(float(2 * level - 1), 6) for level in upper[both])

    def band(self, coverage: float) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end of the central band, float32 [S, H] each; ``coverage`` 0.8 is from 0.1 to 0.9.

        Raises:
            NotFound: The forecast does not carry both ends.
        """
        return self.quantile((1 - coverage) / 2), self.quantile((1 + coverage) / 2)

    def take(self, rows: Sequence[int] | np.ndarray) -> Forecast:
        """The series at these positions (positions in this forecast, not in the panel), in the order given."""
        at = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            series=self.series[at.tolist()] if len(at) else self.series.clear(),
            quantiles=self.quantiles[at],
            history=self.history[at],
            observed=None if self.observed is None else self.observed[at],
        )

    def select(
        self,
        *,
        level: str | None = None,
        spot: str | Sequence[str] | None = None,
        variable: str | None = None,
        corridor: int | None = None,
    ) -> Forecast:
        """The series that match every condition given; see :func:`choose`."""
        return self.take(
            choose(self.series, level=level, spot=spot, variable=variable, corridor=corridor, where=self.city)
        )

    def first_steps(self, horizon: int) -> Forecast:
        """The same forecast cut to its first steps.

        Raises:
            UsageError: The horizon is not between 1 and H.
        """
        if not 1 <= horizon <= self.horizon:
            raise UsageError("the horizon is outside the forecast", got=horizon, expected=f"1 to {self.horizon} steps")
        return replace(
            self,
            time=self.time[:horizon],
            quantiles=self.quantiles[:, :horizon],
            observed=None if self.observed is None else self.observed[:, :horizon],
        )


def choose(
    series: pl.DataFrame,
    *,
    level: str | None = None,
    spot: str | Sequence[str] | None = None,
    variable: str | None = None,
    corridor: int | None = None,
    where: str | None = None,
) -> np.ndarray:
    """Positions of the rows of a panel's series table that match every condition given.

    Args:
        series: Rows of a panel's series table.
        level: ``spot``, ``corridor`` or ``network``.
        spot: One or several of spot id, series id or name; each must exist.
        variable: Name of the variable.
        corridor: Number of the corridor: its own series and its spots, unless ``level`` picks one of the two.
        where: Named in errors, the city as a rule.

    Returns:
        int64 positions, in the table's order.

    Raises:
        NotFound: Nothing matches, or one of the spots does not exist; says what is there.
    """
    keep = np.ones(series.height, dtype=bool)
    for column, wanted in (("level", level), ("variable", variable), ("corridor", corridor)):
        if wanted is None:
            continue
        if column not in series.columns:
            raise NotFound(f"the series carry no {column}", where=where, got=wanted, expected=list(series.columns))
        match = (series[column] == wanted).fill_null(value=False).to_numpy()
        if not match.any():
            there = series[column].drop_nulls().unique().sort().to_list()
            raise NotFound(f"no series with this {column}", where=where, got=wanted, expected=_some(there))
        keep &= match
    if spot is not None:
        named = np.zeros(series.height, dtype=bool)
        for one in [spot] if isinstance(spot, str) else spot:
            named |= _named(series, one, where)
        keep &= named
    if not keep.any():
        given = {"level": level, "spot": spot, "variable": variable, "corridor": corridor}
        raise NotFound(
            "no series matches all conditions",
            where=where,
            got=", ".join(f"{name}={value}" for name, value in given.items() if value is not None),
            next_step="leave one condition out",
        )
    return np.flatnonzero(keep)


def _named(series: pl.DataFrame, wanted: str, where: str | None) -> np.ndarray:
    for column in ("spot_id", "series_id", "name"):
        if column in series.columns:
            match = (series[column] == wanted).fill_null(value=False).to_numpy()
            if match.any():
                return match
    there = series["spot_id"] if "spot_id" in series.columns else series["series_id"]
    alike = there.drop_nulls().unique(maintain_order=True)
    close = alike.filter(alike.str.contains(wanted, literal=True)) if wanted else alike.clear()
    raise NotFound(
        "no spot or series of this name",
        where=where,
        got=wanted,
        expected=_some((close if len(close) else alike).to_list()),
    )


def _some(values: Sequence[Any], limit: int = 8) -> str:
    text = ", ".join(str(value) for value in values[:limit])
    return text if len(values) <= limit else f"{text}, … ({len(values)} in all)"


def _shape_faults(forecast: Forecast) -> list[str]:
    S, H, Q, L = forecast.series.height, len(forecast.time), len(forecast.levels), len(forecast.history_time)
    expected = {"quantiles": (S, H, Q), "history": (S, L), "observed": (S, H)}
    faults = [
        f"{name} has shape {array.shape} where {shape} is due"
        for name, shape in expected.items()
        if (array := getattr(forecast, name)) is not None and array.shape != shape
    ]
    faults += [
        f"{name} is {array.dtype} where datetime64[s] is due"
        for name in ("time", "history_time")
        if (array := getattr(forecast, name)).dtype != np.dtype("datetime64[s]")
    ]
    if H == 0:
        faults.append("there is no step")
    elif not faults and (np.diff(forecast.time) <= np.timedelta64(0, "s")).any():
        faults.append("the steps do not follow each other in time")
    if forecast.interval_s <= 0:
        faults.append(f"the interval is {forecast.interval_s} s")
    missing = [name for name in SERIES_COLUMNS if name not in forecast.series.columns]
    if missing:
        faults.append(f"the series table lacks {', '.join(missing)}")
    return faults


def _level_faults(levels: tuple[float, ...]) -> list[str]:
    given = np.asarray(levels, dtype=np.float64)
    if not ((given > 0) & (given < 1)).all() or (np.diff(given) <= 0).any():
        return [f"the quantile levels {levels} do not increase inside (0, 1)"]
    if not (np.abs(given - 0.5) <= 1e-6).any():
        return [f"the median is not among the quantile levels {levels}"]
    return []


def _quantile_faults(quantiles: np.ndarray) -> list[str]:
    # A comparison with NaN is False, so crossing is looked for first and holes are counted by themselves.
    faults = []
    crossed = (quantiles[:, :, 1:] < quantiles[:, :, :-1]).any(axis=2)
    if crossed.any():
        faults.append(f"quantiles cross in {int(crossed.sum())} of {crossed.size} cells")
    hole = np.isnan(quantiles)
    partly = hole.any(axis=2) & ~hole.all(axis=2)
    if partly.any():
        faults.append(f"quantiles are NaN at some levels only in {int(partly.sum())} of {partly.size} cells")
    return faults
