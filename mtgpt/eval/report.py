"""The report a city planner opens: one HTML file with everything in it, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.eval.report_fans import fans
from mtgpt.eval.report_html import Html, count, el, join, number
from mtgpt.eval.report_map import maps
from mtgpt.eval.report_scores import best_rule, model_name, score_cards
from mtgpt.eval.report_tables import ledger_table, provenance_table, quarantine_table, timing_table
from mtgpt.eval.report_time import day, local, moment
from mtgpt.eval.report_transit import transit_parts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mtgpt.eval.report_feeds import CityFeeds
    from mtgpt.ingest.manifest import CityManifest
    from mtgpt.model.forecast import Forecast
    from mtgpt.panel.panel import Panel

_SIMULATED = (
    " No real place stands behind these numbers: the traffic was made by a simulator, so that everybody can walk the "
    "whole road from raw feeds to forecasts."
)
_DATA = (
    "Every row that a department published is accounted for: it is good and in the tables, or quarantined with its "
    "reason and its raw text, or a duplicate of a row that stood there already."
)
_SCORES = (
    "Measured on days that the model did not see in training, beside simple rules that anybody could use instead. "
    "Of the outcomes, 80% should fall into the 80% band: much less is too sure of itself, much more is too vague."
)
_PLACES = {"dock": "bike docks", "approach": "approaches", "detector": "road detectors"}


def write_report(
    path: Path,
    *,
    manifest: CityManifest,
    ledger: pl.DataFrame,
    quarantine: pl.DataFrame,
    panel: Panel,
    forecasts: Sequence[Forecast],
    scores: pl.DataFrame,
    timings: Mapping[str, float],
    feeds: CityFeeds | None = None,
) -> Path:
    """Writes the report, whole or not at all.

    Args:
        path: The HTML file.
        manifest: The city.
        ledger: Rows of the table batch.
        quarantine: Rows of the table quarantine.
        panel: What the forecasts were made from.
        forecasts: One or several, at different times; every level and variable they carry may be shown.
        scores: Columns model, level, variable, horizon_step (0 = average over all steps), mae, rmse, wape, coverage80,
            n, unit.
        timings: Seconds by stage, in order.
        feeds: What the lake holds of public transport, alerts and docks around the forecasts; no such part if absent.

    Returns:
        ``path``.
    """
    shown = [forecast for forecast in forecasts if forecast.n_series]
    sections = [
        *_forecast_sections(panel, shown),
        *_transit_section(feeds, shown),
        ("scores", "How good are such forecasts?", _scores(scores, panel)),
        ("data", "What came in", [el("p", _DATA), _card(ledger_table(ledger)), _card(quarantine_table(quarantine))]),
        ("provenance", "Where the numbers come from", [_origins(panel, shown, timings)]),
    ]
    main = el("main", [el("section", el("h2", title), body, id=anchor) for anchor, title, body in sections])
    links = [el("a", anchor.capitalize(), href=f"#{anchor}") for anchor, _, _ in sections]
    contents = el("nav", links, aria_label="Contents")
    write_page(path, page(manifest.name, [_heading(manifest, panel, scores, contents), main, _footer(manifest, shown)]))
    return path


def _heading(manifest: CityManifest, panel: Panel, scores: pl.DataFrame, contents: Html) -> Html:
    simulated = manifest.simulated or panel.meta.simulated
    tiles = [_days_tile(panel), _places_tile(panel), _series_tile(panel), *_score_tiles(scores)]
    return el(
        "header",
        el("p", "MT-GPT · report", class_="eyebrow"),
        el("h1", manifest.name, el("span", "simulated city", class_="tag") if simulated else None),
        el("p", manifest.description, class_="lead") if manifest.description else None,
        el("p", el("strong", "Simulated city."), _SIMULATED, class_="badge") if simulated else None,
        el("ul", [el("li", el("b", big), el("span", small)) for big, small in tiles], class_="tiles"),
        contents,
    )


def _days_tile(panel: Panel) -> tuple[str, str]:
    first, last = (local(panel.time[i], panel.meta.time_zone) for i in (0, -1))
    return count(panel.calendar.dates.size), f"days, {day(first)} to {day(last)}"


def _places_tile(panel: Panel) -> tuple[str, str]:
    spots = panel.series.filter(pl.col("level") == "spot").unique("spot_id")
    kinds = spots.group_by("mode", "kind").len().sort("len", "mode", "kind", descending=[True, False, False]).rows()
    names = [_PLACES.get(str(kind), f"{mode} {kind}s") for mode, kind, _ in kinds]
    listed = " and ".join(part for part in (", ".join(names[:-1]), names[-1] if names else "") if part)
    return " + ".join(count(n) for _, _, n in kinds), listed


def _series_tile(panel: Panel) -> tuple[str, str]:
    scales = len(set(panel.series["level"]))
    return count(panel.n_series), f"series at {scales} scales, a value every {panel.meta.interval_s // 60} minutes"


def _score_tiles(scores: pl.DataFrame) -> list[tuple[str, str]]:
    best = best_rule(scores)
    if best is None:
        return []
    ours, other = best
    gain = 100 * (1 - ours["mae"] / other["mae"]) if other["mae"] else 0.0
    word = "less" if gain >= 0 else "more"
    rule = f"the best simple rule ({model_name(other['model']).lower()}, {number(other['mae'])})"
    return [
        (
            f"{number(ours['mae'])} {ours['unit']}",
            f"mean error of {ours['variable']} at single spots: {abs(gain):.0f}% {word} than {rule}",
        )
    ]


def _forecast_sections(panel: Panel, forecasts: Sequence[Forecast]) -> list[tuple[str, str, list[Html]]]:
    if not forecasts:
        return [("forecasts", "Forecasts", [el("p", "There is no forecast to show.", class_="note")])]
    made = [(forecast, found) for forecast in forecasts if (found := maps(panel, forecast)) is not None]
    sections = []
    if made:
        # The forecast in which the city is busiest says most on a map.
        forecast, found = min(made, key=lambda pair: pair[1].mean_share)
        sections.append(("map", f"The city at {moment(forecast)}", [found.html]))
    return [*sections, ("forecasts", "Forecasts with their uncertainty", fans(forecasts, panel))]


def _transit_section(feeds: CityFeeds | None, forecasts: Sequence[Forecast]) -> list[tuple[str, str, list[Html]]]:
    parts = [] if feeds is None else transit_parts(feeds, forecasts)
    return [("transit", "Public transport, alerts and docks", parts)] if parts else []


def _scores(scores: pl.DataFrame, panel: Panel) -> list[Html]:
    if scores.is_empty():
        return [el("p", "No scores were computed.", class_="note")]
    return [el("p", _SCORES), *score_cards(scores, interval_s=panel.meta.interval_s)]


def _origins(panel: Panel, forecasts: Sequence[Forecast], timings: Mapping[str, float]) -> Html:
    tables = [_card(provenance_table(panel, forecasts)), _card(timing_table(timings)) if timings else None]
    return el("div", tables, class_="beside")


def _card(content: Html) -> Html:
    return el("div", content, class_="card")


def _footer(manifest: CityManifest, forecasts: Sequence[Forecast]) -> Html:
    parts = [f"City {manifest.city}", f"times in {manifest.time_zone}"]
    if manifest.licence:
        parts.append(f"data: {manifest.licence}")
    parts += [f"forecast computed {made}" for f in forecasts[:1] if (made := f.provenance.get("created_at"))]
    return el("footer", el("p", " · ".join(parts)))


def page(title: str, body: list[Html]) -> str:
    """A whole page with the reports' style sheet in it, and a policy that lets it load and run nothing."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        el("title", f"{title} – MT-GPT report"),
        Html(f"<style>{style}</style>"),
    )
    return f"<!doctype html>\n{el('html', head, el('body', join(*body)), lang='en')}\n"


def write_page(path: Path, text: str) -> None:
    """Writes a page whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
