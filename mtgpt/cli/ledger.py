"""How the command line shows batches: a line each, under the name of their source, in 80 columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import RenderableType

    from mtgpt.lake.batch import BatchResult

SUPERSEDED = "superseded"
"""How a held batch is shown in whose place other bytes of the same name landed; the ledger keeps it as held."""

_STATUS = {"committed": "landed", "replay": "known", "held": "HELD", "replayed": "replayed", SUPERSEDED: "replaced"}
_STYLE = {"committed": "green", "held": "bold red"}
SCALE_JUMP = "scale_jump"
SHORT = 8
"""Digits of a batch id that are shown; as many are enough to name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One batch, as it is shown."""

    source_id: str
    name: str
    status: str
    rows: tuple[int, int, int, int]
    batch_id: str
    last: str


def result_line(one: BatchResult) -> Line:
    """The line of what became of a batch just now."""
    return Line(
        source_id=one.source_id,
        name=one.name,
        status=one.status,
        rows=(one.rows_in, one.rows_good, one.rows_quarantined, one.rows_duplicate),
        batch_id=one.batch_id,
        last=f"{one.seconds:.1f}",
    )


def ledger_table(lines: Iterable[Line], *, last: str, title: str | None = None) -> Table:
    """Batches under their sources.

    Args:
        lines: Batches; those of one source that stand together get one heading.
        last: Heading of the last column.
        title: Line above.
    """
    table = Table(title=title, title_justify="left", header_style="bold", box=None, caption_justify="left")
    table.add_column("batch", no_wrap=True)
    # The only column that may be cut: of a number, every digit counts.
    table.add_column("file", min_width=8)
    table.add_column("status", no_wrap=True)
    for name in ("in", "= good", "+ quar.", "+ dup."):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(last, justify="right", no_wrap=True)
    source = None
    for line in lines:
        if line.source_id != source:
            source = line.source_id
            table.add_row(Text(""), _cut(source, "bold"))
        style = _STYLE.get(line.status, "")
        counts = [Text(f"{number:,}") for number in line.rows]
        if line.rows[2]:
            counts[2].stylize("yellow")
        table.add_row(
            Text(line.batch_id[:SHORT], "dim"),
            _cut(line.name),
            Text(_STATUS[line.status], style),
            *counts,
            Text(line.last),
        )
    return table


def _cut(text: str, style: str = "") -> Text:
    return Text("".join(c if c.isprintable() else "?" for c in text), style, no_wrap=True, overflow="ellipsis")


def results_table(results: Sequence[BatchResult], *, title: str | None = None) -> RenderableType:
    """What became of batches just now; held ones are explained below, in red."""
    held = [one for one in results if one.status == "held"]
    return Group(ledger_table(map(result_line, results), last="s", title=title), *(_explained(one) for one in held))


def suspect_text(counts: Mapping[str, int]) -> str:
    """What to say of rows that landed and whose values look wrong, by reason."""
    said = ", ".join(f"{number:,} {reason}" for reason, number in counts.items())
    return f"{sum(counts.values()):,} values look wrong ({said}); panels leave them out"


def _explained(one: BatchResult) -> Text:
    batch = one.batch_id[:SHORT]
    if (one.reason or "").startswith(SCALE_JUMP):
        return Text(
            f"\n{one.source_id}: batch {batch} is held, no table was touched. {one.reason}.\n"
            f"  If the feed changed its unit:  mend the source's options, then ingest again\n"
            f"  If the values are right:       mtgpt lake replay {batch} --accept",
            style="red",
        )
    return Text(
        f"\n{one.source_id}: batch {batch} is held, no table was touched. {one.reason}.\n"
        f"  What is wrong with the rows:  mtgpt lake quarantine --batch {batch}\n"
        f"  After mending the contract:   mtgpt lake replay {batch}\n"
        "  After mending the feed, ingest it again: other bytes are another batch.",
        style="red",
    )
