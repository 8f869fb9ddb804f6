"""Faults that only an adapter can see: their rule ids, what they say to people, and how a frame carries them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mtgpt.ingest.adapter import FAULT, RAW

if TYPE_CHECKING:
    from collections.abc import Mapping

MESSAGE = "__message"
"""Optional Utf8 column of a chunk: what the adapter has to say about :data:`~mtgpt.ingest.adapter.FAULT`."""

TIME_UNREADABLE = "time_unreadable"
TIME_DOES_NOT_EXIST = "time_does_not_exist"
TIME_OUTSIDE_PERIOD = "time_outside_file_period"
NUMBER_UNREADABLE = "number_unreadable"
NUMBER_NOT_FINITE = "number_not_finite"
ZONE_UNKNOWN = "zone_unknown"
TEXT_UNREADABLE = "text_unreadable"
LINE_WIDTH = "line_width"
LINE_UNREADABLE = "line_unreadable"
PLACE_UNKNOWN = "place_unknown"
TIME_UNKNOWN = "time_unknown"
TIME_FAR_FROM_REPORT = "time_far_from_report"

MESSAGES: Mapping[str, str] = {
    TIME_UNREADABLE: "a time is missing or not written as this feed writes times",
    TIME_DOES_NOT_EXIST: "the local time lies in the hour that was skipped when the clocks went forward",
    TIME_OUTSIDE_PERIOD: "the trip begins outside the month of its file, a day either side allowed",
    NUMBER_UNREADABLE: "a cell that should hold a number holds another text",
    NUMBER_NOT_FINITE: "the value is infinite",
    ZONE_UNKNOWN: "no such taxi zone; expected 1 to 265",
    TEXT_UNREADABLE: "a name holds bytes that are not UTF-8",
    LINE_WIDTH: "the line has more or fewer cells than a record of this feed",
    LINE_UNREADABLE: "the line is no JSON object with doc_id and text, all of its fields texts in UTF-8",
    PLACE_UNKNOWN: "the file does not say where it lies",
    TIME_UNKNOWN: "the report gives no time, and no timetable is at hand from which it would follow",
    TIME_FAR_FROM_REPORT: "the time lies more than two days from the report",
}


def first_fault(*cases: tuple[pl.Expr, str]) -> pl.Expr:
    """Id of the first rule whose condition holds, null where none does."""
    return pl.coalesce([pl.when(condition).then(pl.lit(rule)) for condition, rule in cases]).alias(FAULT)


def marked(frame: pl.DataFrame, raw: pl.DataFrame) -> pl.DataFrame:
    """Gives the faulty rows of a frame their raw row and a message; they come after the sound ones.

    Args:
        frame: Rows with ``__fault``.
        raw: As many rows: the columns of the feed that may be shown, never those that say something of a rider.

    Returns:
        ``frame`` without ``__fault`` where nothing is faulty, else with ``__fault``, ``__raw`` and ``__message``.
    """
    faulty = frame[FAULT].is_not_null()
    if not faulty.any():
        return frame.drop(FAULT)
    texts = raw.filter(faulty).select(pl.struct(pl.all()).struct.json_encode().alias(RAW))
    bad = frame.filter(faulty).hstack(texts).with_columns(pl.col(FAULT).replace_strict(MESSAGES).alias(MESSAGE))
    # Two parts, so that nothing is written out for the many rows that need no explanation.
    return pl.concat([frame.filter(~faulty), bad], how="diagonal", rechunk=True)
