"""Links along lines, of transfers and of the ways inside stations."""

from __future__ import annotations

import pytest

from tests.ingest.gtfs_files import BASE, gtfs, refused, tables

SHAPES = "shape_id,shape_pt_lat,shape_pt_lon,shape_pt_sequence,shape_dist_traveled\n"


def links(path, kind: str) -> dict[tuple[str, str], float]:
    rows = tables(path)["link"].filter(kind=kind)
    return {(a, b): metres for a, b, metres in rows.select("from_spot", "to_spot", "distance_m").iter_rows()}


def along(tmp_path, unit_m: float, *, detour: float = 1.5):
    """A line of a detour as long, its distances in a unit of its own."""
    step = 1112 * detour / unit_m
    rows = "".join(f"t1,08:{n:02d}:00,08:{n:02d}:00,s{n + 1},{n},{n * step:.6f}\n" for n in range(4))
    points = "".join(f"x,{40.7 + n * 0.001:.3f},-74.0,{n},{n * 111.195 / unit_m:.7f}\n" for n in range(5))
    return gtfs(
        tmp_path,
        f"{unit_m}.zip",
        trips="route_id,service_id,trip_id\nR1,WK,t1\n",
        stop_times="trip_id,arrival_time,departure_time,stop_id,stop_sequence,shape_dist_traveled\n" + rows,
        shapes=SHAPES + points,
    )


@pytest.mark.parametrize("unit_m", [1.0, 1000.0, 1609.344, 0.3048])
def test_distances_are_metres_in_whatever_unit_the_feed_counts(tmp_path, unit_m):
    assert list(links(along(tmp_path, unit_m), "transit").values()) == pytest.approx([1668] * 3, abs=2)


@pytest.mark.parametrize(("unit_m", "detour"), [(7.0, 1.5), (1.0, 0.3), (1.0, 30)])
def test_where_distances_make_no_sense_the_straight_line_is_taken(tmp_path, unit_m, detour):
    assert list(links(along(tmp_path, unit_m, detour=detour), "transit").values()) == pytest.approx([1112] * 3, abs=1)


def test_transfers_join_two_places_and_the_others_are_no_links(tmp_path):
    text = (
        "from_stop_id,to_stop_id,transfer_type,min_transfer_time\n"
        "s1,s2,2,120\ns2,s1,,\ns3,s3,0,\ns1,s3,3,\ns1,s4,4,\nS,s4,1,\ns1,s9,0,\n"
    )
    path = gtfs(tmp_path, transfers=text)
    assert set(links(path, "transfer")) == {("s1", "s2"), ("s2", "s1"), ("S", "s4")}
    assert refused(path) == [("link", 6, "stop_unknown")]


def test_ways_inside_a_station_join_its_platforms_through_its_nodes(tmp_path):
    stops = BASE["stops.txt"] + "n1,,,,3,S\ne1,,40.7,-74,2,S\n"
    ways = (
        "pathway_id,from_stop_id,to_stop_id,pathway_mode,is_bidirectional,length,traversal_time\n"
        "1,s1,n1,1,1,30,\n2,n1,s2,1,0,12.5,\n3,e1,n1,2,1,,10\n4,s1,x,1,1,1,\n5,s1,n1,1,1,far,\n"
    )
    path = gtfs(tmp_path, stops=stops, pathways=ways)
    assert links(path, "transfer") == {("s1", "s2"): 42.5}
    assert refused(path) == [("link", 3, "stop_unknown"), ("link", 4, "number_unreadable")]


def test_a_stop_called_at_twice_in_a_row_makes_no_link_to_itself(tmp_path):
    rows = "t1,08:00:00,08:00:00,s1,1\nt1,08:01:00,08:01:00,s1,2\nt1,08:02:00,08:02:00,s2,3\n"
    head = BASE["stop_times.txt"].partition("\n")[0] + "\n"
    assert list(links(gtfs(tmp_path, stop_times=head + rows), "transit")) == [("s1", "s2")]


def test_the_weight_is_the_share_of_trips_that_go_there_next(tmp_path):
    rows = "".join(
        f"{trip},08:00:00,08:00:00,s1,1\n{trip},08:05:00,08:05:00,{stop},2\n"
        for trip, stop in (("t1", "s2"), ("t2", "s2"), ("b1", "s3"), ("t3", "s3"))
    )
    head = BASE["stop_times.txt"].partition("\n")[0] + "\n"
    rows = tables(gtfs(tmp_path, stop_times=head + rows))["link"]
    # Ten workdays and four days off: 20 runs to s2, 10 + 4 to s3.
    assert dict(rows.select("to_spot", "weight").iter_rows()) == pytest.approx({"s2": 20 / 34, "s3": 14 / 34}, abs=1e-3)
