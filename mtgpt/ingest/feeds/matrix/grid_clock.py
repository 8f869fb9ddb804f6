"""When a grid's steps were: counted from a start over service days and hours, or read from the feed's own times."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import Literal, Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mtgpt.errors import FeedError
from mtgpt.ingest.feeds.matrix.long_rows import Clock
from mtgpt.ingest.rows.localtime import clock_to_utc

_MINUTE_S = 60
_HOUR_PATTERN = r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$"


class ClockOptions(BaseModel):
    """How a grid's steps become times."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    interval_s: int = Field(ge=1, le=86_400, description="Length of a step in seconds.")
    start: date | datetime | None = Field(
        default=None,
        description="Local time of the first step, where the file has no times: 2012-05-01 or 2014-08-08T01:00.",
    )
    end: date | None = Field(
        default=None, description="Local date of the last step: a file with more or fewer steps is then refused."
    )
    days: Literal["all", "weekdays"] = Field(default="all", description="Which days the steps run over.")
    hours: tuple[str, str] = Field(
        default=("00:00", "24:00"), description="Local hours of a day that the steps run over, such as 05:00 to 23:00."
    )
    clock: Literal["local", "utc"] = Field(default="local", description="Whose times start and the file's times are.")
    time_format: str | None = Field(default=None, description="strftime format of the file's times; ISO if absent.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.first is not None and self.first.tzinfo is not None:
            raise ValueError("start without an offset; say clock: utc if it is UTC")
        first, last = self.window
        if first >= last or (last - first) * _MINUTE_S % self.interval_s:
            raise ValueError("hours that hold whole steps of interval_s")
        return self

    @property
    def first(self) -> datetime | None:
        """``start`` as a time."""
        if self.start is None or isinstance(self.start, datetime):
            return self.start
        return datetime.combine(self.start, time())

    @property
    def window(self) -> tuple[int, int]:
        """``hours`` in minutes of the day."""
        first, last = (int(hour[:2]) * 60 + int(hour[3:5]) for hour in self.hours)
        return first, last

    @property
    def slots_per_day(self) -> int:
        """Steps of a full day."""
        first, last = self.window
        return (last - first) * _MINUTE_S // self.interval_s


def counted_clock(count: int, options: ClockOptions, *, zone: str, where: str) -> Clock:
    """Times of ``count`` steps from ``options.start`` on, by the clock on the wall: each day has as many steps.

    Raises:
        FeedError: There is no start, or the steps do not end on ``options.end``.
    """
    start = options.first
    if start is None:
        raise FeedError(
            "nothing says when its steps were",
            where=where,
            next_step="set the option start, or time for a column of times",
        )
    day = np.datetime64(start.date(), "D")
    if options.days == "weekdays" and not np.is_busday(day):
        raise FeedError("the start is no weekday", where=where, got=f"{start:%A %Y-%m-%d}", expected="Monday to Friday")
    slots = options.slots_per_day
    first_minute = options.window[0]
    minute = start.hour * 60 + start.minute
    skipped = max(0, (minute - first_minute) * _MINUTE_S // options.interval_s)
    step = np.arange(skipped, skipped + count)
    day_index, slot = step // slots, step % slots
    dates = np.busday_offset(day, day_index) if options.days == "weekdays" else day + day_index
    local = dates.astype("datetime64[us]") + np.timedelta64(first_minute * _MINUTE_S, "s")
    local = local + (slot * options.interval_s).astype("timedelta64[s]")
    if options.end is not None and count:
        _check_end(local[-1], count, day=day, skipped=skipped, options=options, where=where)
    return _clock(pl.Series("time_start", local), options, zone)


def _check_end(
    last: np.datetime64, count: int, *, day: np.datetime64, skipped: int, options: ClockOptions, where: str
) -> None:
    end = np.datetime64(options.end, "D")
    if options.days == "weekdays":
        days = int(np.busday_count(day, end + 1))
    else:
        days = int((end - day) // np.timedelta64(1, "D")) + 1
    expected = days * options.slots_per_day - skipped
    if count != expected:
        raise FeedError(
            "the number of steps does not fit the dates",
            where=where,
            got=f"{count} steps, the last at {last.astype('datetime64[m]')}",
            expected=f"{expected} steps, to the end of {options.end}",
            next_step="check start, end, days, hours and interval_s",
        )


def read_clock(times: pl.Series, options: ClockOptions, *, zone: str, where: str) -> Clock:
    """Times of the steps as the file gives them, in its order.

    Args:
        times: [T] texts or naive datetimes.
        options: Format and clock.
        zone: The city's zone.
        where: What to name in an error.

    Raises:
        FeedError: No time at all can be read.
    """
    parsed = times
    if times.dtype == pl.String:
        texts = times.str.strip_chars()
        form = options.time_format
        parsed = texts.str.to_datetime(form, time_unit="us", strict=False) if form else _iso(texts)
    elif not isinstance(times.dtype, pl.Datetime):
        raise FeedError("the times are no times", where=where, got=str(times.dtype), expected="texts or timestamps")
    elif times.dtype.time_zone is not None:
        # These say themselves whose they are; the clock's own reading is what comes below.
        own = "UTC" if options.clock == "utc" else zone
        parsed = times.dt.convert_time_zone(own).dt.replace_time_zone(None)
    if len(times) and parsed.null_count() == len(times):
        raise FeedError(
            "no time can be read",
            where=where,
            got=str(times[0]),
            expected=options.time_format or "YYYY-MM-DD HH:MM:SS",
            next_step="set the option time_format",
        )
    return _clock(parsed, options, zone, written=times)


def _iso(texts: pl.Series) -> pl.Series:
    parsed = None
    for form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"):
        once = texts.str.to_datetime(form, time_unit="us", strict=False)
        parsed = once if parsed is None else parsed.zip_with(parsed.is_not_null(), once)
        if parsed.null_count() == texts.null_count():
            break
    return parsed if parsed is not None else texts.str.to_datetime(strict=False)


def _clock(local: pl.Series, options: ClockOptions, zone: str, *, written: pl.Series | None = None) -> Clock:
    utc = clock_to_utc(local, "UTC" if options.clock == "utc" else zone)
    return Clock(
        utc=utc.alias("time_start"),
        written=(local if written is None else written).cast(pl.String),
        readable=local.is_not_null(),
        interval_s=options.interval_s,
    )
