"""How good forecasts are: error by horizon beside simple rules, as a table and as curves."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.eval.report_html import Html, el, number, scroll_box
from mtgpt.eval.report_svg import curves
from mtgpt.eval.report_time import span

if TYPE_CHECKING:
    from collections.abc import Mapping

_MODELS = {
    "mtgpt": "MT-GPT",
    "last_value": "Last value",
    "seasonal_day": "Same time yesterday",
    "seasonal_naive_day": "Same time yesterday",
    "seasonal_week": "Same time last week",
    "seasonal_naive_week": "Same time last week",
    "historical_average": "Historical average",
    "trailing": "Trailing expectation",
    "trailing_expectation": "Trailing expectation",
    "stid": "STID-like network",
}
_LEVELS = {"network": "Whole city", "corridor": "Corridors", "spot": "Single spots"}
_COLOURS = 6
_OPEN = 2
_FIRST = ("speed", "flow")


def model_name(model: str) -> str:
    """What a reader calls it."""
    return _MODELS.get(model, model[:1].upper() + model[1:])


def is_ours(model: str) -> bool:
    """Whether a row of scores belongs to MT-GPT."""
    return model.lower().replace("-", "").replace("_", "").startswith("mtgpt")


def best_rule(scores: pl.DataFrame) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Our average score and the best other's, on single spots of the first variable; None where either is missing."""
    average = scores.filter((pl.col("horizon_step") == 0) & (pl.col("level") == "spot") & pl.col("mae").is_finite())
    if average.is_empty():
        return None
    main = "speed" if "speed" in average["variable"] else average["variable"][0]
    rows = average.filter(pl.col("variable") == main).sort("mae").to_dicts()
    ours = next((row for row in rows if is_ours(row["model"])), None)
    other = next((row for row in rows if not is_ours(row["model"])), None)
    return None if ours is None or other is None else (ours, other)


def score_cards(scores: pl.DataFrame, *, interval_s: int) -> list[Html]:
    """A card per variable: the table of all levels, and a curve of each; the first two open."""
    cards = []
    names = scores["variable"].unique(maintain_order=True).to_list()
    for variable in sorted(names, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST)):
        part = scores.filter(pl.col("variable") == variable)
        unit = str(part["unit"][0])
        both = (_table(part, variable, interval_s), _curves(part, variable, unit, interval_s))
        title = el("summary", el("h3", f"{str(variable).capitalize()}, {unit}"))
        shown = "" if len(cards) < _OPEN else None
        cards.append(el("details", title, el("div", both, class_="beside"), class_="card", open=shown))
    return cards


def _table(part: pl.DataFrame, variable: str, interval_s: int) -> Html:
    steps = _shown_steps(part)
    head = ["Model", *(span(step * interval_s) for step in steps), "Average", "RMSE", "WAPE", "In 80% band"]
    bodies = []
    for level in [name for name in _LEVELS if name in part["level"]]:
        at_level = part.filter(pl.col("level") == level)
        lines = [el("tr", el("th", _LEVELS[level], scope="rowgroup", colspan=len(head), class_="group"))]
        best = {step: at_level.filter(pl.col("horizon_step") == step)["mae"].min() for step in [*steps, 0]}
        for model in at_level["model"].unique(maintain_order=True).to_list():
            rows = {row["horizon_step"]: row for row in at_level.filter(pl.col("model") == model).to_dicts()}
            lines.append(_line(model, rows, steps, best))
        bodies.append(el("tbody", lines))
    caption = f"Mean absolute error of {variable}, by how far ahead (lower is better)"
    header = el("thead", el("tr", [el("th", h, scope="col", class_="n" if i else None) for i, h in enumerate(head)]))
    return scroll_box(el("table", el("caption", caption), header, bodies, class_="scores"), label=caption)


def _line(model: str, rows: Mapping[int, dict[str, Any]], steps: list[int], best: Mapping[int, Any]) -> Html:
    average = rows.get(0, {})
    cells = [_mae(rows.get(step, {}).get("mae"), best[step]) for step in [*steps, 0]]
    cells.append(el("td", number(average.get("rmse")), class_="n"))
    cells += [_percent(average.get(name)) for name in ("wape", "coverage80")]
    return el("tr", el("th", model_name(model), scope="row"), cells, class_="ours" if is_ours(model) else None)


def _curves(part: pl.DataFrame, variable: str, unit: str, interval_s: int) -> Html:
    models = part["model"].unique(maintain_order=True).to_list()
    others = [model for model in models if not is_ours(model)]
    order = [*others, *(model for model in models if is_ours(model))]  # ours is drawn last, on top
    kinds = {m: "ours" if is_ours(m) else f"other o{others.index(m) % _COLOURS}" for m in order}
    keys = [el("span", el("i", class_=f"swatch {kinds[m]}"), model_name(m), class_="key") for m in reversed(order)]
    figures = []
    for level, name in _LEVELS.items():
        rows = part.filter((pl.col("level") == level) & (pl.col("horizon_step") > 0))
        steps = rows["horizon_step"].unique().sort().to_list()
        if len(steps) < 2:
            continue
        found = {m: dict(rows.filter(pl.col("model") == m).select("horizon_step", "mae").iter_rows()) for m in order}
        lines = [(model_name(m), kinds[m], [_or_nan(found[m].get(step)) for step in steps]) for m in order]
        drawn = curves(
            [float(step * interval_s) for step in steps],
            lines,
            unit=unit,
            clock=lambda seconds: span(round(seconds)),
            description=f"Error of {variable}, {name.lower()}, by how far ahead. At the last step: "
            f"{', '.join(f'{label} {number(values[-1])}' for label, _, values in lines)}.",
        )
        figures.append(el("figure", el("figcaption", f"{name}: error by how far ahead", class_="soft"), drawn))
    return el("div", el("p", keys, class_="legend"), figures, class_="stack")


def _shown_steps(part: pl.DataFrame) -> list[int]:
    steps = part.filter(pl.col("horizon_step") > 0)["horizon_step"].unique().sort().to_list()
    return steps if len(steps) <= 4 else [steps[round((i + 1) * len(steps) / 4) - 1] for i in range(4)]


def _mae(value: float | None, best: Any) -> Html:
    if value is not None and best is not None and value <= best:
        return el("td", el("b", number(value)), el("span", " best", class_="away"), class_="n best")
    return el("td", number(value), class_="n")


def _percent(value: float | None) -> Html:
    share = _or_nan(value)
    return el("td", f"{100 * share:.1f}%" if math.isfinite(share) else "–", class_="n")


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
