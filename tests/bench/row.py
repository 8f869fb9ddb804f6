"""What a benchmark hands back: rows of name, value, bar, unit and verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure.

    Attributes:
        name: Unique, ``[a-z0-9_]+``; what ``make bench ONLY=…`` takes.
        value: What was measured, or None where it could not be.
        bar: What it must be, for people: ``≤ 2.50``.
        unit: Of value and bar; ``""`` for a share or a count.
        passed: Verdict; None where nothing was measured, or where the row only informs.
        detail: How it was measured, in a few words; the reason where it was not.
    """

    name: str
    value: float | None
    bar: str
    unit: str
    passed: bool | None
    detail: str = ""


def at_most(name: str, value: float, bar: float, unit: str, detail: str = "") -> Row:
    """A figure that must not exceed its bar."""
    return Row(name=name, value=float(value), bar=f"≤ {bar:g}", unit=unit, passed=bool(value <= bar), detail=detail)


def at_least(name: str, value: float, bar: float, unit: str, detail: str = "") -> Row:
    """A figure that must reach its bar."""
    return Row(name=name, value=float(value), bar=f"≥ {bar:g}", unit=unit, passed=bool(value >= bar), detail=detail)


def between(name: str, value: float, low: float, high: float, unit: str, detail: str = "") -> Row:
    """A figure that must lie in a range, ends included."""
    return Row(
        name=name,
        value=float(value),
        bar=f"{low:g}–{high:g}",
        unit=unit,
        passed=bool(low <= value <= high),
        detail=detail,
    )


def for_comparison(name: str, value: float, unit: str, detail: str = "") -> Row:
    """A figure without a bar: a baseline beside the row that has one."""
    return Row(name=name, value=float(value), bar="", unit=unit, passed=None, detail=detail)


def not_measured(name: str, why: str) -> Row:
    """A row that could not be measured here."""
    return Row(name=name, value=None, bar="", unit="", passed=None, detail=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a benchmark may use.

    Attributes:
        real_data: Folder of the published data sets; only where the benchmark asked for it may it be relied on.
        scratch: An empty folder, removed afterwards.
        say: Shows progress.
    """

    real_data: Path
    scratch: Path
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A function that measures one or several rows in one go.

    Attributes:
        rows: Names of the rows that it gives (further ones, for comparison, may come with them).
        run: Measures; slow imports belong inside.
        needs: Folders of the published data that it reads; where one is absent, its rows say so.
    """

    rows: tuple[str, ...]
    run: Callable[[Context], Iterable[Row]]
    needs: tuple[str, ...] = ()
