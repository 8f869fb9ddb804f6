"""A small made-up city for tests: rush hours, a jam that travels along a line of detectors, noise, some gaps."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from mtgpt.panel.assemble import make_panel
from mtgpt.panel.calendar import ServiceRules, calendar_of
from mtgpt.panel.panel import Panel, PanelMeta


def small_panel(*, days: int = 9, spots: int = 8, interval_s: int = 900, gaps: float = 0.02, seed: int = 3) -> Panel:
    """Speeds of a line of detectors, starting on a Monday in New York."""
    rng = np.random.default_rng(seed)
    rules = ServiceRules(time_zone="America/New_York", interval_s=interval_s, country="US")
    start = np.datetime64("2024-03-04T05:00:00", "s")
    time = start + np.arange(days * 86_400 // interval_s) * np.timedelta64(interval_s, "s")
    calendar = calendar_of(time, rules)
    hour = calendar.slot * interval_s / 3600
    workday = ~calendar.day_off[calendar.day]
    values = np.empty((len(time), spots), np.float32)
    for s in range(spots):
        rush = np.exp(-(((hour - 8 - 0.1 * s) / 1.2) ** 2)) + np.exp(-(((hour - 17 - 0.1 * s) / 1.5) ** 2))
        strength = 40 * (0.6 + 0.4 * rng.random(calendar.day.max() + 1))[calendar.day]
        values[:, s] = 100 + 2 * s - strength * rush * workday + rng.normal(0, 3, len(time))
    values[rng.random(values.shape) < gaps] = np.nan
    series = pl.DataFrame(
        {
            "spot_id": [f"d{s}" for s in range(spots)],
            "variable": ["speed"] * spots,
            "unit": ["km/h"] * spots,
            "mode": ["road"] * spots,
            "kind": ["detector"] * spots,
            "lon": [-74 + 0.01 * s for s in range(spots)],
            "lat": [40.7] * spots,
        }
    )
    line = csr_array((np.ones(spots - 1, np.float32), (np.arange(spots - 1), np.arange(1, spots))), (spots, spots))
    meta = PanelMeta(city="line", name="Line", interval_s=interval_s, time_zone="America/New_York", simulated=True)
    return make_panel(values, time, series, meta=meta, graph=line, calendar=calendar, corridor_size=4)
