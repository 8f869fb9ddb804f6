"""The transfer report: one HTML file for researchers, with every claim, where it fails, the curves and the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mtgpt.eval.report import page, write_page
from mtgpt.eval.report_html import Html, count, el, number, table
from mtgpt.eval.report_svg import Dot, city_map, curves
from mtgpt.eval.transfer.cells import ALONE, ALWAYS, NAIVE, NETWORKS, OURS, RIDGE, Cell, Results
from mtgpt.eval.transfer.plan import FULL, ZERO
from mtgpt.eval.transfer.tally import reliability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mtgpt.eval.transfer.plan import Plan

_METRES_PER_DEGREE = 111_320.0
_ORDER = (OURS, ALONE, *NETWORKS, RIDGE, *NAIVE)
_LINES = {OURS: "ours", ALONE: "other o0", NETWORKS[0]: "other o1", RIDGE: "other o2"}
_DIFFERENCE = (-0.25, -0.05, 0.05, 0.25)


def write_transfer_report(
    path: Path,
    *,
    plan: Plan,
    rows: pl.DataFrame,
    claims: Sequence[Mapping[str, Any]],
    results: Results,
    cells: Sequence[Cell],
) -> Path:
    """Writes the report, whole or not at all.

    Args:
        path: The HTML file.
        plan: What was compared.
        rows: From :func:`mtgpt.eval.transfer.table.table`.
        claims: From :func:`mtgpt.eval.transfer.table.verdicts`.
        results: The cells' sums, for reliability and maps.
        cells: Those of the plan, done or not.
    """
    missing = [cell for cell in cells if not results.has(cell)]
    places = rows.select("target", "variable").unique(maintain_order=True).rows() if rows.height else []
    sections = [
        ("claims", "What holds, and where it does not", [_claims(claims)]),
        ("days", "Error against visible days", [el("div", [_days(rows, *one) for one in places], class_="cards")]),
        (
            "bands",
            "Do the bands cover what they say?",
            [el("div", _reliabilities(results, cells, places), class_="cards")],
        ),
        ("maps", "Where the error lies", _maps(results, cells, places)),
        ("tables", "All numbers", [_table(rows, *one) for one in places]),
        ("plan", "The frozen plan", [_plan(plan, missing)]),
    ]
    body = [
        _heading(plan, cells, missing),
        el("nav", [el("a", anchor.capitalize(), href=f"#{anchor}") for anchor, *_ in sections], aria_label="Contents"),
        el("main", [el("section", el("h2", title), inside, id=anchor) for anchor, title, inside in sections]),
    ]
    write_page(path, page(f"{plan.name}: transfer", body))
    return path


def _heading(plan: Plan, cells: Sequence[Cell], missing: Sequence[Cell]) -> Html:
    tiles = [
        (count(len(plan.targets)), "targets, each unseen by the model that answers there"),
        (count(len(plan.seeds)), "seeds"),
        (f"{count(len(cells) - len(missing))} of {count(len(cells))}", "cells done"),
    ]
    return el(
        "header",
        el("p", "MT-GPT · transfer", class_="eyebrow"),
        el("h1", plan.name),
        el(
            "p",
            "Errors are means over the steps ahead, of single spots, on the last 20% of each target's windows. "
            "Intervals hold 95% of draws of whole days and of seeds.",
            class_="lead",
        ),
        el("ul", [el("li", el("b", big), el("span", small)) for big, small in tiles], class_="tiles"),
    )


def _claims(claims: Sequence[Mapping[str, Any]]) -> Html:
    rows: list[list[object]] = []
    for one in claims:
        gain = "–" if one["mean_gain"] is None else f"{100 * one['mean_gain']:+.1f}%"
        holds = el("td", f"{one['holds']} of {one['cases']}", class_="good" if one["holds"] == one["cases"] else "bad")
        fails = [
            el("div", f"{f['case']}: {number(f['ours'], 3)} against {number(f['theirs'], 3)}") for f in one["fails_at"]
        ]
        rows.append([one["claim"], holds, el("td", gain, class_="n"), el("td", fails or "nowhere")])
    return el(
        "div",
        table("Cases are targets, variables and seeds", ["Claim", "holds in", "mean gain", "fails at"], rows),
        class_="card",
    )


def _days(rows: pl.DataFrame, target: str, variable: str) -> Html:
    part = rows.filter((pl.col("target") == target) & (pl.col("variable") == variable))
    shown = [s for s in part["setting"].unique().to_list() if s not in (ALWAYS, ZERO, FULL)]
    settings = [ZERO, *sorted(shown, key=int), FULL]
    x = [float(i) for i in range(len(settings))]
    lines = []
    for competitor, kind in _LINES.items():
        values = dict(part.filter(pl.col("competitor") == competitor).select("setting", "mae").iter_rows())
        if values:
            lines.append((competitor, kind, [float(values.get(s) or np.nan) for s in settings]))
    naive = part.filter(pl.col("setting") == ALWAYS)
    if naive.height:
        best = naive.sort("mae").row(0, named=True)
        lines.append((f"best naive: {best['competitor']}", "other o4", [float(best["mae"])] * len(settings)))
    labels = {
        0.0: "zero",
        **{float(i): f"{s} d" for i, s in enumerate(settings) if s not in (ZERO, FULL)},
        x[-1]: "full",
    }
    known = [value for _, _, values in lines for value in values if np.isfinite(value)]
    drawn = curves(
        x,
        lines,
        low=0.9 * min(known, default=0.0),
        most_labels=len(x),
        unit="MAE",
        clock=lambda at: labels.get(at, ""),
        description=f"Error of {variable} in {target} by visible days. "
        + "; ".join(f"{label}: {', '.join(number(v, 3) for v in values)}" for label, _, values in lines),
    )
    keys = [el("span", el("i", class_=f"swatch {kind}"), label, class_="key") for label, kind, _ in lines]
    caption = el("figcaption", el("b", target), el("span", variable, class_="soft"))
    return el("figure", caption, drawn, el("p", keys, class_="legend"), class_="card")


def _reliabilities(results: Results, cells: Sequence[Cell], places: Sequence[tuple[str, str]]) -> list[Html]:
    figures = []
    for target, variable in places:
        lines: list[tuple[str, str, list[float]]] = []
        levels: tuple[float, ...] = ()
        for setting, kind in ((ZERO, "ours"), ("3", "other o0"), (FULL, "other o1")):
            found = _pooled(results, cells, target, variable, setting)
            if found is not None:
                levels, shares = found
                label = {ZERO: "zero-shot", FULL: "full"}.get(setting, f"{setting} days")
                lines.append((label, kind, shares))
        if not lines:
            continue
        drawn = curves(
            list(levels),
            [("as it should be", "history", list(levels)), *lines],
            unit="share",
            clock=lambda level: f"{level:.0%}",
            description=f"Share of {variable} in {target} at or below each quantile. "
            + "; ".join(f"{label}: {', '.join(f'{s:.0%}' for s in shares)}" for label, _, shares in lines),
        )
        keys = [el("span", el("i", class_=f"swatch {kind}"), label, class_="key") for label, kind, _ in lines]
        caption = el("figcaption", el("b", target), el("span", variable, class_="soft"))
        figures.append(el("figure", caption, drawn, el("p", keys, class_="legend"), class_="card"))
    return figures or [el("p", "No model was scored yet.", class_="note")]


def _pooled(
    results: Results, cells: Sequence[Cell], target: str, variable: str, setting: str
) -> tuple[tuple[float, ...], list[float]] | None:
    shares, levels = [], None
    for cell in cells:
        if (cell.target, cell.competitor, cell.setting) != (target, OURS, setting) or not results.has(cell):
            continue
        sums, levels = results.sums(cell), results.facts(cell).get("levels") or levels
        if sums is not None and levels:
            part = sums.filter((pl.col("level") == "spot") & (pl.col("variable") == variable))
            shares.append([share for _, share in reliability(part, levels)])
    shares = [one for one in shares if one]
    return (tuple(levels), list(np.mean(shares, axis=0))) if shares and levels else None


def _maps(results: Results, cells: Sequence[Cell], places: Sequence[tuple[str, str]]) -> list[Html]:
    """Each place's zero-shot error beside that of the best naive forecast there: better or worse, and by how much."""
    figures = []
    for target, variable in places:
        ours = _by_place(results, cells, (target, variable), OURS, ZERO)
        naive = [n for c in NAIVE if (n := _by_place(results, cells, (target, variable), c, ALWAYS)) is not None]
        if ours is None or not naive or not ours["lon"].is_not_null().any():
            continue
        best = min(naive, key=lambda frame: float(frame["absolute"].sum()))
        both = ours.join(best.select("spot_id", theirs=pl.col("absolute") / pl.col("count")), on="spot_id").filter(
            pl.col("lon").is_not_null() & (pl.col("count") > 0) & (pl.col("theirs") > 0)
        )
        if both.height < 2:
            continue
        gain = (1 - both["absolute"] / both["count"] / both["theirs"]).to_numpy()
        lon, lat = both["lon"].to_numpy(), both["lat"].to_numpy()
        east = (lon - lon.mean()) * _METRES_PER_DEGREE * np.cos(np.radians(lat.mean()))
        north = (lat - lat.mean()) * _METRES_PER_DEGREE
        # The map's five classes: from worse than the naive forecast to far better.
        share = np.array([0.2, 0.5, 0.7, 0.8, 0.95])[np.searchsorted(_DIFFERENCE, gain)]
        dots = [
            Dot(x=float(east[i]), y=float(north[i]), share=float(share[i]), text=f"{spot}: {gain[i]:+.0%}")
            for i, spot in enumerate(both["spot_id"].to_list())
        ]
        worse = int((gain < 0).sum())
        word = f"{worse} of {len(dots)} places worse than the best naive forecast"
        caption = el("figcaption", el("b", f"{target}, {variable}"), el("span", word, class_="soft"))
        figures.append(el("figure", caption, city_map(dots, [], f"Map of {target}: {word}."), class_="card"))
    if not figures:
        return [el("p", "No target with places was scored yet.", class_="note")]
    texts = ["worse by over 25%", "worse", "about the same", "better", "better by over 25%"]
    keys = [el("span", el("i", class_=f"swatch dot c{i}"), text, class_="key") for i, text in enumerate(texts)]
    return [el("p", keys, class_="legend"), el("div", figures, class_="cards")]


def _by_place(
    results: Results, cells: Sequence[Cell], place: tuple[str, str], competitor: str, setting: str
) -> pl.DataFrame | None:
    target, variable = place
    frames = [
        frame.filter(pl.col("variable") == variable)
        for cell in cells
        if (cell.target, cell.competitor, cell.setting) == (target, competitor, setting)
        and results.has(cell)
        and (frame := results.spots(cell)) is not None
    ]
    if not frames:
        return None
    summed = pl.concat(frames).group_by("spot_id", maintain_order=True)
    return summed.agg(pl.col("lon", "lat").first(), pl.col("absolute", "count").sum())


def _table(rows: pl.DataFrame, target: str, variable: str) -> Html:
    part = rows.filter((pl.col("target") == target) & (pl.col("variable") == variable))
    body: list[list[object]] = []
    for row in sorted(part.rows(named=True), key=_place):
        interval = f"{number(row['mae_low'], 3)} – {number(row['mae_high'], 3)}"
        cells = [
            number(row["mae"], 3), interval, number(row["rmse"], 3), _percent(row["wape"]), number(row["mase"], 3),
            number(row["crps"], 3), _percent(row["coverage_80"]), _percent(row["coverage_95"]),
            _percent(row["skill_day"]), _percent(row["against_best_naive"]), number(row["series_per_second"], 0),
            number(row["seconds_to_learn"], 1),
        ]  # fmt: skip
        label = row["competitor"] if row["setting"] == ALWAYS else f"{row['competitor']}, {_setting(row['setting'])}"
        if row["adapted"] is not None and row["adapted"] < 1:
            label += f" (adaptation used by {row['adapted']:.0%} of seeds)"
        body.append([el("th", label, scope="row"), *(el("td", cell, class_="n") for cell in cells)])
    head: list[object] = [
        "", "MAE", "95%", "RMSE", "WAPE", "MASE", "CRPS", "80% covers", "95% covers", "skill (day)", "to best naive",
        "series/s", "learning, s",
    ]  # fmt: skip
    return el("div", table(f"{target}: {variable}", head, body, class_="scores"), class_="card")


def _place(row: Mapping[str, Any]) -> tuple[int, float]:
    setting = {ZERO: 0.0, ALWAYS: 0.0, FULL: 1e9}.get(row["setting"])
    competitor = _ORDER.index(row["competitor"]) if row["competitor"] in _ORDER else len(_ORDER)
    return competitor, float(row["setting"]) if setting is None else setting


def _setting(setting: str) -> str:
    return {ZERO: "zero-shot", FULL: "full"}.get(setting, f"{setting} day{'s' if setting != '1' else ''}")


def _plan(plan: Plan, missing: Sequence[Cell]) -> Html:
    rows: list[list[object]] = [
        ["Plan", el("code", plan.sha256)],
        ["Held out together", "; ".join(", ".join(group) for group in plan.held_out)],
        ["Seeds", ", ".join(map(str, plan.seeds))],
        ["Every n-th window", plan.stride],
        ["Pre-training", f"{plan.pretrain.name} {plan.pretrain.changes or ''}"],
        ["Adaptation", f"{plan.adapt.name} {plan.adapt.changes or ''}"],
        ["From scratch", f"{plan.alone.name} {plan.alone.changes or ''}"],
        *([f"Panel of {city}", el("code", panel)] for city, panel in plan.cities.items()),
        ["Not done yet", ", ".join(cell.name for cell in missing[:20]) or "nothing"],
    ]
    return el("div", table("What these numbers are of", ["", ""], rows, class_="facts"), class_="card")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"
