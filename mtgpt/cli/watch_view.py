"""How the command line shows feeds that are watched: a line each, in 80 columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mtgpt.lake.watch.poller import FeedStatus
    from mtgpt.lake.watch.watch import Event

_BREAKER = {"closed": "", "open": "rests", "half-open": "is tried"}


def feeds_table(feeds: Iterable[FeedStatus]) -> Table:
    """Sources with what they do, when they last answered, what they brought and when they are asked next."""
    now = datetime.now(UTC)
    table = Table(title_justify="left", header_style="bold", box=None)
    table.add_column("source", min_width=8)
    table.add_column("state", no_wrap=True)
    for name in ("last ok", "polls", "new", "rows", "next"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in feeds:
        table.add_row(
            Text(one.source_id, no_wrap=True, overflow="ellipsis"),
            _state(one),
            _ago(one.last_success, now),
            f"{one.polls:,}",
            f"{one.landed:,}",
            f"{one.rows:,}",
            _ahead(one.next_poll, now),
        )
    return table


def line_of(event: Event) -> str | None:
    """An event as a line for people; None for what goes without saying."""
    facts: dict[str, Any] = dict(event.facts)
    said = None
    match event.event:
        case "landed":
            counts = (facts[f"rows_{name}"] for name in ("good", "quarantined", "duplicate"))
            said = "{:,} rows landed, {:,} put aside, {:,} known".format(*counts)
        case "held":
            said = f"batch {facts['batch_id'][:8]} is held. {facts['reason']}"
        case "failed" | "lake":
            said = facts["sentence"]
        case "rests":
            said = f"failed too often, rests for {facts['seconds']} s"
        case "derived":
            said = f"{facts['rows_good']:,} rows derived"
        case "compacted":
            said = f"{facts['table']}: {facts['files_before']:,} files became {facts['files_after']:,}"
    return None if said is None else f"{event.at.astimezone():%H:%M:%S} {event.source or 'lake'}: {said}"


def _state(one: FeedStatus) -> Text:
    if one.breaker != "closed":
        return Text(_BREAKER[one.breaker], "red")
    if one.failures:
        return Text(f"{one.failures} failure{'s' if one.failures > 1 else ''}", "yellow")
    if one.fault is not None:
        return Text("HELD" if one.held else "see below", "bold red")
    return Text(one.doing, "green" if one.doing == "waits" and one.last_success else "")


def _ago(moment: datetime | None, now: datetime) -> str:
    return "never" if moment is None else _short((now - moment).total_seconds())


def _ahead(moment: datetime | None, now: datetime) -> str:
    return "" if moment is None else _short(max(0.0, (moment - now).total_seconds()))


def _short(seconds: float) -> str:
    for limit, size, unit in ((100, 1, "s"), (6000, 60, "m"), (360_000, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
