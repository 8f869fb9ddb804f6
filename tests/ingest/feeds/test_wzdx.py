"""Work zones as events."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from mtgpt.errors import FeedError, SourceRefused
from tests.ingest.feed_files import judged, read

LINE = [[-93.5373, 41.6579], [-93.5545, 41.6554], [-93.5635, 41.6541]]


def feature(
    feature_id: str | None = "wz-1", *, geometry: object = None, core: dict | None = None, **properties
) -> dict:
    """A work zone of version 4."""
    return {
        "id": feature_id,
        "type": "Feature",
        "properties": {
            "core_details": {
                "data_source_id": "1",
                "event_type": "work-zone",
                "road_names": ["I-80", "US-6"],
                "direction": "westbound",
                "description": "Two left lanes closed for paving.",
                "update_date": "2026-01-03T01:51:43Z",
            }
            | (core or {}),
            "start_date": "2026-01-02T08:00:00Z",
            "end_date": "2026-03-31T23:00:00Z",
            "is_start_date_verified": True,
            "vehicle_impact": "some-lanes-closed",
            "restrictions": [{"type": "reduced-width", "value": 16, "unit": "feet"}],
            "lanes": [{"order": 1, "type": "general", "status": "closed"}],
        }
        | properties,
        "geometry": geometry or {"type": "LineString", "coordinates": LINE},
    }


def events(folder, *features: object, head: dict | None = None, **options):
    path = folder / "wzdx.geojson"
    document = {"feed_info": {"version": "4.2", "contact_email": "jo@dot.example"}, "type": "FeatureCollection"}
    path.write_text(json.dumps(document | {"features": list(features)} | (head or {})))
    return judged("event", read("wzdx", path, **options)["event"])


def test_a_work_zone_is_an_event_with_its_line_lanes_and_restrictions(tmp_path):
    (row,) = events(tmp_path, feature()).good.to_dicts()
    assert json.loads(row.pop("attributes")) == {
        "roads": ["I-80", "US-6"], "direction": "westbound", "is_start_date_verified": True,
        "restrictions": [{"type": "reduced-width", "unit": "feet", "value": 16}],
        "lanes": [{"order": 1, "status": "closed", "type": "general"}],
    }  # fmt: skip
    assert (row.pop("lon"), row.pop("lat")) == pytest.approx((-93.5504, 41.656), abs=1e-3)
    assert row == {
        "city_id": "town", "source_id": "feed", "event_id": "wz-1", "language": "en", "kind": "works",
        "severity": "medium", "cause": "work-zone", "effect": "some-lanes-closed", "title": "Work zone, I-80 / US-6",
        "text": "Two left lanes closed for paving.", "start": datetime(2026, 1, 2, 8, tzinfo=UTC),
        "end": datetime(2026, 3, 31, 23, tzinfo=UTC),
        "geometry": "LINESTRING (-93.5373 41.6579, -93.5545 41.6554, -93.5635 41.6541)", "spots": None, "routes": None,
        "url": None, "valid_from": datetime(2026, 1, 3, 1, 51, 43, tzinfo=UTC),
    }  # fmt: skip


def test_contacts_never_reach_the_lake(tmp_path):
    good = events(tmp_path, feature(contact={"name": "Jo"}, worker_contact_email="jo@dot.example")).good
    assert "jo" not in str(good.to_dicts()).lower()


@pytest.mark.parametrize(
    ("event_type", "impact", "kind", "severity"),
    [
        ("work-zone", "all-lanes-closed", "closure", "high"),
        ("work-zone", "all-lanes-open", "works", "low"),
        ("work-zone", "unknown", "works", None),
        ("detour", None, "other", None),
        ("restriction", "all-lanes-open", "other", "low"),
    ],
)
def test_kind_and_severity_follow_from_type_and_impact(tmp_path, event_type, impact, kind, severity):
    good = events(tmp_path, feature(core={"event_type": event_type}, vehicle_impact=impact)).good
    assert good.select("kind", "severity").rows() == [(kind, severity)]


def test_version_3_has_its_facts_flat(tmp_path):
    flat = {
        "type": "Feature",
        "properties": {
            "road_event_id": "71234", "event_type": "work-zone", "road_name": "SR-520", "direction": "eastbound",
            "start_date": "2020-01-02T08:00:00-08:00", "end_date": "2020-03-01T08:00:00-08:00",
            "start_date_accuracy": "estimated", "beginning_accuracy": "verified", "event_status": "active",
            "vehicle_impact": "all-lanes-open",
        },
        "geometry": {"type": "MultiPoint", "coordinates": [[-122.2, 47.6], [-122.1, 47.7]]},
    }  # fmt: skip
    head = {"feed_info": None, "road_event_feed_info": {"version": "3.1"}}
    (row,) = events(tmp_path, flat, head=head).good.to_dicts()
    assert (row["event_id"], row["title"], row["kind"]) == ("71234", "Work zone, SR-520", "works")
    assert row["start"] == datetime(2020, 1, 2, 16, tzinfo=UTC)
    assert (row["lon"], row["lat"]) == (-122.2, 47.6)
    assert row["valid_from"] == datetime(1970, 1, 1, tzinfo=UTC)
    assert json.loads(row["attributes"])["start_date_accuracy"] == "estimated"


def test_features_that_cannot_be_placed_or_dated_are_quarantined_one_by_one(tmp_path):
    broken = {
        "no geometry": ({**feature("a"), "geometry": None}, "place_unreadable"),
        "another geometry": (feature("b", geometry={"type": "Circle", "coordinates": [0, 0]}), "place_unreadable"),
        "a line of one point": (feature("c", geometry={"type": "LineString", "coordinates": [[0, 1]]}), "place_unreadable"),
        "texts for numbers": (feature("d", geometry={"type": "Point", "coordinates": ["x", "y"]}), "place_unreadable"),
        "not in degrees": (feature("e", geometry={"type": "Point", "coordinates": [500000, 41]}), "place_unreadable"),
        "nested otherwise": (feature("f", geometry={"type": "LineString", "coordinates": [LINE]}), "place_unreadable"),
        "no such date": (feature("g", start_date="2026-02-30T00:00:00Z"), "time_unreadable"),
        "a number for a date": (feature("h", end_date=5), "time_unreadable"),
        "ends before it begins": (feature("i", end_date="2025-01-01T00:00:00Z"), "end.order"),
        "no id": (feature(None), "event_id.required"),
        "no object": ("feature", "feature_unreadable"),
        "no properties": ({"type": "Feature", "id": "l"}, "feature_unreadable"),
        "a device": (feature("m", core={"device_type": "arrow-board"}), "feature_unreadable"),
    }  # fmt: skip
    verdict = events(tmp_path, *(one for one, _ in broken.values()), feature("sound"))
    assert dict(zip(broken, verdict.bad.sort("row")["rule_id"], strict=True)) == {
        name: rule for name, (_, rule) in broken.items()
    }
    assert verdict.good["event_id"].to_list() == ["sound"]


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("{}", FeedError, "not a WZDx feed"),
        ('{"type": "FeatureCollection"}', FeedError, "not a WZDx feed"),
        ("[]", FeedError, "no object"),
        ('{"type": "FeatureCollection", "features": [', FeedError, "not JSON, or cut off"),
        ('{"type": "FeatureCollection", "features": [NaN]}', FeedError, "NaN is no JSON number"),
        ("<html></html>", FeedError, "a web page"),
        ('{"type":' + "[" * 100_000, FeedError, "nested too deeply"),
        ("[" + "[]," * 2_000_001, SourceRefused, "too large"),
    ],
)
def test_what_is_no_feed_is_refused_as_a_whole(tmp_path, text, error, said):
    path = tmp_path / "wzdx.geojson"
    path.write_text(text)
    with pytest.raises(error, match=said):
        read("wzdx", path)


def test_a_feed_of_devices_is_said_to_be_one(tmp_path):
    with pytest.raises(FeedError, match="field devices"):
        events(tmp_path, feature(core={"device_type": "camera"}))
