"""How the command line speaks: JSON or a table on standard output, progress and errors on standard error."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import RenderableType


def console(*, stderr: bool = False) -> Console:
    """A console on standard output, or on standard error for what is not the answer."""
    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def emit(data: Any, *, as_json: bool, table: Callable[[], RenderableType] | None = None) -> None:
    """Prints the answer of a reading command.

    Args:
        data: The answer; anything that :func:`as_json_text` takes.
        as_json: Print ``data`` as one JSON document, for programs.
        table: Makes what a person sees; called only when ``as_json`` is false. Without it JSON is printed either way.
    """
    if as_json or table is None:
        sys.stdout.write(as_json_text(data) + "\n")
        return
    console().print(table())


def as_json_text(data: Any) -> str:
    """Renders dataclasses, pydantic models, Polars frames, numpy scalars and arrays, times and paths as strict JSON.

    NaN and infinities become ``null``: JSON has no word for them.
    """
    return json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False)


def rows_table(
    rows: Iterable[Sequence[Any] | dict[str, Any]],
    columns: Sequence[str],
    *,
    title: str | None = None,
    caption: str | None = None,
) -> Table:
    """A plain table; numbers to the right, nothing for ``None``.

    Args:
        rows: Cells in the order of ``columns``, or dictionaries that hold them by name.
        columns: Headings, and keys of dictionary rows.
        title: Line above.
        caption: Line below.
    """
    cells = [[row.get(name) for name in columns] if isinstance(row, dict) else list(row) for row in rows]
    table = Table(
        title=title, caption=caption, title_justify="left", caption_justify="left", header_style="bold", box=None
    )
    for index, name in enumerate(columns):
        numeric = any(_is_number(row[index]) for row in cells)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        # Text, not str: a bracket in a stop's name is no markup.
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


@contextmanager
def progress(label: str, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Shows what is going on, on standard error.

    Args:
        label: What the whole step is called.
        quiet: Say nothing (``--json`` and tests).

    Yields:
        A callback that takes the current step as a short text: a live line on a terminal, one line each elsewhere.
    """
    if quiet:
        yield lambda _: None
        return
    out = console(stderr=True)
    if not out.is_terminal:
        yield lambda text: out.print(Text(f"{label}: {text}"), soft_wrap=True)
        return
    with out.status(Text(label)) as status:
        yield lambda text: status.update(Text(f"{label}: {text}"))


def fail(sentence: str) -> None:
    """Prints one sentence on standard error."""
    console(stderr=True).print(Text(sentence), style="red", soft_wrap=True)


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return _plain_object(value)


def _plain_object(value: Any) -> Any:
    if isinstance(value, date):  # datetime too
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    # By method, so that neither pydantic, polars nor numpy has to be imported to print a dictionary.
    for method, options in (("model_dump", {"mode": "json"}), ("to_dicts", {}), ("tolist", {})):
        if hasattr(value, method):
            return _plain(getattr(value, method)(**options))
    return str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):
        number = float(value)
        return "" if math.isnan(number) else f"{number:,.4g}" if abs(number) < 1000 else f"{number:,.0f}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in str(value))
