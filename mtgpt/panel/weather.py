"""Weather as covariates: at each step the newest report that was complete when the step began."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mtgpt.panel.panel import Covariates

if TYPE_CHECKING:
    from collections.abc import Sequence

WEATHER = ("temperature_c", "rain_mm", "wind_m_s")
# An hourly report that is late by two hours still says something; yesterday's does not.
_STALE_INTERVALS = 3


def weather_covariates(weather: pl.LazyFrame, time: np.ndarray, *, names: Sequence[str] = WEATHER) -> Covariates | None:
    """Brings weather reports onto a panel's axis, causally.

    A report over [start, start + interval) is known at its end. A step gets the newest known report, unless that ended
    more than two intervals before the step began; each variable looks for its own newest value.

    Args:
        weather: Rows of the table ``weather`` of one city.
        time: datetime64 [T], UTC, increasing.
        names: Columns to take.

    Returns:
        float32 [T, C], or None where the city has no weather on this axis.
    """
    steps = pl.DataFrame({"time": pl.Series(time.astype("datetime64[us]")).dt.replace_time_zone("UTC")})
    known = weather.select("interval_s", *names, known=pl.col("time_start") + pl.duration(seconds=pl.col("interval_s")))
    known = known.sort("known").collect(engine="streaming")
    values = []
    for name in names:
        reports = known.filter(pl.col(name).is_finite()).select("known", "interval_s", value=pl.col(name))
        stale = pl.duration(seconds=(_STALE_INTERVALS - 1) * pl.col("interval_s"))
        found = steps.join_asof(reports, left_on="time", right_on="known", strategy="backward").select(
            pl.when(pl.col("time") - pl.col("known") <= stale).then(pl.col("value")).cast(pl.Float32)
        )
        values.append(found.to_series().fill_null(float("nan")).to_numpy())
    matrix = np.stack(values, axis=1)
    return Covariates(values=matrix, names=tuple(names)) if np.isfinite(matrix).any() else None
