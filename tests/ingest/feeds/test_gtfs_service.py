"""Departures and headways put together from cells are those of the trips themselves."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import date, timedelta
from itertools import pairwise
from statistics import mean

import pytest

from mtgpt.errors import FeedError
from mtgpt.ingest.feeds.gtfs import calendar as gtfs_calendar
from mtgpt.ingest.feeds.gtfs import service as gtfs_service
from tests.ingest.gtfs_files import BASE, gtfs, refused, tables

DAYS = 14
START = date(2024, 3, 4)


def clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def random_feed(tmp_path, seed: int, *, frequent: bool):
    """A feed of random trips, and its departures as (date → stop, route, direction → sorted times)."""
    draw = random.Random(seed)
    services = {f"c{i}": {START + timedelta(days=d) for d in range(DAYS) if draw.random() < 0.5} for i in range(4)}
    trips, times, windows = [], [], []
    planned: dict = defaultdict(lambda: defaultdict(list))
    for number in range(30):
        service, route = draw.choice(list(services)), draw.choice(["R1", "R2"])
        direction = draw.choice(["", "0", "1"])
        trips.append(f"{route},{service},t{number},{direction}")
        stops = draw.sample(["s1", "s2", "s3", "s4"], draw.randint(2, 4))
        at = draw.randrange(5 * 3600, 26 * 3600)
        first, starts = at, [at]
        if frequent and draw.random() < 0.5:
            starts = []
            for _ in range(draw.randint(1, 2)):
                start, headway = draw.randrange(4 * 3600, 24 * 3600), draw.randrange(30, 4000)
                end = start + draw.randrange(1, 9000)
                windows.append(f"t{number},{clock(start)},{clock(end)},{headway},{draw.choice('01')}")
                starts += range(start, end, headway)
        for order, stop in enumerate(stops):
            times.append(f"t{number},{clock(at)},{clock(at)},{stop},{order}")
            if order < len(stops) - 1:
                for day in services[service]:
                    planned[day][stop, route, direction or "-"] += [start + at - first for start in starts]
            at += draw.randrange(0, 900)
    dates = [f"{name},{day:%Y%m%d},1" for name, days in services.items() for day in sorted(days)]
    path = gtfs(
        tmp_path,
        f"{seed}.zip",
        calendar=None,
        calendar_dates="service_id,date,exception_type\n" + "\n".join(dates),
        trips="route_id,service_id,trip_id,direction_id\n" + "\n".join(trips),
        stop_times="trip_id,arrival_time,departure_time,stop_id,stop_sequence\n" + "\n".join(times),
        frequencies="trip_id,start_time,end_time,headway_secs,exact_times\n" + "\n".join(windows),
    )
    return path, planned


@pytest.mark.parametrize("frequent", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_every_band_of_every_day_counts_its_departures(tmp_path, seed, frequent):
    path, planned = random_feed(tmp_path, seed, frequent=frequent)
    band_s = 1800
    frames = tables(path, band_s=band_s)
    assert refused(path) == []
    patterns = dict(frames["service_day"].select("service_date", "pattern_id").iter_rows())
    rows = defaultdict(dict)
    columns = ("pattern_id", "spot_id", "route_id", "direction", "band_start_s", "departures", "headway_s")
    for pattern, *line, band, count, headway in frames["service"].select(columns).iter_rows():
        rows[pattern][(*line, band)] = (count, headway)
    for day, lines in planned.items():
        wanted = {}
        for line, moments in lines.items():
            moments.sort()
            gaps = {place: b - a for place, (a, b) in enumerate(pairwise(moments), start=1)}
            bands = defaultdict(list)
            for place, moment in enumerate(moments):
                bands[moment // band_s * band_s].append(place)
            for band, places in bands.items():
                known = [gaps[place] for place in places if place in gaps]
                wanted[(*line, band)] = (len(places), pytest.approx(mean(known), abs=0.051) if known else None)
        assert rows[patterns[day]] == wanted


def test_a_day_between_days_of_service_that_has_none_says_so(tmp_path):
    path = gtfs(
        tmp_path, calendar=None, calendar_dates="service_id,date,exception_type\nWK,20240304,1\nWK,20240306,1\n"
    )
    days = tables(path)["service_day"].sort("service_date")
    assert days["trips"].to_list() == [3, 0, 3]
    assert days["pattern_id"].n_unique() == 2


def test_trips_at_headways_count_as_often_as_they_run(tmp_path):
    windows = "trip_id,start_time,end_time,headway_secs\nt1,06:00:00,07:00:00,600\nt1,07:00:00,07:25:00,600\n"
    frames = tables(gtfs(tmp_path, frequencies=windows))
    assert frames["service_day"]["trips"].to_list()[:1] == [6 + 3 + 2]
    row = frames["service"].filter(spot_id="s1", band_start_s=6 * 3600)
    assert row.select("departures", "headway_s").rows() == [(6, 600.0)]


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ("t9,06:00:00,07:00:00,600", "trip_unknown"),
        ("t1,06:00:00,late,600", "time_unreadable"),
        ("t1,06:00:00,07:00:00,0", "headway_unreadable"),
        ("t1,06:00:00,07:00:00,ten", "headway_unreadable"),
        ("t1,07:00:00,06:00:00,600", "headway_unreadable"),
    ],
)
def test_faulty_windows_are_refused_and_the_trip_runs_at_its_own_times(tmp_path, row, rule):
    path = gtfs(tmp_path, frequencies=f"trip_id,start_time,end_time,headway_secs\n{row}\n")
    assert refused(path) == [("service", 0, rule)]
    assert tables(path)["service_day"]["trips"][0] == 3


def test_feeds_that_would_make_more_rows_than_any_operator_has_are_refused(tmp_path, monkeypatch):
    windows = "trip_id,start_time,end_time,headway_secs\nt1,00:00:00,71:00:00,1\n"
    monkeypatch.setattr(gtfs_service, "_MOST_CELLS", 100)
    with pytest.raises(FeedError, match="headways make too many"):
        tables(gtfs(tmp_path, frequencies=windows))
    monkeypatch.setattr(gtfs_service, "_MOST_CELLS", 3)
    with pytest.raises(FeedError, match="start and end"):
        tables(gtfs(tmp_path))
    monkeypatch.setattr(gtfs_calendar, "_MOST_TYPES", 1)
    with pytest.raises(FeedError, match="timetable of their own"):
        tables(gtfs(tmp_path))


def test_a_calendar_of_centuries_is_refused_unless_it_is_filtered(tmp_path):
    rows = "".join(f"X{i},1,1,1,1,1,1,1,10000101,99991231\n" for i in range(7))
    path = gtfs(tmp_path, calendar=BASE["calendar.txt"] + rows)
    with pytest.raises(FeedError, match="spans too many days"):
        tables(path)
    assert tables(path, start="2024-03-04", end="2024-03-05")["service_day"].height == 2


def test_a_calendar_without_an_end_asks_for_one(tmp_path):
    path = gtfs(tmp_path, calendar=BASE["calendar.txt"].replace("20240317", "99991231"))
    with pytest.raises(FeedError, match="Set the options start and end"):
        tables(path)
    assert tables(path, end="2024-12-31")["service_day"].height == 303
