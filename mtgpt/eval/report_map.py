"""Maps of the city: now, forecast, what happened. Spots coloured by how far they are from free or usual."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from mtgpt.eval.report_html import Html, el, number
from mtgpt.eval.report_svg import MAP_BOUNDS, Dot, city_map, map_class

if TYPE_CHECKING:
    from mtgpt.model.forecast import Forecast
    from mtgpt.panel.panel import Panel

_METRES_PER_DEGREE = 111_320.0
_MOST_EDGES = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Maps:
    """The maps of one forecast.

    Attributes:
        html: Side by side, with a legend.
        mean_share: Mean forecast as a share of the spots' reference.
    """

    html: Html
    mean_share: float


def maps(panel: Panel, forecast: Forecast) -> Maps | None:
    """Maps of speed, or of the variable with the most places; None where no spot has a place."""
    series = forecast.series
    if not {"lon", "lat", "index"} <= set(series.columns):
        return None
    placed = series.with_row_index("row").filter(
        (pl.col("level") == "spot") & pl.col("lon").is_not_null() & pl.col("lat").is_not_null()
    )
    if placed.height < 2:
        return None
    counts = placed["variable"].value_counts(sort=True)
    variable = "speed" if "speed" in counts["variable"] else str(counts["variable"][0])
    placed = placed.filter(pl.col("variable") == variable)
    if placed.height < 2:
        return None
    rows, index = placed["row"].to_numpy(), placed["index"].to_numpy().astype(np.int64)
    reference = _reference(panel, index, forecast)
    ahead = forecast.median[rows, -1]
    now = forecast.history[rows, -1] if forecast.history.shape[1] else np.full(len(rows), np.nan)
    unit, names = str(placed["unit"][0]), placed["name"].fill_null("").to_list()
    names = [name or spot for name, spot in zip(names, placed["spot_id"].fill_null("?"), strict=True)]
    end = int((forecast.time[-1] - forecast.at.astype("datetime64[s]")).astype(np.int64)) + forecast.interval_s
    later = f"{end // 60} minutes on"
    views = [("Measured now", now), (f"Forecast, {later}", ahead)]
    if forecast.observed is not None:
        views.append((f"What happened, {later}", forecast.observed[rows, -1]))
    edges = _edges(panel, index)
    x, y = _metres(placed["lon"].to_numpy(), placed["lat"].to_numpy())
    figures = []
    for title, values in views:
        share = values / reference
        texts = [_text(name, float(v), float(r), unit) for name, v, r in zip(names, values, reference, strict=True)]
        dots = [Dot(x=x[i], y=y[i], share=float(share[i]), text=text) for i, text in enumerate(texts)]
        slow = sum(rank is not None and rank <= 1 for rank in (map_class(dot.share) for dot in dots))
        word = f"{slow} of {len(dots)} spots below {MAP_BOUNDS[1]:.0%} of their {_reference_name(variable)}"
        drawn = city_map(dots, edges, f"Map, {title.lower()}: {word}.")
        caption = el("figcaption", el("b", title), el("span", word, class_="soft"))
        figures.append(el("figure", caption, drawn, class_="card"))
    with np.errstate(invalid="ignore"):
        mean = float(np.nanmean(ahead / reference)) if np.isfinite(ahead / reference).any() else np.inf
    return Maps(html=el("div", _legend(variable), el("div", figures, class_="cards")), mean_share=mean)


def _reference(panel: Panel, index: np.ndarray, forecast: Forecast) -> np.ndarray:
    # Only what was visible: a reference from later days would be knowledge that nobody had.
    part = np.array(some_visible(panel, forecast)[:, index], dtype=np.float64)
    part[:1, np.isnan(part).all(axis=0)] = 0.0
    found = np.nanpercentile(part, 90, axis=0)
    return np.where(found > 0, found, np.nan)


def some_visible(panel: Panel, forecast: Forecast, most: int = 2000) -> np.ndarray:
    """At most about so many steps of what was visible, float32 [t, S], spread evenly over days and hours."""
    visible = panel.values[: max(panel.steps_until(forecast.at), 1)]
    # An odd stride never falls into step with the hours of the day.
    return visible[:: (len(visible) // most) | 1]


def _edges(panel: Panel, index: np.ndarray) -> list[tuple[int, int]]:
    part = panel.graph[index][:, index].tocoo()
    pairs = {(min(a, b), max(a, b)) for a, b in zip(part.row.tolist(), part.col.tolist(), strict=True) if a != b}
    return sorted(pairs) if len(pairs) <= _MOST_EDGES else []


def _metres(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = lon * _METRES_PER_DEGREE * np.cos(np.radians(lat.mean()))
    return x - x.mean(), (lat - lat.mean()) * _METRES_PER_DEGREE


def _text(name: str, value: float, reference: float, unit: str) -> str:
    if not np.isfinite(value):
        return f"{name}: not known"
    return f"{name}: {number(value)} {unit} ({value / reference:.0%} of {number(reference)})"


def _reference_name(variable: str) -> str:
    return "free speed" if variable == "speed" else f"busy {variable}"


def _legend(variable: str) -> Html:
    texts = [f"below {MAP_BOUNDS[0]:.0%}"]
    texts += [f"{a:.0%} to {b:.0%}" for a, b in itertools.pairwise(MAP_BOUNDS)]
    texts.append(f"{MAP_BOUNDS[-1]:.0%} and more")
    keys = [el("span", el("i", class_=f"swatch dot c{i}"), text, class_="key") for i, text in enumerate(texts)]
    title = el("b", f"{variable.capitalize()}, share of each spot’s {_reference_name(variable)}: ")
    return el("p", title, keys, class_="legend")
