"""Which series of a forecast a reader sees, and each of them as a fan with its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtgpt.eval.report_html import Html, el, number
from mtgpt.eval.report_map import some_visible
from mtgpt.eval.report_svg import Fan, fan
from mtgpt.eval.report_time import clock, local, moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mtgpt.model.forecast import Forecast
    from mtgpt.panel.panel import Panel

_BANDS = (0.95, 0.8, 0.5)
_HISTORY_STEPS = 30
_MOST_FANS = 6
_FIRST = ("speed", "flow")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pick:
    row: int
    label: str


def fans(forecasts: Sequence[Forecast], panel: Panel) -> list[Html]:
    """A legend, and for every forecast one sentence and a card per chosen series."""
    shown = sorted({c for forecast in forecasts for c in _bands(forecast)})
    keys = [_key("line history", "measured before"), _key("line median", "median forecast")]
    keys += [_key(f"area band{round(c * 100)}", f"{c:.0%} of outcomes expected inside") for c in shown]
    if any(forecast.observed is not None for forecast in forecasts):
        keys.append(_key("dot observed", "what really happened"))
    return [
        el("p", keys, class_="legend"),
        *(
            el(
                "section",
                el("h3", f"Made at {moment(forecast)}"),
                el("p", _sentence(forecast), class_="lead"),
                el("div", [_card(forecast, pick) for pick in _picks(forecast, panel)], class_="cards"),
            )
            for forecast in forecasts
        ),
    ]


def _picks(forecast: Forecast, panel: Panel) -> list[_Pick]:
    # The whole city, what changes most, the largest miss (a reader should see it), the busiest spot of other variables.
    level, variable = (forecast.series[what].to_numpy() for what in ("level", "variable"))
    main = "speed" if "speed" in variable else str(variable[0])
    size = _sizes(forecast, panel)
    change = np.nan_to_num(np.abs(forecast.median[:, -1] - forecast.median[:, 0]) / size, nan=-1.0)
    mode = forecast.series["mode"].to_numpy()
    # Where other modes want to be seen too, the city's first variable speaks for it.
    whole = 1 if len(set(mode)) > 2 else 2
    found = [_Pick(row=row, label="Whole city") for row in _network(forecast)[:whole]]

    def add(label: str, rows: np.ndarray, rank: np.ndarray) -> None:
        taken = {pick.row for pick in found}
        rows = np.array([row for row in rows if row not in taken and rank[row] >= 0], dtype=np.int64)
        if len(rows) and len(found) < _MOST_FANS:
            found.append(_Pick(row=int(rows[rank[rows].argmax()]), label=label))

    spots = level == "spot"
    add("Corridor that changes most", np.flatnonzero((level == "corridor") & (variable == main)), change)
    add("Spot that changes most", np.flatnonzero(spots & (variable == main)), change)
    if forecast.observed is not None:
        miss = np.nan_to_num(np.abs(forecast.observed - forecast.median), nan=-1.0).max(axis=1) / size
        add("Largest miss of all spots", np.flatnonzero(spots & (variable == main)), miss)
    busy = np.nan_to_num(forecast.median.mean(axis=1), nan=-1.0)
    for other, of_mode in dict.fromkeys(zip(map(str, variable), map(str, mode), strict=True)):
        taken = {(str(variable[pick.row]), str(mode[pick.row])) for pick in found}
        seen = {of for _, of in taken}
        # A mode that nobody has seen yet comes before another variable of one that everybody has.
        if (other, of_mode) not in taken and (of_mode not in seen or len(set(mode)) <= len(seen)):
            add(f"Spot with most {other}", np.flatnonzero(spots & (variable == other) & (mode == of_mode)), busy)
    return found


def _sizes(forecast: Forecast, panel: Panel) -> np.ndarray:
    if "index" not in forecast.series.columns:
        return np.ones(forecast.n_series)
    part = some_visible(panel, forecast)[:, forecast.series["index"].to_numpy().astype(np.int64)]
    part = np.abs(np.nan_to_num(part))
    return np.maximum(np.percentile(part, 95, axis=0), 1e-6)


def _card(forecast: Forecast, pick: _Pick) -> Html:
    row = forecast.series.row(pick.row, named=True)
    name = _capital(str(row["name"] or row["series_id"]))
    at = forecast.at.astype("datetime64[s]")
    tail = slice(max(0, len(forecast.history_time) - _HISTORY_STEPS), None)
    half = forecast.interval_s / 2
    data = Fan(
        history_x=(forecast.history_time[tail] - at).astype(np.float64) + half,
        history=forecast.history[pick.row, tail],
        ahead_x=(forecast.time - at).astype(np.float64) + half,
        end=float((forecast.time[-1] - at).astype(np.float64)) + forecast.interval_s,
        median=forecast.median[pick.row],
        bands=[(coverage, *_band(forecast, coverage, pick.row)) for coverage in _bands(forecast)],
        observed=None if forecast.observed is None else forecast.observed[pick.row],
        unit=str(row["unit"]),
        description=_describe(forecast, pick.row, name),
    )
    label = el("span", pick.label, class_="eyebrow")
    caption = el("figcaption", label, el("b", name), f" · {row['variable']}")
    return el("figure", caption, fan(data, clock=clock(forecast)), _numbers(forecast, pick.row, name), class_="card")


def _numbers(forecast: Forecast, row: int, name: str) -> Html:
    columns = [("Median", forecast.median[row])]
    if 0.8 in _bands(forecast):
        low, high = _band(forecast, 0.8, row)
        columns += [("80% from", low), ("to", high)]
    if forecast.observed is not None:
        columns.append(("Happened", forecast.observed[row]))
    head = el("tr", el("th", "From", scope="col"), [el("th", what, scope="col", class_="n") for what, _ in columns])
    body = [
        el(
            "tr",
            el("th", local(time, forecast.time_zone).strftime("%H:%M"), scope="row"),
            [el("td", number(float(values[step])), class_="n") for _, values in columns],
        )
        for step, time in enumerate(forecast.time)
    ]
    caption = el("caption", f"{name}, {forecast.series['unit'][row]}", class_="away")
    return el("details", el("summary", "Numbers"), el("table", caption, el("thead", head), el("tbody", body)))


def _sentence(forecast: Forecast) -> str:
    rows = _network(forecast)
    return _describe(forecast, rows[0], "The whole city") if rows else ""


def _network(forecast: Forecast) -> list[int]:
    rows = np.flatnonzero((forecast.series["level"] == "network").to_numpy()).tolist()
    names = forecast.series["variable"]
    return sorted(rows, key=lambda row: _FIRST.index(names[row]) if names[row] in _FIRST else len(_FIRST))


def _describe(forecast: Forecast, row: int, name: str) -> str:
    unit = forecast.series["unit"][row]
    end = local(forecast.time[-1] + np.timedelta64(forecast.interval_s, "s"), forecast.time_zone).strftime("%H:%M")
    last = forecast.history[row][np.isfinite(forecast.history[row])]
    text = f"{name}, {forecast.series['variable'][row]}: "
    if last.size:
        text += f"{number(float(last[-1]))} {unit} last measured; "
    text += f"by {end} the median forecast is {number(float(forecast.median[row, -1]))} {unit}"
    if 0.8 in _bands(forecast):
        low, high = (float(edge[-1]) for edge in _band(forecast, 0.8, row))
        text += f", with four in five outcomes expected between {number(low)} and {number(high)}"
    if forecast.observed is not None and np.isfinite(forecast.observed[row, -1]):
        text += f"; {number(float(forecast.observed[row, -1]))} {unit} happened"
    return f"{text}."


def _bands(forecast: Forecast) -> list[float]:
    slack = 1e-6
    first, last = forecast.levels[0] - slack, forecast.levels[-1] + slack
    return [c for c in _BANDS if first <= (1 - c) / 2 and (1 + c) / 2 <= last]


def _band(forecast: Forecast, coverage: float, row: int) -> tuple[np.ndarray, np.ndarray]:
    # Between two levels that the forecast carries, a quantile is interpolated: 0.25 from 0.2 and 0.3.
    low, high = (
        np.array([np.interp(level, forecast.levels, cell) for cell in forecast.quantiles[row]])
        for level in ((1 - coverage) / 2, (1 + coverage) / 2)
    )
    return low, high


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _key(kind: str, text: str) -> Html:
    return el("span", el("i", class_=f"swatch {kind}"), text, class_="key")
