"""When a source is asked again: every so many seconds, or by the clock of its city."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from mtgpt.errors import ManifestError

if TYPE_CHECKING:
    import random

    from mtgpt.ingest.manifest import CityManifest, Source

LIVE_S = 60.0
"""Feeds that change all the time, and folders of this machine, where a look costs nothing."""

OTHERS_S = 3600.0
_LIVE_KINDS = frozenset({"gtfs_rt", "gbfs"})
_FRESH_S = (15.0, 300.0)
_FIRST_RETRY_S = 30.0
_LONGEST_RETRY_S = 300.0
_DOUBLINGS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How often one source is asked.

    Attributes:
        every_s: Seconds between two polls.
        cron: Five cron fields instead, in ``zone``.
        zone: IANA time zone of the city.
        fixed: A person said how often; otherwise a live feed's own word for how long it stays fresh counts.
    """

    every_s: float
    cron: str | None = None
    zone: str = "UTC"
    fixed: bool = False

    @classmethod
    def of(cls, source: Source, manifest: CityManifest, *, every_s: float | None = None) -> Self:
        """What the manifest says of a source, or what its kind suggests.

        Args:
            source: One of its sources.
            manifest: The city.
            every_s: What a person asks for instead.

        Raises:
            ManifestError: A schedule that no calendar knows, such as minute 75.
        """
        if every_s is not None or source.poll_s is not None:
            return cls(every_s=source.poll_s if every_s is None else every_s, fixed=True)  # pyright: ignore[reportArgumentType]
        if source.schedule is not None:
            cadence = cls(every_s=OTHERS_S, cron=source.schedule, zone=manifest.time_zone, fixed=True)
            try:
                cadence.wait_s(datetime.now(UTC))
            except CronSimError as error:
                where = f"{manifest.city}.{source.id}.schedule"
                raise ManifestError(f"not a schedule: {error}", where=where, got=source.schedule) from None
            return cadence
        return cls(every_s=LIVE_S if source.kind in _LIVE_KINDS or source.path is not None else OTHERS_S)

    def wait_s(self, now: datetime, *, fresh_s: float | None = None) -> float:
        """Seconds from one poll to the next.

        Args:
            now: When the one was due, UTC.
            fresh_s: For how long the server says that its answer holds.
        """
        if self.cron is not None:
            # A clock that was set back a little must not ask twice in the same minute.
            after = (now + timedelta(seconds=1)).astimezone(ZoneInfo(self.zone))
            return (next(CronSim(self.cron, after)) - now).total_seconds()
        if self.fixed or fresh_s is None or self.every_s > LIVE_S:
            return self.every_s
        return min(max(fresh_s, _FRESH_S[0]), _FRESH_S[1])

    def retry_s(self, failures: int, chance: random.Random) -> float:
        """Seconds to wait after so many failures in a row: doubled each time, up to five minutes, with jitter."""
        first = min(self.every_s, _FIRST_RETRY_S)
        longest = first * 2.0 ** min(failures - 1, _DOUBLINGS)
        return min(longest, _LONGEST_RETRY_S) * chance.uniform(0.5, 1.0)
