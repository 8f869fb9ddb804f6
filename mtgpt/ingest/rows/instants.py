"""Moments that a feed writes one by one: ISO 8601 texts and POSIX seconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_LONGEST_TEXT = 40
_LAST_SECOND = 4_102_444_800  # 2100: beyond it a number is milliseconds, or nonsense
_SPAN = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2300, 1, 1, tzinfo=UTC))


def instant(value: Any, zone: ZoneInfo) -> datetime | None:
    """A moment in UTC, or None where it cannot be read.

    Args:
        value: ISO 8601 text, or POSIX seconds as a number or its text.
        zone: Whose local time a text without an offset is in. In a repeated hour its first pass is meant; a time
            inside a skipped hour cannot be read.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _LONGEST_TEXT or not text.isascii():
            return None
        if not text.isdigit():
            return _from_text(text, zone)
        value = int(text)
    if not isinstance(value, int | float) or not 0 <= value <= _LAST_SECOND:
        return None
    return datetime.fromtimestamp(value, UTC)


def _from_text(text: str, zone: ZoneInfo) -> datetime | None:
    try:
        read = datetime.fromisoformat(text)
        if read.tzinfo is None:
            local = read.replace(tzinfo=zone)
            utc = local.astimezone(UTC)
            if utc.astimezone(zone).replace(tzinfo=None) != read:
                return None
        else:
            utc = read.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return utc if _SPAN[0] <= utc < _SPAN[1] else None
