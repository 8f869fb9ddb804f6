"""Passing times that are left out are filled in, those out of order are put in order."""

from __future__ import annotations

import random

import pytest

from mtgpt.ingest.feeds.gtfs import tables as gtfs_tables
from tests.ingest.gtfs_files import BASE, gtfs, refused, tables

HEAD = "trip_id,arrival_time,departure_time,stop_id,stop_sequence,shape_dist_traveled\n"


def bands(path, **options) -> dict[str, list[int]]:
    """Times of the departures by stop: bands of five minutes with one departure each."""
    service = tables(path, band_s=300, **options)["service"].drop_nulls("spot_id").sort("band_start_s")
    assert service["departures"].max() == 1
    found = service.group_by("spot_id", maintain_order=True).agg("band_start_s")
    return dict(found.iter_rows())


def one_trip(tmp_path, rows: str):
    trips = "route_id,service_id,trip_id\nR1,WK,t\n"
    return gtfs(tmp_path, trips=trips, stop_times=HEAD + rows)


def test_times_between_two_timepoints_are_evenly_spread(tmp_path):
    path = one_trip(tmp_path, "t,08:00:00,08:00:00,s1,1,\nt,,,s2,2,\nt,,,s3,3,\nt,08:30:00,08:30:00,s4,4,\n")
    assert bands(path) == {"s1": [28_800], "s2": [29_400], "s3": [30_000]}


def test_where_distances_are_given_times_follow_them(tmp_path):
    path = one_trip(tmp_path, "t,08:00:00,08:00:00,s1,1,0\nt,,,s2,2,9\nt,,,s3,3,9.5\nt,08:30:00,08:30:00,s4,4,10\n")
    assert bands(path) == {"s1": [28_800], "s2": [30_300], "s3": [30_300]}


def test_one_of_two_times_stands_for_both_and_dwell_is_left_out_of_the_ride(tmp_path):
    rows = "t,,08:00:00,s1,1,\nt,08:05:00,08:20:00,s2,2,\nt,,,s3,3,\nt,08:30:00,,s4,4,\n"
    assert bands(one_trip(tmp_path, rows)) == {"s1": [28_800], "s2": [30_000], "s3": [30_300]}


def test_times_that_cannot_be_known_are_refused(tmp_path):
    path = one_trip(tmp_path, "t,,,s1,1,\nt,08:00:00,08:00:00,s2,2,\nt,08:10:00,08:10:00,s3,3,\nt,,,s4,4,\n")
    assert refused(path) == [("service", 0, "time_missing"), ("service", 3, "time_missing")]
    assert bands(path) == {"s2": [28_800]}


def test_a_trip_without_any_time_is_refused_whole(tmp_path):
    path = one_trip(tmp_path, "t,,,s1,1,\nt,,,s2,2,\n")
    assert refused(path) == [("service", 0, "time_missing"), ("service", 1, "time_missing")]


def test_a_time_out_of_line_does_not_spoil_the_interpolation(tmp_path):
    rows = "t,08:00:00,08:00:00,s1,1,\nt,,,s2,2,\nt,07:00:00,07:00:00,s3,3,\nt,08:30:00,08:30:00,s4,4,\n"
    path = one_trip(tmp_path, rows)
    assert refused(path) == [("service", 2, "times_decrease")]
    assert bands(path) == {"s1": [28_800], "s2": [29_400]}


def test_a_night_that_wraps_around_is_refused_from_midnight_on(tmp_path):
    rows = (
        "t,23:50:00,23:50:00,s1,1,\nt,23:55:00,23:55:00,s2,2,\nt,00:05:00,00:05:00,s3,3,\nt,00:10:00,00:10:00,s4,4,\n"
    )
    assert refused(one_trip(tmp_path, rows)) == [("service", 2, "times_decrease"), ("service", 3, "times_decrease")]


@pytest.mark.parametrize("piece", [60, 10_000])
def test_rows_may_come_in_any_order(tmp_path, monkeypatch, piece):
    first = tables(gtfs(tmp_path))
    head, *rows = BASE["stop_times.txt"].splitlines(keepends=True)
    random.Random(4).shuffle(rows)
    monkeypatch.setattr(gtfs_tables, "_PIECE_BYTES", piece)
    mixed = tables(gtfs(tmp_path, "mixed.zip", stop_times=head + "".join(rows)))
    assert all(first[table].equals(mixed[table]) for table in first)


def test_faults_found_late_still_show_the_rows_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(gtfs_tables, "_PIECE_BYTES", 50)
    path = one_trip(tmp_path, "".join(f"t,08:{59 - i}:00,08:{59 - i}:00,s{i % 4 + 1},{i},\n" for i in range(40)))
    assert refused(path) == [("service", row, "times_decrease") for row in range(1, 40)]
