"""A small forecast with everything in it: three scales, a dead spot, a hostile name, places, what happened after."""

from __future__ import annotations

import numpy as np
import polars as pl

from mtgpt.model.forecast import Forecast

LEVELS = (0.025, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.975)


def small_forecast(
    *,
    spots: int = 3,
    horizon: int = 12,
    history: int = 40,
    interval_s: int = 300,
    at: str = "2012-06-14T00:00:00",
    zone: str = "America/Los_Angeles",
    night_h: int = 0,
    observed: bool = True,
    dead: int | None = None,
    simulated: bool = False,
) -> Forecast:
    """Spots, then one corridor, then the network; ``night_h`` hours without service before ``at``."""
    rng = np.random.default_rng(spots)
    S, step, now = spots + 2, np.timedelta64(interval_s, "s"), np.datetime64(at, "s")
    time = now + np.arange(horizon) * step
    past = now - np.timedelta64(night_h, "h") - np.arange(history, 0, -1) * step
    median = rng.gamma(9, 10, (S, 1)) + rng.normal(0, 2, (S, horizon)).cumsum(axis=1)
    width = np.sqrt(np.arange(1, horizon + 1))[None, :, None]
    quantiles = (median[:, :, None] + 3 * width * np.linspace(-2, 2, len(LEVELS))).clip(0).astype(np.float32)
    measured = (median[:, :1] + rng.normal(0, 3, (S, history))).astype(np.float32)
    if dead is not None:
        quantiles[dead], measured[dead] = np.nan, np.nan
    number = range(spots)
    series = pl.DataFrame(
        {
            "index": pl.Series(range(S), dtype=pl.UInt32),
            "series_id": [*(f"speed@{100 + i}" for i in number), "speed@corridor:0", "speed@network"],
            "level": [*("spot" for _ in number), "corridor", "network"],
            "spot_id": [*(str(100 + i) for i in number), None, None],
            "name": [*(f"Exit {i} [north]" for i in number), "Corridor 1", "Network"],
            "variable": ["speed"] * S,
            "unit": ["km/h"] * S,
            "corridor": pl.Series([*(0 for _ in number), 0, None], dtype=pl.Int32),
            "lon": [*(-118.3 + 0.01 * i for i in number), None, None],
            "lat": [*(34.0 + 0.02 * (i % 3) for i in number), None, None],
        }
    )
    return Forecast(
        city="harbour",
        at=now if not night_h else past[-1] + step,
        time=time,
        interval_s=interval_s,
        time_zone=zone,
        series=series,
        levels=LEVELS,
        quantiles=quantiles,
        history_time=past,
        history=measured,
        observed=(median + rng.normal(0, 3, median.shape)).astype(np.float32) if observed else None,
        provenance={
            "city": "harbour",
            "simulated": simulated,
            "panel_id": "ab12cd34ef56",
            "table_versions": {"observation": np.int64(12)},
            "model": "nano",
            "model_sha256": "fe12cd34aa",
            "reconciliation": "wls",
            "window": ["2012-05-01T07:00:00Z", "2012-06-14T00:00:00Z"],
            "loss": float("nan"),
        },
    )
