"""Routes of a GTFS feed and the agencies that run them: rows of the table route."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from mtgpt.ingest.adapter import ROW, Chunk
from mtgpt.ingest.feeds.gtfs.faults import ID_MISSING, MODE_UNKNOWN, TEXT_UNREADABLE
from mtgpt.ingest.rows.localtime import UTC_TIME
from mtgpt.ingest.rows.places import SINCE_EVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mtgpt.ingest.feeds.gtfs.faults import GtfsFaults
    from mtgpt.ingest.feeds.gtfs.options import GtfsOptions
    from mtgpt.ingest.feeds.gtfs.tables import GtfsZip

_ROUTES, _AGENCIES = "routes.txt", "agency.txt"
NOT_UTF8 = "�"

_MODES: Mapping[str, Iterable[int]] = {
    "tram": (0, *range(900, 908)),
    "metro": (1, 12, *range(400, 406), 500, 600),
    "rail": (2, *range(100, 118), 300),
    "bus": (3, 11, *range(200, 210), *range(700, 717), 800),
    "ferry": (4, 1000, 1200),
    "cable": (5, 6, 7, *range(1300, 1308), 1400, 1401, 1402),
    "taxi": tuple(range(1500, 1508)),
}
"""Route types of the standard and of its common extension by mode of the lake."""


def read_routes(feed: GtfsZip, options: GtfsOptions, faults: GtfsFaults) -> pl.DataFrame:
    """The wanted routes.

    Returns:
        One row per route in order of route_id: the table route's columns, ``route`` (uint32), ``line`` (a name that is
        never null), ``wanted`` (the options ask for it) and ``__row``.

    Raises:
        FeedError: A column is missing.
    """
    agencies = feed.table(_AGENCIES)
    rows = feed.table(_ROUTES)
    modes = {str(number): mode for mode, numbers in _MODES.items() for number in numbers}
    rows = rows.with_columns(mode=pl.col("route_type").replace_strict(modes, default=None, return_dtype=pl.String))
    names = pl.concat_str("route_id", "route_short_name", "route_long_name", ignore_nulls=True)
    sound = faults.sound(
        _ROUTES,
        rows,
        (pl.col("route_id").is_null(), ID_MISSING),
        (pl.col("mode").is_null(), MODE_UNKNOWN),
        (names.str.contains(NOT_UTF8, literal=True), TEXT_UNREADABLE),
    )
    if agencies.height == 1:
        # The standard lets routes leave out the only agency there is.
        known = sound.with_columns(
            agency=pl.lit(agencies["agency_name"][0], pl.String), zone=pl.lit(agencies["agency_timezone"][0], pl.String)
        )
    else:
        known = sound.join(
            agencies.select("agency_id", agency="agency_name", zone="agency_timezone").unique(
                "agency_id", keep="first"
            ),
            on="agency_id",
            how="left",
            maintain_order="left",
        )
    colour = pl.col("route_color").str.strip_prefix("#")
    numbers = known.select(pl.col("route_id").unique().sort()).with_row_index("route")
    return (
        known.with_columns(
            name="route_short_name",
            long_name="route_long_name",
            colour=pl.when(colour.str.contains(r"^[0-9A-Fa-f]{6}$")).then(colour),
            line=pl.coalesce("route_short_name", "route_long_name", "route_id"),
            wanted=_wanted(options),
        )
        .join(numbers, on="route_id", how="left", maintain_order="left")
        .sort("route", maintain_order=True)
    )


def route_rows(routes: pl.DataFrame, on_demand: pl.Series, *, zone: str) -> Chunk:
    """A chunk of the table route.

    Args:
        routes: From :func:`read_routes`.
        on_demand: Numbers of the routes that run without times, when called (GTFS-Flex).
        zone: The city's time zone; only another one is worth a word.
    """
    facts = {
        "description": pl.col("route_desc"),
        "network": pl.col("network_id"),
        "route_type": pl.when(pl.col("route_type").str.len_chars() > 2).then("route_type"),
        "time_zone": pl.when(pl.col("zone") != zone).then("zone"),
        "on_demand": pl.when(pl.col("route").is_in(on_demand.implode())).then(pl.lit(value=True)),
    }
    frame = routes.select(
        ROW,
        "route_id",
        "mode",
        pl.col("name").str.head(200),
        pl.col("long_name").str.head(500),
        pl.col("agency").str.head(200),
        "colour",
        attributes=json_object(facts),
        valid_from=pl.lit(SINCE_EVER, dtype=UTC_TIME),
    )
    return Chunk(table="route", frame=frame)


def json_object(facts: Mapping[str, pl.Expr]) -> pl.Expr:
    """One JSON object per row of the facts that are not null, null where none is; lists and texts as they are."""
    parts = [
        pl.when(value.is_not_null()).then(
            pl.struct(value.alias(name)).struct.json_encode().str.strip_prefix("{").str.strip_suffix("}")
        )
        for name, value in sorted(facts.items())
    ]
    joined = pl.concat_str(parts, separator=",", ignore_nulls=True)
    return pl.when(joined != "").then(pl.concat_str(pl.lit("{"), joined, pl.lit("}")))


def _wanted(options: GtfsOptions) -> pl.Expr:
    wanted = pl.lit(value=True)
    for names, columns in (
        (options.routes, ("route_id", "route_short_name")),
        (options.agencies, ("agency_id", "agency")),
    ):
        if names is not None:
            wanted &= pl.any_horizontal(pl.col(one).is_in(list(names)).fill_null(value=False) for one in columns)
    return wanted
