"""Bike share systems: docks, alerts, and what is wrong with them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from mtgpt.errors import FeedError
from tests.ingest.feed_files import judged, read
from tests.ingest.gbfs_feeds import UPDATED, information, status, vehicle, write

SEVEN = datetime(2026, 1, 5, 7, tzinfo=UTC)


def counts(folder, *stations: object, known: list | None = None, updated: object = UPDATED, **options):
    """The verdict on the counts of some stations."""
    files = {} if known is None else {"station_information": write(folder, "station_information", {"stations": known})}
    path = write(folder, "station_status", {"stations": list(stations)}, updated=updated)
    return judged("observation", read("gbfs", path, files=files, **options)["observation"])


def triples(frame: pl.DataFrame) -> list[tuple]:
    return frame.select("spot_id", "variable", "value").rows()


def test_docks_of_version_2_have_bikes_and_free_docks(tmp_path):
    files = {
        "station_information": write(tmp_path, "station_information", {"stations": [information(short_name="A7")]}),
        "system_information": write(tmp_path, "system_information", {"name": "Citybike", "language": "de-AT"}),
        "system_regions": write(tmp_path, "system_regions", {"regions": [{"region_id": "r1", "name": "Wieden"}]}),
    }
    frames = read("gbfs", write(tmp_path, "station_status", {"stations": [status()]}), files=files)
    good = judged("observation", frames["observation"]).good
    assert triples(good) == [("s1", "bikes_available", 5.0), ("s1", "docks_available", 15.0)]
    assert good.select("time_start", "interval_s").unique().rows() == [(SEVEN, 300)]
    (spot,) = judged("spot", frames["spot"]).good.to_dicts()
    assert (spot["spot_id"], spot["kind"], spot["mode"], spot["name"]) == ("s1", "dock", "bike", "Dock s1")
    assert (spot["lon"], spot["lat"], spot["capacity"]) == (16.37, 48.2, 20.0)
    assert json.loads(spot["attributes"]) == {"region": "Wieden", "short_name": "A7", "system": "Citybike"}


def test_docks_of_version_3_have_localized_names_and_written_times(tmp_path):
    def text(german: str, english: str) -> list[dict]:
        return [{"text": german, "language": "de"}, {"text": english, "language": "en"}]

    files = {
        "station_information": write(
            tmp_path, "station_information", {"stations": [information(name=text("Oper", "Opera"))]}, version="3.0"
        ),
        "system_information": write(
            tmp_path, "system_information", {"name": text("Rad", "Bike"), "languages": ["de", "en"]}, version="3.0"
        ),
    }
    station = {
        "station_id": "s1", "num_vehicles_available": 4, "num_docks_available": 16, "is_installed": True,
        "is_renting": True, "is_returning": True, "last_reported": "2026-01-05T08:01:00+01:00",
    }  # fmt: skip
    path = write(tmp_path, "station_status", {"stations": [station]}, updated="2026-01-05T07:02:00Z", version="3.0")
    frames = read("gbfs", path, files=files)
    good = judged("observation", frames["observation"]).good
    assert triples(good) == [("s1", "bikes_available", 4.0), ("s1", "docks_available", 16.0)]
    assert good["time_start"].to_list() == [SEVEN] * 2
    assert frames["spot"]["name"].to_list() == ["Oper"]


def test_a_station_that_rents_nothing_is_not_an_empty_one(tmp_path):
    verdict = counts(
        tmp_path,
        status("closed", is_renting=False, num_bikes_available=0),
        status("full", is_returning=False, num_docks_available=0),
        status("gone", is_installed=False),
        status("of version 1", is_installed=1, is_renting=1, is_returning=0),
        status("empty", num_bikes_available=0),
    )
    assert triples(verdict.good) == [
        ("closed", "docks_available", 15.0), ("full", "bikes_available", 5.0), ("of version 1", "bikes_available", 5.0),
        ("empty", "bikes_available", 0.0), ("empty", "docks_available", 15.0),
    ]  # fmt: skip
    assert verdict.bad.height == 0


@pytest.mark.parametrize(
    ("reported", "rule"),
    [
        (0, "station_stale"),
        (86_400, "station_stale"),
        (None, "station_stale"),
        ("soon", "station_stale"),
        (UPDATED * 1000, "station_stale"),
        (UPDATED - 3601, "station_stale"),
        (UPDATED + 3600, "station_clock"),
    ],
)
def test_a_station_whose_clock_is_off_is_quarantined_by_name(tmp_path, reported, rule):
    verdict = counts(tmp_path, status("s1", last_reported=reported), status("s2", last_reported=UPDATED - 3599))
    assert verdict.bad["rule_id"].to_list() == [rule] * 2
    assert json.loads(verdict.bad["raw"][0])["station_id"] == "s1"
    assert set(verdict.good["spot_id"]) == {"s2"}


def test_where_stations_have_no_clock_of_their_own_the_files_counts(tmp_path):
    verdict = counts(tmp_path, status(last_reported=0), clock="file")
    assert verdict.good["time_start"].unique().to_list() == [SEVEN]
    own = counts(tmp_path, status(last_reported=UPDATED - 600))
    assert own.good["time_start"].dt.strftime("%H:%M").unique().to_list() == ["06:50"]


def test_counts_that_cannot_be_are_quarantined(tmp_path):
    verdict = counts(
        tmp_path,
        status("negative", num_bikes_available=-1),
        status("half", num_docks_available=2.5),
        status("words", num_bikes_available="five"),
        status("thousandfold", num_bikes_available=5000, num_docks_available=15_000),
        status("crowded", num_bikes_available=45),
        status("huge", num_bikes_available=10**400),
        known=[information(name) for name in ("negative", "half", "words", "thousandfold", "crowded", "huge")],
    )
    assert [(row["rule_id"], json.loads(row["raw"]).get("station_id") or json.loads(row["raw"])["spot_id"]) for row in verdict.bad.to_dicts()] == [
        ("value.variable_range", "negative"), ("number_unreadable", "half"), ("number_unreadable", "words"),
        ("more_than_fits", "thousandfold"), ("more_than_fits", "thousandfold"), ("number_unreadable", "huge"),
    ]  # fmt: skip
    # Bikes are left beside full docks.
    assert ("crowded", "bikes_available", 45.0) in triples(verdict.good)


def test_a_station_that_contradicts_itself_is_quarantined_and_a_repeated_one_is_a_duplicate(tmp_path):
    verdict = counts(
        tmp_path, status("twice"), status("twice"), status("torn"), status("torn", num_bikes_available=9), status("one")
    )
    assert verdict.duplicates == 2
    assert verdict.bad["rule_id"].to_list() == ["station_twice"] * 4
    assert set(verdict.good["spot_id"]) == {"twice", "one"}


def test_stations_without_id_or_shape_are_quarantined(tmp_path):
    verdict = counts(tmp_path, status(None), "station", {**status("s2"), "num_bikes_available": 3})  # type: ignore[arg-type]
    assert verdict.bad["rule_id"].to_list() == ["spot_id.required", "spot_id.required", "item_unreadable"]
    assert verdict.good.height == 2


def test_stations_that_move_or_lie_nowhere_are_seen(tmp_path):
    stations = [
        information("a"), information("a", lat=48.3), information("b"), information("b"), information("c", lat=0, lon=0),
        information("d", lat=91), information("e", capacity=-4), information("f", lat="48"), information("g", lat=1e400),
    ]  # fmt: skip
    path = write(tmp_path, "station_status", {"stations": [status("a")]})
    files = {"station_information": write(tmp_path, "station_information", {"stations": stations})}
    files["station_information"].write_text(files["station_information"].read_text().replace("Infinity", "1e999"))
    verdict = judged("spot", read("gbfs", path, files=files)["spot"])
    assert verdict.bad.select("row", "rule_id").rows() == [
        (0, "station_twice"), (1, "station_twice"), (5, "lat.range"), (6, "capacity.range"), (7, "place"),
        (8, "lat.finite"),
    ]  # fmt: skip
    assert verdict.duplicates == 1
    assert verdict.good.select("spot_id", "lon").rows() == [("b", 16.37), ("c", None)]


def test_alerts_are_events_in_each_of_their_languages(tmp_path):
    alerts = [
        {
            "alert_id": "21", "type": "station_closure", "station_ids": ["s1", "s2"],
            "times": [{"start": "2026-01-05T07:00:00Z", "end": "2026-01-06T07:00:00Z"}],
            "summary": [{"text": "Gesperrt", "language": "de"}, {"text": "Closed", "language": "en"}],
            "description": [{"text": "Wegen Bauarbeiten.", "language": "de"}],
            "url": [{"text": "https://example.org/21", "language": "de"}], "last_updated": "2026-01-05T06:00:00Z",
        },
        {"alert_id": 22, "type": "other", "summary": "Helmets", "times": [{"start": UPDATED}]},
        {"alert_id": "23", "summary": "When?", "times": [{"start": "tomorrow"}]},
    ]  # fmt: skip
    files = {"system_alerts": write(tmp_path, "system_alerts", {"alerts": alerts}, version="3.0")}
    path = write(tmp_path, "station_status", {"stations": [status()]})
    verdict = judged("event", read("gbfs", path, files=files)["event"])
    assert verdict.good.select("event_id", "language", "kind", "effect", "title", "text", "spots").rows() == [
        ("21", "de", "closure", "station_closure", "Gesperrt", "Wegen Bauarbeiten.", '["s1", "s2"]'),
        ("21", "en", "closure", "station_closure", "Closed", None, '["s1", "s2"]'),
        ("22", "und", "alert", "other", "Helmets", None, None),
    ]
    assert verdict.good["start"].to_list() == [SEVEN, SEVEN, datetime(2026, 1, 5, 7, 2, tzinfo=UTC)]
    assert verdict.good["end"].to_list() == [datetime(2026, 1, 6, 7, tzinfo=UTC)] * 2 + [None]
    assert verdict.bad["rule_id"].to_list() == ["time_unreadable"]


def test_geofencing_zones_are_events_with_their_rules(tmp_path):
    ring = [[16.3, 48.2], [16.4, 48.2], [16.4, 48.3], [16.3, 48.2]]
    zones = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": [[ring]]},
             "properties": {"name": "Park", "rules": [{"ride_through_allowed": False, "vehicle_type_id": ["t1"]}]}},
            {"type": "Feature", "geometry": None, "properties": {"name": "Nowhere"}},
        ],
    }  # fmt: skip
    files = {"geofencing_zones": write(tmp_path, "geofencing_zones", {"geofencing_zones": zones})}
    path = write(tmp_path, "free_bike_status", {"bikes": [vehicle()]})
    verdict = judged("event", read("gbfs", path, files=files)["event"])
    assert verdict.good.select("event_id", "kind", "effect").rows() == [("geofencing:Park", "other", "no_riding")]
    assert verdict.good["geometry"][0].startswith("MULTIPOLYGON (((16.3 48.2")
    assert verdict.bad["rule_id"].to_list() == ["place_unreadable"]


@pytest.mark.parametrize(
    "data",
    [
        {"en": {"feeds": [{"name": "station_status", "url": "https://bikes.example/station_status.json"}]}},
        {"feeds": [{"name": "station_status", "url": "https://bikes.example/station_status.json"}]},
    ],
)
def test_the_auto_discovery_file_alone_is_refused_with_the_addresses_to_name(tmp_path, data):
    path = write(tmp_path, "gbfs", data)
    with pytest.raises(FeedError, match=r"station_status: https://bikes\.example/station_status\.json"):
        read("gbfs", path)
    files = {"station_status": write(tmp_path, "station_status", {"stations": [status()]})}
    assert read("gbfs", path, files=files)["observation"].height == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "not a GBFS file"),
        ('{"data": {"plans": []}}', "data with stations or vehicles or bikes"),
        ('{"data": {"stations": {}}}', "data with stations or vehicles or bikes"),
        ("<html>", "a web page"),
        ('{"data": {"stations": [', "cut off"),
    ],
)
def test_what_is_no_gbfs_is_refused(tmp_path, text, said):
    path = tmp_path / "station_status.json"
    path.write_text(text)
    with pytest.raises(FeedError, match=said):
        read("gbfs", path)


def test_a_file_in_the_wrong_role_is_refused(tmp_path):
    path = write(tmp_path, "station_status", {"stations": [status()]})
    files = {"system_alerts": write(tmp_path, "system_information", {"name": "Citybike"})}
    with pytest.raises(FeedError, match="expected data with alerts"):
        read("gbfs", path, files=files)


@pytest.mark.real_data
def test_every_file_of_bay_wheels_is_read_and_one_silent_station_is_quarantined(real_data):
    folder = real_data / "gbfs_bay_wheels"
    roles = ("station_information", "free_bike_status", "system_information", "system_regions", "system_alerts")
    files = {role: folder / f"{role}.json" for role in roles}
    frames = read("gbfs", folder / "station_status.json", files=files)
    verdict = judged("observation", frames["observation"])
    # Six of the 496 stations rent nothing; one more has been silent for five hours.
    assert verdict.good["variable"].value_counts(sort=True).sort("variable").rows() == [
        ("bikes_available", 489), ("docks_available", 489), ("vehicles_available", 480),
    ]  # fmt: skip
    assert verdict.bad["rule_id"].to_list() == ["station_stale"] * 2
    assert verdict.good.filter(pl.col("variable") == "vehicles_available")["value"].sum() == 720
    spots = judged("spot", frames["spot"])
    assert (spots.good.height, spots.bad.height, spots.duplicates) == (496 + 480, 0, 0)
    ids = {one["bike_id"] for one in json.loads((folder / "free_bike_status.json").read_text())["data"]["bikes"]}
    everything = str([frame.to_dicts() for frame in frames.values()])
    assert not any(vehicle_id in everything for vehicle_id in ids)
