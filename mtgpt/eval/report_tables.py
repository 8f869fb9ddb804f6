"""The report's tables of facts: ledger, quarantine, provenance, timings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.eval.report_html import Html, count, el, join, table
from mtgpt.eval.report_time import span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mtgpt.model.forecast import Forecast
    from mtgpt.panel.panel import Panel

_MOST_EXAMPLES = 40
_MOST_TEXT = 180
_COUNTS = ("rows_in", "rows_good", "rows_quarantined", "rows_duplicate")
_LANDED = frozenset({"committed", "replayed"})
_MOST_BATCHES = 6
"""More of one source than these are one line, as of a feed that is polled."""


def ledger_table(ledger: pl.DataFrame) -> Html:
    """Every batch with its arithmetic, and the sum; of a source with many, what landed alike is one line."""
    if ledger.is_empty():
        return el("p", "The ledger is empty: nothing has been ingested.", class_="note")
    rows: list[list[object]] = []
    for source, batches in ledger.sort("source_id", "received_at").group_by("source_id", maintain_order=True):
        found = batches.to_dicts()
        landed = [row for row in found if row.get("status") in _LANDED and not row.get("reason")]
        if len(landed) > _MOST_BATCHES:
            counts = [sum(int(row[name] or 0) for row in landed) for name in _COUNTS]
            ends = " to ".join(dict.fromkeys((_file(landed[0]), _file(landed[-1]))))
            name = f"{count(len(landed))} batches: {ends}"
            rows.append([source[0], name, *map(_count, counts), _adds_up_each(landed), _status(landed[0])])
            found = [row for row in found if row not in landed]
        for row in found:
            counts = [int(row[name] or 0) for name in _COUNTS]
            rows.append([row["source_id"], _file(row), *map(_count, counts), _adds_up(counts), _status(row)])
    sums = [int(ledger[name].sum()) for name in _COUNTS]
    total: list[object] = [el("th", "All", scope="row", class_="sum")]
    total.append(el("td", f"{count(ledger.height)} batches", class_="sum"))
    total += [el("td", count(value), class_="n sum") for value in sums]
    rows.append([*total, _adds_up(sums, "sum"), el("td", class_="sum")])
    head: list[object] = ["Source", "File", *map(_right, ("Rows in", "Good", "Quarantined", "Duplicate"))]
    return table("Rows in = good + quarantined + duplicate, batch by batch", [*head, "Adds up", "Status"], rows)


def quarantine_table(quarantine: pl.DataFrame) -> Html:
    """What was refused and why, with one example of each."""
    if quarantine.is_empty():
        return el("p", "Nothing was quarantined: every row kept its contract.", class_="note")
    keys = ["source_id", "table_name", "rule_id"]
    groups = (
        quarantine.group_by(keys, maintain_order=True)
        .agg(pl.len().alias("n"), pl.col("message").first(), pl.col("raw").first())
        .sort("n", *keys, descending=[True, False, False, False])
    )
    rows: list[list[object]] = [
        [
            row["source_id"],
            row["table_name"],
            el("td", el("code", row["rule_id"]), el("br"), el("span", _cut(row["message"]), class_="soft")),
            _count(row["n"]),
            el("code", _cut(row["raw"]), class_="raw"),
        ]
        for row in groups.head(_MOST_EXAMPLES).iter_rows(named=True)
    ]
    head: list[object] = ["Source", "Table", "Broken rule", _right("Rows"), "One of them, as it came"]
    made = table("What was put aside, and why", head, rows)
    rest = groups.height - len(rows)
    if rest:
        return join(made, el("p", f"… and {rest} more kinds of faults: see mtgpt lake quarantine.", class_="note"))
    return made


def provenance_table(panel: Panel, forecasts: Sequence[Forecast]) -> Html:
    """Which data, which window and which model stand behind the numbers."""
    facts: dict[str, Any] = dict(forecasts[0].provenance) if forecasts else {}
    meta = panel.meta
    model = facts.get("model") or facts.get("model_name") or "–"
    size = f"{count(panel.n_step)} steps of {span(meta.interval_s)} × {count(panel.n_series)} series"
    rows: list[list[object]] = [
        ["Panel", el("code", facts.get("panel_id") or meta.panel_id or "–")],
        ["Its size", size],
        ["Its time", f"{panel.time[0]}Z to {panel.time[-1]}Z"],
        ["Built", meta.built_at or "–"],
        ["Tables read", _codes(facts.get("table_versions") or meta.table_versions, "{} version {}")],
        ["Contracts", _codes(facts.get("contracts") or meta.contracts, "{} {:.12}")],
        ["Model", el("td", str(model), " ", el("code", facts.get("model_sha256") or ""))],
        ["Scales made coherent by", str(facts.get("reconciliation") or facts.get("reconcile") or "–")],
    ]
    for forecast in forecasts:
        window = forecast.provenance.get("window") or ["–"]
        made_at = forecast.at.astype("datetime64[m]")
        rows.append([f"Visible to the forecast of {made_at}Z", " to ".join(map(str, window))])
    return table("Data, window and model", ["Fact", "Value"], rows, class_="facts")


def timing_table(timings: Mapping[str, float]) -> Html:
    """Seconds per stage, with a bar."""
    longest = max(timings.values(), default=0.0) or 1.0
    rows: list[list[object]] = []
    for stage, seconds in timings.items():
        bar = el("div", class_="bar", style=f"width:{max(100 * seconds / longest, 0.5):.1f}%")
        rows.append([stage, _seconds(seconds), el("td", bar, class_="wide")])
    total = el("th", "All stages", scope="row", class_="sum")
    rows.append([total, _seconds(sum(timings.values()), "n sum"), el("td", class_="sum")])
    return table("How long it took", ["Stage", _right("Time"), el("span", "Share", class_="away")], rows)


def _codes(facts: Mapping[str, Any], pattern: str) -> Html:
    if not facts:
        return el("td", "–")
    return el("td", [el("div", el("code", pattern.format(name, str(value)))) for name, value in facts.items()])


def _file(row: Mapping[str, Any]) -> str:
    # The ledger keeps the files as JSON; a batch that was derived from others has none.
    try:
        files = json.loads(row.get("files") or "[]")
        names = [str(file["name"]) for file in files if file["role"] == "data"]
    except (ValueError, TypeError, KeyError):
        names = []
    return ", ".join(names) or str(row["kind"])


def _count(value: int) -> Html:
    return el("td", count(value), class_="n")


def _right(text: str) -> Html:
    return el("span", text, class_="n")


def _seconds(value: float, class_: str = "n") -> Html:
    return el("td", f"{value:.1f} s", class_=class_)


def _adds_up(counts: Sequence[int], class_: str | None = None) -> Html:
    fits = counts[0] == sum(counts[1:])
    return el("td", el("span", "✓ yes" if fits else "✗ no", class_="good" if fits else "bad"), class_=class_)


def _adds_up_each(rows: Sequence[Mapping[str, Any]]) -> Html:
    # Two batches that are off must not make a sum that fits.
    each = [[int(row[name] or 0) for name in _COUNTS] for row in rows]
    off = next((counts for counts in each if counts[0] != sum(counts[1:])), None)
    return _adds_up(off or each[0])


def _status(row: Mapping[str, Any]) -> Html:
    status, reason = str(row.get("status") or "–"), row.get("reason")
    kind = "good" if status in _LANDED else "bad"
    return el("td", el("span", status, class_=kind), f": {_cut(reason)}" if reason else None)


def _cut(text: object) -> str:
    whole = "" if text is None else str(text)
    return whole if len(whole) <= _MOST_TEXT else whole[: _MOST_TEXT - 1] + "…"
