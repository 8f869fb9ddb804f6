"""What trip files of all operators have in common: a period in the file's name, and times."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.errors import FeedError
from mtgpt.ingest.rows.marks import TIME_OUTSIDE_PERIOD

if TYPE_CHECKING:
    from collections.abc import Iterable

PERIOD_PATTERN = r"^\d{4}-(0[1-9]|1[0-2])$"
_IN_NAME = re.compile(r"(?<!\d)(20\d{2})-?(0[1-9]|1[0-2])(?!\d)")
_FORMATS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f")
_SLACK = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Local times from ``start`` to before ``end`` in which a file's trips begin: its month, and a day either side."""

    start: datetime
    end: datetime

    @classmethod
    def of_month(cls, year: int, month: int) -> Period:
        """One month and a day either side."""
        start = datetime(year, month, 1)  # noqa: DTZ001 - naive local time, like the file's
        return cls(start=start - _SLACK, end=(start + timedelta(days=32)).replace(day=1) + _SLACK)


def file_period(name: str, option: str | None) -> Period | None:
    """The period that a file covers: from the option (``2020-03``) or else from its name (``…_2020-03.csv.gz``)."""
    found = _IN_NAME.search(option or name)
    return None if found is None else Period.of_month(int(found[1]), int(found[2]))


def naive_times(column: pl.Series, *, where: str) -> pl.Series:
    """Texts (ISO date and time, fractions of seconds allowed) or datetimes as naive datetimes; null where unreadable.

    The formats are fixed on purpose: left to guess, a file of American dates would pass as something else.

    Raises:
        FeedError: Typed as anything else: numbers, dates without hours, times with a zone.
    """
    if column.dtype == pl.Null:
        return column.cast(pl.Datetime("us"))
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is None:
        return column.cast(pl.Datetime("us"))
    if column.dtype != pl.String:
        raise FeedError(
            "a column of times has the wrong type",
            where=f"{where}: {column.name}",
            got=str(column.dtype),
            expected="texts, or timestamps without a zone",
        )
    sample = column.drop_nulls().head(1)
    # Most files keep to one format: the one that reads the first time goes first, and is mostly the only one.
    formats = sorted(_FORMATS, key=lambda one: _parsed(sample, one).null_count())
    times = _parsed(column, formats[0])
    for other in formats[1:]:
        left = times.is_null() & column.is_not_null()
        if not left.any():
            break
        at = left.arg_true()
        times = times.scatter(at, _parsed(column.gather(at), other))
    return times


def _parsed(texts: pl.Series, form: str) -> pl.Series:
    return texts.str.to_datetime(form, time_unit="us", strict=False)


def outside(column: str, period: Period | None) -> Iterable[tuple[pl.Expr, str]]:
    """The case that a local time lies outside the file's period, if that is known."""
    if period is not None:
        yield ~pl.col(column).is_between(period.start, period.end, closed="left"), TIME_OUTSIDE_PERIOD
