"""Whatever JSON stands where a station, a vehicle, an alert or a work zone should: every row is accounted for."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mtgpt.contracts.registry import contract
from tests.ingest.feed_files import judged, read
from tests.ingest.feeds.test_wzdx import feature
from tests.ingest.gbfs_feeds import UPDATED, information, status, vehicle, write

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from([UPDATED, "2026-01-05T07:00:00Z", "9999-12-31T23:59:59-14:00", 10**400, -1, 0, "\ud800", "🚲"])
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6
)  # fmt: skip
CALM = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def changed(sound: dict) -> st.SearchStrategy:
    """The same object with some of its values replaced, or something else altogether."""
    names = st.sampled_from(sorted(sound))
    return ANYTHING | st.dictionaries(names, ANYTHING, max_size=4).map(lambda other: sound | other)


def accounted(frames: dict) -> Counter:
    """Judges every table; what :func:`judged` checks is that no row is lost."""
    found = Counter()
    for table, frame in frames.items():
        verdict = judged(table, frame)
        assert verdict.good.schema == contract(table).polars_schema
        found[table] += frame.height
    return found


@CALM
@given(
    st.lists(changed(status()), max_size=3),
    st.lists(changed(information()), max_size=3),
    st.lists(changed(vehicle()), max_size=3),
    st.lists(changed({"alert_id": "1", "type": "other", "times": [{"start": UPDATED}], "summary": "x"}), max_size=3),
    st.lists(ANYTHING, max_size=2),
)
@example([status(station_id=["x"])], [information(name=[{"text": 5}])], [vehicle(lat=True)], [{"times": 5}], [None])
def test_any_bike_share_system_is_read_or_quarantined(stations, about, vehicles, alerts, zones):
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = {
            "station_information": write(folder, "station_information", {"stations": about}),
            "free_bike_status": write(folder, "free_bike_status", {"bikes": vehicles}),
            "system_alerts": write(folder, "system_alerts", {"alerts": alerts}),
            "geofencing_zones": write(folder, "geofencing_zones", {"geofencing_zones": {"features": zones}}),
        }
        found = accounted(read("gbfs", write(folder, "station_status", {"stations": stations}), files=files))
    assert found["spot"] >= len(about)
    assert found["event"] >= len(alerts)


@CALM
@given(
    st.lists(
        changed(feature()) | changed(feature()["properties"]).map(lambda one: feature() | {"properties": one}),
        max_size=4,
    )
)
@example([feature(geometry={"type": "Point", "coordinates": [10**400, 0]})])
@example([feature(geometry={"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]})])
@example([feature(start_date="0001-01-01T00:00:00+23:59", core={"road_names": {"a": 1}})])
def test_any_work_zone_is_read_or_quarantined(features):
    with TemporaryDirectory() as name:
        path = Path(name) / "wzdx.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [*features, feature("sound")]}))
        frames = read("wzdx", path)
    assert accounted(frames) == {"event": len(features) + 1}
    assert datetime(2026, 1, 2, 8, tzinfo=UTC) in frames["event"]["start"].to_list()
