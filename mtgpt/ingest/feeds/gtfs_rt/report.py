"""What all rows of one GTFS-Realtime message share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import polars as pl

if TYPE_CHECKING:
    from datetime import date

    from mtgpt.ingest.feeds.gtfs_rt.timetable import Timetable

_HALF_DAY = timedelta(hours=12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A message as far as its rows need to know it.

    Attributes:
        feed_time: When it was made, UTC.
        zone: Local time of the feed.
        timetable: What it refers to, where that is at hand.
        prefix: Put before stop ids, as in the timetable's own source.
    """

    feed_time: datetime
    zone: str
    timetable: Timetable | None = None
    prefix: str = ""

    @property
    def stamp(self) -> int:
        """``feed_time`` in seconds since 1970."""
        return int(self.feed_time.timestamp())

    @property
    def days(self) -> list[date]:
        """Service days that a sound report may speak of."""
        today = self.feed_time.date()
        return [today + timedelta(days=offset) for offset in range(-3, 4)]

    def day_starts(self) -> pl.DataFrame:
        """Where those days begin: service_date, day_start (s since 1970)."""
        zone = (self.timetable.zone if self.timetable is not None else None) or self.zone
        return pl.DataFrame(
            {"service_date": self.days, "day_start": [int(day_start(day, zone).timestamp()) for day in self.days]}
        )

    def near(self, stamp: int) -> datetime:
        """A time of an entity, or the message's own where the entity has none or one of another day."""
        return datetime.fromtimestamp(stamp, UTC) if abs(stamp - self.stamp) <= 86_400 else self.feed_time


def day_start(day: date, zone: str) -> datetime:
    """Noon less twelve hours, UTC: what times of a timetable count from (GTFS Reference, "Time")."""
    return datetime.combine(day, time(12), ZoneInfo(zone)).astimezone(UTC) - _HALF_DAY
