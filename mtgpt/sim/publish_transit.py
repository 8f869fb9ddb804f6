"""Writes the operator's timetable as GTFS, zipped, and the gates' counts of its metro."""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import date
from typing import TYPE_CHECKING

from mtgpt.sim.network import place
from mtgpt.sim.sky import HOLIDAYS, TIME_ZONE
from mtgpt.sim.timetable import SUNDAYS, WEEK, WORKDAYS, clock_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mtgpt.sim.timetable import Timetable, Trip
    from mtgpt.sim.transit import Line, Stop, Transit

_AGENCY = "SVB"
_VALID = (date(2024, 3, 4), date(2024, 6, 30))
_VERSION = "2024-spring-1"
_ROUTE_TYPES = {"tram": 0, "metro": 1, "bus": 3}
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TRANSFER_WALK_S = 180
# Without a time of its own, so that the same timetable gives the same bytes.
_ZIP_TIME = (2024, 2, 26, 9, 0, 0)

_Rows = list[tuple[object, ...]]


def write_gtfs(path: Path, transit: Transit, timetable: Timetable) -> None:
    """The timetable as a GTFS Schedule zip; stops.txt begins with a byte order mark, as an export from Windows does.

    Reference: https://gtfs.org/schedule/reference/
    """
    files = {
        "agency.txt": _table(
            ("agency_id", "agency_name", "agency_url", "agency_timezone", "agency_lang"),
            [(_AGENCY, "Simuloner Verkehrsbetriebe", "https://verkehr.simulon.example", TIME_ZONE, "de")],
        ),
        "feed_info.txt": _table(
            ("feed_publisher_name", "feed_publisher_url", "feed_lang", "feed_start_date", "feed_end_date",
             "feed_version"),
            [("Simuloner Verkehrsbetriebe", "https://verkehr.simulon.example", "mul", *map(_day, _VALID), _VERSION)],
        ),
        "stops.txt": "\ufeff" + _stops(transit.stops),
        "routes.txt": _routes(transit.lines),
        "calendar.txt": _calendar(),
        "calendar_dates.txt": _exceptions(),
        "trips.txt": _trips(timetable),
        "stop_times.txt": _stop_times(timetable),
        "frequencies.txt": _table(
            ("trip_id", "start_time", "end_time", "headway_secs", "exact_times"),
            [(f.trip.trip_id, clock_text(f.start_s), clock_text(f.end_s), f.headway_s, 0)
             for f in timetable.frequencies],
        ),
        "shapes.txt": _shapes(transit.lines),
        "transfers.txt": _transfers(transit.stops),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for name, text in files.items():
            target.writestr(zipfile.ZipInfo(name, _ZIP_TIME), text, zipfile.ZIP_DEFLATED, 9)


def _stops(stops: Sequence[Stop]) -> str:
    rows: _Rows = []
    for stop in stops:
        lon, lat = place(stop.x_m, stop.y_m)
        rows.append(
            (stop.stop_id, stop.name, f"{lat:.6f}", f"{lon:.6f}", 1 if stop.station else 0, stop.parent or "",
             1 if stop.station or stop.parent else 0)
        )  # fmt: skip
    return _table(
        ("stop_id", "stop_name", "stop_lat", "stop_lon", "location_type", "parent_station", "wheelchair_boarding"), rows
    )


def _routes(lines: Sequence[Line]) -> str:
    rows: _Rows = [
        (line.route_id, _AGENCY, line.route_id, line.long_name, _ROUTE_TYPES[line.mode], line.colour, "FFFFFF")
        for line in lines
    ]
    return _table(
        ("route_id", "agency_id", "route_short_name", "route_long_name", "route_type", "route_color",
         "route_text_color"), rows,
    )  # fmt: skip


def _calendar() -> str:
    rows: _Rows = [
        (service, *(int(day in weekdays) for day in range(7)), *map(_day, _VALID)) for service, weekdays in WEEK.items()
    ]
    return _table(("service_id", *_DAYS, "start_date", "end_date"), rows)


def _exceptions() -> str:
    rows: _Rows = []
    for holiday in sorted(HOLIDAYS):
        rows += [(WORKDAYS, _day(holiday), 2), (SUNDAYS, _day(holiday), 1)]
    # The night of the clock change is staffed like any other: nothing is taken out.
    return _table(("service_id", "date", "exception_type"), rows)


def _trips(timetable: Timetable) -> str:
    rows: _Rows = [
        (t.line.route_id, t.service, t.trip_id, t.way.headsign, t.way.direction, t.block, _shape_id(t))
        for t in timetable.trips
    ]
    patterns = {f.trip.trip_id: f.trip for f in timetable.frequencies}
    rows += [
        (t.line.route_id, t.service, name, t.way.headsign, t.way.direction, "", _shape_id(t))
        for name, t in patterns.items()
    ]
    return _table(("route_id", "service_id", "trip_id", "trip_headsign", "direction_id", "block_id", "shape_id"), rows)


def _stop_times(timetable: Timetable) -> str:
    patterns = {f.trip.trip_id: f.trip for f in timetable.frequencies}
    trips = [(trip.trip_id, trip) for trip in timetable.trips] + list(patterns.items())
    rows: _Rows = []
    for name, trip in trips:
        facts = zip(trip.arrive_s, trip.depart_s, trip.way.stops, strict=True)
        rows += [
            (name, clock_text(arrive), clock_text(depart), stop.stop_id, number)
            for number, (arrive, depart, stop) in enumerate(facts, start=1)
        ]
    return _table(("trip_id", "arrival_time", "departure_time", "stop_id", "stop_sequence"), rows)


def _shapes(lines: Iterable[Line]) -> str:
    rows: _Rows = []
    for line in lines:
        for way in line.ways:
            along = [0.0]
            for leg in way.legs:
                along.append(along[-1] + leg.length_m)
            for number, (stop, metres) in enumerate(zip(way.stops, along, strict=True), start=1):
                lon, lat = place(stop.x_m, stop.y_m)
                rows.append((f"{line.route_id}-{way.direction}", f"{lat:.6f}", f"{lon:.6f}", number, f"{metres:.0f}"))
    return _table(("shape_id", "shape_pt_lat", "shape_pt_lon", "shape_pt_sequence", "shape_dist_traveled"), rows)


def _transfers(stops: Sequence[Stop]) -> str:
    named: dict[str, list[Stop]] = {}
    for stop in stops:
        if stop.parent is None:
            named.setdefault(stop.name, []).append(stop)
    rows: _Rows = [
        (a.stop_id, b.stop_id, 2, _TRANSFER_WALK_S) for group in named.values() for a in group for b in group if a != b
    ]
    return _table(("from_stop_id", "to_stop_id", "transfer_type", "min_transfer_time"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _shape_id(trip: Trip) -> str:
    return f"{trip.line.route_id}-{trip.way.direction}"


def _day(day: date) -> str:
    return f"{day:%Y%m%d}"
