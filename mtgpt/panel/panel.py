"""The panel: every series of one city on one regular time axis, with graph, scales, calendar and covariates.

Shapes: T steps, S series (N spots first, then corridors, then network series), D service days, C covariates.

**Causality.** A cell at step t depends only on what was measured at or before t. The exception is fixed structure,
which is the same at all t: which series exist, the graph, the corridor assignment and the aggregation weights.
Structure computed from measured values (aggregation weights, which series are the largest) looks at the first 60 % of
the axis only, the training part of the evaluation split.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mtgpt.errors import NotFound, PanelError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from mtgpt.panel.calendar import Calendar

TRAINING_SHARE = 0.6
LEVELS = ("spot", "corridor", "network")
KNOWN_AHEAD = frozenset({"transit_departures"})
"""Names of covariates that are known before their steps come."""

SERIES_SCHEMA = pl.Schema(
    {
        "index": pl.UInt32(),
        "series_id": pl.String(),
        "level": pl.String(),
        "spot_id": pl.String(),
        "name": pl.String(),
        "variable": pl.String(),
        "unit": pl.String(),
        "mode": pl.String(),
        "kind": pl.String(),
        "corridor": pl.Int32(),
        "lon": pl.Float64(),
        "lat": pl.Float64(),
        "counted": pl.Boolean(),
        "aggregate": pl.String(),
    }
)

TRANSFER_SCHEMA = pl.Schema({"from_spot": pl.String(), "to_spot": pl.String(), "distance_m": pl.Float64()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Covariates:
    """What is known about each step at its start, beside the series.

    ``temperature_c``, ``rain_mm`` and ``wind_m_s`` are reports of weather: a step knows those that were complete when
    it began, and nobody knows the next one. ``transit_departures`` is a timetable and known ahead, so a forecast may
    look at the steps that it is about: in ``values`` inside the panel, in ``future`` beyond its end. The columns that
    may be read that way are :data:`KNOWN_AHEAD`.

    Attributes:
        values: float32 [T, C], NaN = not known.
        names: C names, with the unit in the name (``temperature_c``).
        future: float32 [F, C], the F steps after the last one as ``calendar.extend(F)`` counts them, NaN in columns
            that nobody knows ahead; None where no column is known ahead.
    """

    values: np.ndarray
    names: tuple[str, ...]
    future: np.ndarray | None = None

    def slice(self, start: int, stop: int) -> Covariates:
        """Steps ``start:stop``; what is known ahead of the steps after them stays known."""
        future = self.future
        if future is not None:
            after = np.concatenate([self.values[stop : stop + len(future)], future])[: len(future)]
            ahead = np.array([name in KNOWN_AHEAD for name in self.names])
            future = np.where(ahead, after, np.float32(np.nan))
        return Covariates(values=self.values[start:stop], names=self.names, future=future)


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelMeta:
    """Where a panel comes from, so that a forecast can name its data exactly.

    Attributes:
        city: City id.
        name: City name for people.
        interval_s: Length of a step in seconds.
        time_zone: IANA name.
        simulated: True where no real feed stands behind it.
        table_versions: Delta version of each table it was first read from; later versions may hold the same data.
        contracts: sha256 of each contract those tables obey.
        batches: Number of ingest batches in it, where known.
        built_at: ISO 8601 UTC.
        panel_id: sha256 over content and recipe: two panels of the same id are the same panel.
        spec: The recipe: the manifest's panel section as plain values.
        notes: Facts about the build worth showing (series left out and why, seconds, …); not part of the id.
    """

    city: str
    name: str
    interval_s: int
    time_zone: str
    simulated: bool = False
    table_versions: dict[str, int] = field(default_factory=dict)
    contracts: dict[str, str] = field(default_factory=dict)
    batches: int | None = None
    built_at: str = ""
    panel_id: str = ""
    spec: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """All series of one city at one interval.

    Attributes:
        values: float32 [T, S], NaN = missing, in each series' unit; memory-mapped when opened from disk.
        time: datetime64[s] [T], UTC start of each step; service days and hours only.
        series: S rows in panel order, columns of :data:`SERIES_SCHEMA`. A corridor is a set of spots of one mode; it
            has one series per variable measured there, and all series of those spots carry its number.
        graph: float32 [S, S], weights from → to, zero diagonal, rows not normalised; edges join series of one
            variable and one level.
        aggregation: float32 [S_agg, N]: fully observed aggregates = aggregation @ spots.
        calendar: Local time of the steps.
        covariates: Weather and the like, or None.
        meta: Provenance.
        transfers: Where travellers change modes, columns of :data:`TRANSFER_SCHEMA`: spots of two modes near each
            other, in both directions, by spot id; one end at least has a series here. They are no edges of ``graph``:
            its weights diffuse one variable, and bikes in a dock do not diffuse into passengers of a station.
            Explanations and what-ifs follow them.
    """

    values: np.ndarray
    time: np.ndarray
    series: pl.DataFrame
    graph: csr_array
    aggregation: csr_array
    calendar: Calendar
    covariates: Covariates | None
    meta: PanelMeta
    transfers: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=TRANSFER_SCHEMA))

    def __post_init__(self) -> None:
        steps, count = self.values.shape
        spots = self.n_spot
        facts = {
            "time": (self.time.shape, (steps,)),
            "series": (self.series.height, count),
            "graph": (self.graph.shape, (count, count)),
            "aggregation": (self.aggregation.shape, (count - spots, spots)),
            "calendar": (self.calendar.day.shape, (steps,)),
        }
        if self.covariates is not None:
            names = len(self.covariates.names)
            facts["covariates"] = (self.covariates.values.shape, (steps, names))
            if self.covariates.future is not None:
                facts["covariates ahead"] = (self.covariates.future.shape[1:], (names,))
        for name, (got, expected) in facts.items():
            if got != expected:
                raise PanelError("the parts of a panel do not fit together", where=name, got=got, expected=expected)

    @property
    def n_step(self) -> int:
        """T."""
        return self.values.shape[0]

    @property
    def n_series(self) -> int:
        """S."""
        return self.values.shape[1]

    @property
    def n_spot(self) -> int:
        """N: number of spot series, which come first."""
        return int((self.series["level"] == "spot").sum())

    @property
    def spots(self) -> np.ndarray:
        """float32 [T, N]: the spot series (a view)."""
        return self.values[:, : self.n_spot]

    @property
    def aggregates(self) -> np.ndarray:
        """float32 [T, S − N]: corridor and network series (a view), in the row order of ``aggregation``."""
        return self.values[:, self.n_spot :]

    def slice(self, start: int | None = None, stop: int | None = None) -> Panel:
        """Steps ``start:stop`` of the same series; values are views, service days are counted from 0 again."""
        first, last, _ = slice(start, stop).indices(self.n_step)
        covariates = None if self.covariates is None else self.covariates.slice(first, last)
        return replace(
            self,
            values=self.values[first:last],
            time=self.time[first:last],
            calendar=self.calendar.slice(first, last),
            covariates=covariates,
        )

    def steps_until(self, at: np.datetime64) -> int:
        """Number of steps that have ended at ``at`` (UTC): the visible steps of a forecast made at that moment."""
        ends = self.time + np.timedelta64(self.meta.interval_s, "s")
        return int(np.searchsorted(ends, at.astype("datetime64[s]"), side="right"))

    def indices(
        self, *, level: str | None = None, variable: str | None = None, spot_id: str | None = None
    ) -> np.ndarray:
        """Panel positions (int64) of the series that fit all given facts.

        Raises:
            NotFound: If none does.
        """
        asked = {"level": level, "variable": variable, "spot_id": spot_id}
        asked = {key: value for key, value in asked.items() if value is not None}
        found = self.series.filter(*(pl.col(key) == value for key, value in asked.items()))
        if found.height == 0:
            raise NotFound(
                "no such series",
                where=self.meta.city,
                got=", ".join(f"{key} {value}" for key, value in asked.items()),
                expected=f"levels {', '.join(LEVELS)}; variables {', '.join(sorted(self.series['variable'].unique()))}",
                next_step=f"see `mtgpt panel info {self.meta.city} --series`",
            )
        return found["index"].to_numpy().astype(np.int64)
