"""Public transport, alerts and docks around the moments of a report's forecasts, as a planner reads them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from mtgpt.eval.report_feeds import docks_at, lateness_at, lines_at, told_about, window
from mtgpt.eval.report_html import Html, count, el, table
from mtgpt.eval.report_time import day, moment, span

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from mtgpt.eval.report_feeds import CityFeeds
    from mtgpt.model.forecast import Forecast

_MOST_LINES = 20
_MOST_EVENTS = 8
_MOST_DOCKS = 8
_MOST_STOPS = 3
_MOST_TEXT = 400
_ON_TIME_S = 30
_INTRODUCTION = (
    "From the lake, not from the model: what the timetable promises in the hour, how late vehicles were at their next "
    "stop by the reports that had come in by then, what passengers were told, and what stood in the docks near stops."
)


def transit_parts(feeds: CityFeeds, forecasts: Sequence[Forecast]) -> list[Html]:
    """A part per forecast, each with its cards; empty where nothing is known around any of them."""
    parts = []
    for forecast in forecasts:
        start, end = window(forecast)
        cards = [card for card in (_lines(feeds, start), _told(feeds, start, end), _docks(feeds, start)) if card]
        if cards:
            title = f"Around {moment(forecast)}"
            parts.append(el("section", el("h3", title), el("div", cards, class_="feeds")))
    return [el("p", _INTRODUCTION), *parts] if parts else []


def _lines(feeds: CityFeeds, at: datetime) -> Html | None:
    supply = {row["route_id"]: row for row in lines_at(feeds, at).iter_rows(named=True)}
    late = {row["route_id"]: row for row in lateness_at(feeds, at).iter_rows(named=True)}
    if not supply and not late:
        return None
    names = {row["route_id"]: row for row in feeds.route.iter_rows(named=True)}
    # The latest lines first: that is where a planner looks.
    order = sorted(supply.keys() | late.keys(), key=lambda route: (-_worst(late.get(route)), _name(names, route)))
    rows: list[list[object]] = []
    for route in order[:_MOST_LINES]:
        facts = names.get(route, {})
        sub = " · ".join(part for part in (facts.get("mode"), facts.get("long_name")) if part)
        line = el("th", _name(names, route), el("span", sub, class_="soft sub") if sub else None, scope="row")
        rows.append([line, *_reported(late.get(route)), _promise(supply.get(route))])
    head: list[object] = ["Line", "Worst", _right("Median"), _right("Vehicles"), "Timetable"]
    made = table("What runs, and how late it was", head, rows, class_="lines")
    more = len(order) - _MOST_LINES
    return el(
        "div", made, el("p", f"… and {count(more)} more lines.", class_="note") if more > 0 else None, class_="card"
    )


def _promise(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    each = row["headway_s"] or row["band_s"] / row["departures"]
    a_band = "an hour" if row["band_s"] == 3600 else f"in {span(row['band_s'])}"
    return f"{count(row['departures'])} {a_band} each way, every {_minutes(each)}"


def _reported(row: dict[str, Any] | None) -> list[object]:
    if row is None or not row["trips"]:
        gone = "" if row is None or not row["cancelled"] else f"{count(row['cancelled'])} cancelled"
        return [gone or "no times reported", _cell("–"), _cell("–")]
    worst = "all on time" if row["worst_s"] < _ON_TIME_S else f"{_late(row['worst_s'])} at {row['worst_at']}"
    if row["cancelled"]:
        worst += f"; {count(row['cancelled'])} cancelled"
    return [worst, _cell(_late(row["median_s"])), _cell(count(row["trips"]))]


def _told(feeds: CityFeeds, start: datetime, end: datetime) -> Html | None:
    found = told_about(feeds, start, end)
    if found.is_empty():
        return None
    names = {row["route_id"]: row for row in feeds.route.iter_rows(named=True)}
    items = []
    for row in found.head(_MOST_EVENTS).iter_rows(named=True):
        text = _cut(row["text"]) if row["title"] and row["text"] else None
        facts = [_period(row, feeds.zone)]
        lines = [_name(names, route) for route in _listed(row["routes"])]
        facts += [f"line{'s' if len(lines) > 1 else ''} {', '.join(lines[:_MOST_EVENTS])}"] if lines else []
        items.append(
            el("li", el("b", _cut(row["title"] or row["text"])), el("span", " · ".join(facts), class_="soft sub"), text)
        )
    more = found.height - _MOST_EVENTS
    items += [el("li", f"… and {count(more)} more", class_="note")] if more > 0 else []
    clock = " to ".join(f"{at.astimezone(ZoneInfo(feeds.zone)):%H:%M}" for at in (start, end))
    return el(
        "div", el("p", f"Alerts that touch {clock}", class_="caption"), el("ul", items, class_="told"), class_="card"
    )


def _docks(feeds: CityFeeds, at: datetime) -> Html | None:
    found = docks_at(feeds, at)
    if found.is_empty():
        return None
    rows: list[list[object]] = [
        [row["name"] or "–", _stock(row["bikes"]), _stock(row["docks"]), _near(row["near"], row["name"])]
        for row in found.head(_MOST_DOCKS).iter_rows(named=True)
    ]
    head: list[object] = ["Station", _right("Bikes"), _right("Docks"), "On foot to"]
    return el(
        "div", table("Bikes and free docks near stops, the scarcest first", head, rows, class_="docks"), class_="card"
    )


def _near(stops: list[dict[str, Any]], dock: str | None) -> Html:
    # A stop that is called like the dock need not be named twice.
    words = [(one["mode"] if one["name"] == dock else f"{one['mode']} {one['name']}", one["metres"]) for one in stops]
    texts = [f"{name} {metres:.0f} m" for name, metres in words[:_MOST_STOPS]]
    return el("td", [el("span", text, class_="key") for text in texts], class_="near")


def _period(row: dict[str, Any], zone: str) -> str:
    start, end = (None if row[key] is None else row[key].astimezone(ZoneInfo(zone)) for key in ("start", "end"))
    if start is None:
        return "no time given" if end is None else f"until {end:%H:%M} on {day(end)}"
    if end is None:
        return f"since {day(start)}"
    if start.date() == end.date():
        return f"{start:%H:%M} to {end:%H:%M}"
    return f"{day(start)} to {day(end)}"


def _late(seconds: float) -> str:
    if abs(seconds) < _ON_TIME_S:
        return "on time"
    return f"{_minutes(abs(seconds))} {'late' if seconds > 0 else 'early'}"


def _minutes(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes >= 10 or abs(minutes - round(minutes)) < 0.05 else f"{minutes:.1f} min"


def _worst(row: dict[str, Any] | None) -> float:
    return float("-inf") if row is None or row["worst_s"] is None else row["worst_s"]


def _name(names: dict[str, dict[str, Any]], route: str) -> str:
    return str(names.get(route, {}).get("name") or route)


def _listed(text: str | None) -> list[str]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return [str(one) for one in found] if isinstance(found, list) else []


def _stock(value: float | None) -> Html:
    return _cell("–" if value is None else count(round(value)))


def _cell(text: str) -> Html:
    return el("td", text, class_="n")


def _right(text: str) -> Html:
    return el("span", text, class_="n")


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"
