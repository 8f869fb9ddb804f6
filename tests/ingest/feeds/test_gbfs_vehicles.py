"""Vehicles without docks: counted per cell, never followed."""

from __future__ import annotations

import math

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from mtgpt.ingest.feeds.gbfs.vehicles import Cell
from tests.ingest.feed_files import judged, read
from tests.ingest.gbfs_feeds import information, vehicle, write


def cells(folder, *vehicles: object, files: dict | None = None, **options):
    path = write(folder, "free_bike_status", {"bikes": list(vehicles)})
    return read("gbfs", path, files=files, **options)


def test_vehicles_that_can_be_rented_are_counted_per_cell(tmp_path):
    frames = cells(
        tmp_path,
        vehicle("v1"),
        vehicle("v2", lat=48.2001),
        vehicle("reserved", is_reserved=True),
        vehicle("broken", is_disabled=1),
        vehicle("docked", station_id="s1"),
        vehicle("elsewhere", lat=48.25),
        vehicle("v1"),
    )
    observation = judged("observation", frames["observation"]).good
    assert sorted(observation["value"].to_list()) == [1.0, 2.0]
    assert set(observation["variable"]) == {"vehicles_available"}
    spots = judged("spot", frames["spot"]).good
    assert spots.select("kind", "mode").unique().rows() == [("cell", "bike")]
    assert set(spots["spot_id"]) == set(observation["spot_id"])


def test_no_id_of_a_vehicle_and_no_exact_place_reaches_a_row(tmp_path):
    frames = cells(
        tmp_path, vehicle("secret-1", lat=48.2003217), vehicle("secret-2", lat="x"), vehicle("secret-3", lon=999)
    )
    verdict = judged("observation", frames["observation"])
    assert verdict.bad["rule_id"].to_list() == ["place_unreadable"] * 2
    everything = str([frame.to_dicts() for frame in frames.values()]) + str(verdict.bad.to_dicts())
    assert "secret" not in everything
    assert "48.2003217" not in everything


def test_cells_with_a_station_are_zero_without_a_vehicle(tmp_path):
    files = {"station_information": write(tmp_path, "station_information", {"stations": [information(lat=48.3)]})}
    frames = cells(tmp_path, vehicle(), files=files)
    assert sorted(frames["observation"]["value"].to_list()) == [0.0, 1.0]
    assert frames["spot"].filter(pl.col("kind") == "cell").height == 2


def test_scooters_and_bikes_have_cells_of_their_own(tmp_path):
    kinds = [
        {"vehicle_type_id": "t1", "form_factor": "bicycle"},
        {"vehicle_type_id": "t2", "form_factor": "scooter_standing"},
    ]
    files = {"vehicle_types": write(tmp_path, "vehicle_types", {"vehicle_types": kinds})}
    frames = cells(tmp_path, vehicle("a"), vehicle("b", vehicle_type_id="t2"), files=files)
    assert sorted(frames["spot"]["mode"]) == ["bike", "scooter"]
    assert frames["spot"]["spot_id"].n_unique() == 2


def test_vehicles_of_version_3_are_read(tmp_path):
    one = vehicle()
    one["vehicle_id"] = one.pop("bike_id")
    path = write(tmp_path, "vehicle_status", {"vehicles": [one]}, updated="2026-01-05T07:02:00Z", version="3.0")
    frame = read("gbfs", path)["observation"]
    assert frame.select("value", "interval_s").rows() == [(1.0, 300)]
    assert frame["time_start"].dt.strftime("%H:%M").to_list() == ["07:00"]


def test_a_file_that_does_not_say_when_is_quarantined(tmp_path):
    path = write(tmp_path, "free_bike_status", {"bikes": [vehicle()]}, updated=None)
    verdict = judged("observation", read("gbfs", path)["observation"])
    assert verdict.bad["rule_id"].to_list() == ["time_start.required"]


@given(st.floats(-180, 180), st.floats(-85, 85), st.sampled_from([100, 500, 2000]))
def test_the_centre_of_a_cell_is_near_and_lies_in_the_cell(lon, lat, size_m):
    cell = Cell.at("bike", lon, lat, size_m)
    centre_lon, centre_lat = cell.centre
    assert Cell.at("bike", centre_lon, centre_lat, size_m) == cell
    north = (centre_lat - lat) * 111_320
    east = (centre_lon - lon) * 111_320 * math.cos(math.radians(lat))
    assert math.hypot(north, east) <= size_m


@given(st.floats(-179, 179), st.floats(-80, 80))
def test_the_id_of_a_cell_depends_on_nothing_but_the_place(lon, lat):
    assert Cell.at("bike", lon, lat, 500).spot_id == Cell.at("bike", lon, lat, 500).spot_id
    assert Cell.at("bike", lon, lat, 500).spot_id != Cell.at("bike", lon, lat + 0.01, 500).spot_id
    assert Cell.at("bike", lon, lat, 500).spot_id != Cell.at("bike", lon + 0.1, lat, 500).spot_id
