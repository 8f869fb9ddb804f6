"""A forecast for eyes and for programs: terminal table, JSON, data frame, Parquet, picture.

Times are given in the city's own zone, with their offset, and in UTC beside it. Every form carries the provenance.
"""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mtgpt.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from rich.console import RenderableType

    from mtgpt.model.forecast import Forecast

# More series than this are summed up in one row each.
_FULL_TABLES = 3


def as_table(forecast: Forecast, *, limit: int = 40) -> RenderableType:
    """What a person reads in a terminal of 100 columns.

    Up to three series are shown step by step; more of them in one row each, at four moments of the horizon.

    Args:
        forecast: What to show.
        limit: Most series shown; a line below says how many were left out.
    """
    if forecast.n_series <= _FULL_TABLES:
        parts: list[RenderableType] = []
        for row in range(forecast.n_series):
            parts += [_step_table(forecast, row), Text()]
    else:
        parts = [_summary_table(forecast, limit)]
        if forecast.n_series > limit:
            left_out = forecast.n_series - limit
            parts.append(Text(f"… and {left_out} more series: choose by --spot, --level, --variable, or take --json."))
    return Group(*parts, Text(source_line(forecast), style="dim"))


def as_json(forecast: Forecast) -> dict[str, Any]:
    """The whole forecast as plain, finite JSON values; what is not known is null.

    Numbers are the shortest decimals that mean the same float32, so aggregates still equal the sum of their spots to
    float32's own precision.
    """
    observed = None if forecast.observed is None else _plain(forecast.observed)
    quantiles = _plain(forecast.quantiles)
    names = [quantile_name(level) for level in forecast.levels]
    middle = names.index("median")
    rows = forecast.series.to_dicts()
    return {
        "city": forecast.city,
        "simulated": is_simulated(forecast),
        "at_utc": _utc_text(forecast.at),
        "at_local": moments(forecast, np.array([forecast.at]))[0].isoformat(),
        "time_zone": forecast.time_zone,
        "interval_s": forecast.interval_s,
        "time_utc": [_utc_text(time) for time in forecast.time],
        "time_local": [moment.isoformat() for moment in moments(forecast, forecast.time)],
        "levels": list(forecast.levels),
        "series": [
            {
                **{key: _finite(value) for key, value in row.items()},
                "median": [cell[middle] for cell in quantiles[i]],
                "quantiles": {
                    f"{level:g}": [cell[q] for cell in quantiles[i]] for q, level in enumerate(forecast.levels)
                },
                **({} if observed is None else {"observed": observed[i]}),
            }
            for i, row in enumerate(rows)
        ],
        "provenance": _json_safe(forecast.provenance),
    }


def as_json_text(forecast: Forecast) -> str:
    """:func:`as_json` as a document that people and ``diff`` can read too: one line per fact and per series."""
    lines = [
        f"  {json.dumps(key)}: "
        + (
            json.dumps(value, ensure_ascii=False, allow_nan=False)
            if key != "series"
            else "[\n"
            + ",\n".join(f"    {json.dumps(row, ensure_ascii=False, allow_nan=False)}" for row in value)
            + "\n  ]"
        )
        for key, value in as_json(forecast).items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def as_frame(forecast: Forecast) -> pl.DataFrame:
    """One row per series and step.

    Columns: series_id, level, spot_id, corridor, name, variable, unit, step (from 1), time_utc, time_local, one per
    quantile (``q0.1``, …, ``median``, …, ``q0.9``), observed (null where not known yet).
    """
    S, H = forecast.n_series, forecast.horizon
    known = [
        c for c in ("series_id", "level", "spot_id", "corridor", "name", "variable", "unit") if c in forecast.series
    ]
    facts = forecast.series.select(known)[np.repeat(np.arange(S), H).tolist()] if S else forecast.series.select(known)
    time = pl.Series("time_utc", np.tile(forecast.time.astype("datetime64[us]"), S)).dt.replace_time_zone("UTC")
    observed = np.full((S, H), np.nan, np.float32) if forecast.observed is None else forecast.observed
    return facts.with_columns(
        pl.Series("step", np.tile(np.arange(1, H + 1), S), dtype=pl.Int32),
        time,
        time.dt.convert_time_zone(forecast.time_zone).alias("time_local"),
        *(
            pl.Series(quantile_name(level), forecast.quantiles[:, :, q].ravel(), dtype=pl.Float32, nan_to_null=True)
            for q, level in enumerate(forecast.levels)
        ),
        pl.Series("observed", observed.ravel(), dtype=pl.Float32, nan_to_null=True),
    )


def as_parquet(forecast: Forecast, path: Path) -> None:
    """Writes :func:`as_frame` with the provenance as JSON under the schema's key ``mtgpt``; whole or not at all."""
    table = as_frame(forecast).to_arrow()
    facts = {"city": forecast.city, "at_utc": _utc_text(forecast.at), "time_zone": forecast.time_zone}
    facts |= {"interval_s": forecast.interval_s, "provenance": _json_safe(forecast.provenance)}
    table = table.replace_schema_metadata({"mtgpt": json.dumps(facts, ensure_ascii=False, allow_nan=False)})
    with whole_file(path) as part:
        pq.write_table(table, part, compression="zstd")


def as_png(
    forecast: Forecast,
    path: Path,
    *,
    series: list[str] | None = None,
    kind: Literal["fan", "map"] = "fan",
    title: str | None = None,
) -> None:
    """Draws a forecast.

    Args:
        forecast: What to draw.
        path: Where the PNG goes; whole or not at all.
        series: Series ids to draw; None lets a fan show the most telling few and a map show all spots.
        kind: ``fan`` has one panel per series, history to the left of now and bands to the right. ``map`` shows spots
            coloured by their last value and by their forecast.
        title: Instead of the city's name.

    Raises:
        NotFound: A series is not in the forecast.
        UsageError: A map of spots without a place.
    """
    # Drawing costs half a second to import, and most answers are not pictures.
    from mtgpt.serve import plot  # noqa: PLC0415

    if series is not None:
        chosen = {series_id: row for row, series_id in enumerate(forecast.series["series_id"])}
        if missing := [one for one in series if one not in chosen]:
            raise NotFound("the forecast has no such series", where=forecast.city, got=", ".join(missing))
        forecast = forecast.take([chosen[one] for one in series])
    figure = plot.fan(forecast, title=title) if kind == "fan" else plot.city_map(forecast, title=title)
    with whole_file(path) as part:
        plot.save(figure, part, facts={"Title": f"{forecast.city} forecast", "Description": source_line(forecast)})


def source_line(forecast: Forecast) -> str:
    """Where the numbers come from, in one line."""
    facts = forecast.provenance
    parts = ["Simulated city"] if is_simulated(forecast) else []
    parts.append(f"data until {stamp(moments(forecast, np.array([forecast.at]))[0])}")
    versions = facts.get("table_versions") or {}
    parts += [f"{table} v{version}" for table, version in versions.items() if table == "observation"]
    if facts.get("panel_id"):
        parts.append(f"panel {str(facts['panel_id'])[:8]}")
    model = facts.get("model") or facts.get("model_name")
    if model:
        parts.append(f"model {model}" + (f" {str(facts['model_sha256'])[:8]}" if facts.get("model_sha256") else ""))
    method = facts.get("reconciliation") or facts.get("reconcile")
    if method and method != "none":
        parts.append(f"levels reconciled ({method})")
    return " · ".join(parts)


def city_name(forecast: Forecast) -> str:
    """The city's name where the provenance says it, else its id."""
    return clean(str(forecast.provenance.get("name") or forecast.city))


def is_simulated(forecast: Forecast) -> bool:
    """Whether no real city stands behind the numbers."""
    return bool(forecast.provenance.get("simulated", False))


def moments(forecast: Forecast, time: np.ndarray) -> list[datetime]:
    """Local, zone-aware times."""
    utc = pl.Series(time.astype("datetime64[us]")).dt.replace_time_zone("UTC")
    return utc.dt.convert_time_zone(forecast.time_zone).to_list()


def stamp(moment: datetime) -> str:
    """``Thu 28 Jun 2012 17:00 PDT``."""
    return f"{moment:%a} {moment.day} {moment:%b %Y %H:%M} {moment:%Z}"


def quantile_name(level: float) -> str:
    """Column of a quantile level: ``q0.1``; ``median`` for the one in the middle."""
    return "median" if abs(level - 0.5) <= 1e-6 else f"q{level:g}"


def number_text(value: float, like: float | None = None) -> str:
    """A value with about three digits that matter: ``63.4``, ``0.012``, ``12,345``, ``–`` for none.

    Args:
        value: What to write.
        like: The largest value it stands beside, whose decimals it takes, so that columns align.
    """
    if not math.isfinite(value):
        return "–"
    size = abs(value if like is None else like)
    decimals = 0 if size >= 200 or size == 0 else 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.1 else 4
    return f"{value:,.{decimals}f}"


def series_title(row: Mapping[str, Any]) -> str:
    """``Name – variable``, with the spot's id where the name is not the id itself."""
    name = str(row["name"] or row["series_id"])
    spot = row.get("spot_id")
    label = f"{name} ({spot})" if spot and str(spot) not in name else name
    return f"{label} – {row['variable']}"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A place to write to that becomes ``path`` only when everything was written."""
    if path.exists() and not path.is_file():
        # A rename would put a file in the place of a device or a pipe.
        raise UsageError("not a file", where=path, expected="a new file, or one to replace")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _step_table(forecast: Forecast, row: int) -> Table:
    facts = forecast.series.row(row, named=True)
    wide = forecast.coverages[-1] if forecast.coverages and forecast.coverages[-1] > 0.8 else None
    bands = [coverage for coverage in (0.8, wide) if coverage in forecast.coverages]
    table = Table(
        title=Text(f"{clean(series_title(facts))}{unit_text(facts['unit'], ', {}')}", style="bold"),
        title_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
    )
    local = moments(forecast, forecast.time)
    table.add_column(f"from ({local[0]:%Z})")
    table.add_column("median", justify="right")
    for coverage in bands:
        table.add_column(f"{100 * coverage:g} % band", justify="right")
    known = forecast.observed is not None and bool(np.isfinite(forecast.observed[row]).any())
    if known:
        table.add_column("observed", justify="right")
    largest = _largest(forecast, row)
    for step, moment in enumerate(local):
        new_day = step == 0 or moment.date() != local[step - 1].date()
        cells = [f"{moment:%a} {moment.day:>2} {moment:%b %H:%M}" if new_day else f"{moment:%H:%M}".rjust(16)]
        cells.append(number_text(forecast.median[row, step], largest))
        for coverage in bands:
            low, high = forecast.band(coverage)
            cells.append(_band_text(low[row, step], high[row, step], largest))
        if known and forecast.observed is not None:
            cells.append(number_text(forecast.observed[row, step], largest))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _summary_table(forecast: Forecast, limit: int) -> Table:
    H = forecast.horizon
    steps = sorted({max(0, round(H * share) - 1) for share in (0.25, 0.5, 0.75, 1.0)})
    local = moments(forecast, forecast.time)
    table = Table(
        title=Text(f"Forecast from {stamp(moments(forecast, np.array([forecast.at]))[0])}: median", style="bold"),
        caption=None,
        title_justify="left",
        header_style="bold",
        box=None,
        pad_edge=False,
    )
    table.add_column("series", max_width=34, no_wrap=True, overflow="ellipsis")
    table.add_column("unit", no_wrap=True)
    table.add_column("last", justify="right")
    for step in steps:
        table.add_column(f"{local[step]:%H:%M}", justify="right")
    banded = 0.8 in forecast.coverages
    if banded:
        table.add_column(f"80 % band {local[steps[-1]]:%H:%M}", justify="right")
    last = last_value(forecast.history)
    for row, facts in enumerate(forecast.series.head(limit).iter_rows(named=True)):
        largest = _largest(forecast, row)
        cells = [clean(series_title(facts)), unit_text(facts["unit"]), number_text(last[row], largest)]
        cells += [number_text(forecast.median[row, step], largest) for step in steps]
        if banded:
            low, high = forecast.band(0.8)
            cells.append(_band_text(low[row, steps[-1]], high[row, steps[-1]], largest))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def last_value(history: np.ndarray) -> np.ndarray:
    """The value of the last visible step of each series, NaN where it was missing."""
    return history[:, -1] if history.shape[1] else np.full(len(history), np.nan, np.float32)


def unit_text(unit: str | None, form: str = "{}") -> str:
    """The unit in this form; nothing for a plain ratio."""
    return "" if not unit or unit == "1" else form.format(unit)


def clean(text: str) -> str:
    """Names come from feeds: no control characters reach a terminal or a picture."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _largest(forecast: Forecast, row: int) -> float:
    values = forecast.median[row]
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def _band_text(low: float, high: float, largest: float) -> str:
    return f"{number_text(low, largest)} … {number_text(high, largest)}" if math.isfinite(low) else "–"


def _plain(values: np.ndarray) -> list[Any]:
    """Nested lists of the shortest decimals of float32, null for what is not finite."""
    short = values.astype(np.float32).astype("U32").astype(np.float64).astype(object)
    short[~np.isfinite(values)] = None
    return short.tolist()


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json_safe(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return _finite(value) if value is None or isinstance(value, str | int | float | bool) else str(value)


def _utc_text(time: np.datetime64) -> str:
    return f"{np.datetime_as_string(time, unit='s')}Z"
