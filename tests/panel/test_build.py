from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtgpt.errors import PanelError
from mtgpt.panel.build import build_panel
from tests.panel.city import StubLake, manifest, rows

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


def observed(spot, variable, minute, value, *, interval_s=300, source="feed"):
    return {
        "spot_id": spot,
        "variable": variable,
        "time_start": MONDAY + timedelta(minutes=minute),
        "interval_s": interval_s,
        "value": value,
        "source_id": source,
    }


def build(folder, observations, *, spots=(), links=(), weather=(), trips=(), further=(), **panel):
    frames = {
        "observation": observations if isinstance(observations, pl.DataFrame) else rows("observation", observations),
        "spot": rows("spot", list(spots)),
        "link": rows("link", list(links)),
        "trip": rows("trip", list(trips)),
    }
    frames |= {name: rows(name, data) for name, data in dict(further).items()}
    if weather:
        frames["weather"] = rows("weather", list(weather))
    return build_panel(manifest(**{"min_coverage": 0, **panel}), StubLake(frames), folder=folder)


def column(panel, series_id):
    at = panel.series["series_id"].to_list().index(series_id)
    return panel.values[:, at].tolist()


def day_of(spot, variable, value, *, days=1, step=5, **options):
    """A full record of some days from Monday on."""
    return [observed(spot, variable, m, value(m), **options) for m in range(0, days * 1440, step)]


def test_a_panel_holds_whole_service_days_up_to_the_last_measured_step(tmp_path):
    panel = build(tmp_path, [observed("a", "speed", 60, 50), observed("a", "speed", 4 * 1440 + 30, 40)])
    assert panel.time[0] == np.datetime64("2024-01-01T00:00")
    assert panel.time[-1] == np.datetime64("2024-01-05T00:30")
    speed = np.array(column(panel, "speed@a"))
    assert speed[12] == 50
    assert speed[-1] == 40
    assert np.isnan(speed).sum() == panel.n_step - 2
    assert panel.meta.table_versions == {"link": 3, "observation": 3, "spot": 3, "trip": 3}


def test_only_service_days_and_hours_are_on_the_axis(tmp_path):
    panel = build(
        tmp_path,
        day_of("a", "speed", float, days=8, step=60, interval_s=3600),
        interval_s=3600,
        days="weekdays",
        hours=("05:00", "23:00"),
    )
    assert panel.n_step == 6 * 18
    speed = np.array(column(panel, "speed@a"))
    assert speed[:3].tolist() == [300, 360, 420]
    assert speed[5 * 18] == 7 * 1440 + 300


def test_finer_rows_add_up_for_amounts_and_average_for_the_rest_and_need_full_coverage(tmp_path):
    minutes = [m for m in range(15) if m != 7]
    data = [
        *(observed("a", "speed", m, 10 + m, interval_s=60) for m in minutes),
        *(observed("a", "energy", m, 2, interval_s=60) for m in minutes),
        *(observed("a", "flow", m, 600, interval_s=60) for m in minutes),
    ]
    panel = build(tmp_path, data)
    np.testing.assert_array_equal(column(panel, "speed@a"), [12, np.nan, 22])
    np.testing.assert_array_equal(column(panel, "energy@a"), [10, np.nan, 10])
    # Vehicles per hour are a rate: five minutes of 600 veh/h are 600 veh/h.
    np.testing.assert_array_equal(column(panel, "flow@a"), [600, np.nan, 600])


def test_a_mean_over_rows_of_different_length_weighs_them_by_time(tmp_path):
    data = [observed("a", "speed", 0, 30, interval_s=240), observed("a", "speed", 4, 80, interval_s=60)]
    assert column(build(tmp_path, data), "speed@a") == [40]


def test_rows_longer_than_a_step_are_left_out_because_they_know_its_future(tmp_path):
    data = [
        observed("a", "speed", 0, 30, interval_s=900),
        observed("b", "speed", 0, 50),
        observed("b", "speed", 10, 55),
    ]
    panel = build(tmp_path, data)
    assert panel.series["series_id"].to_list() == ["speed@b", "speed@corridor:0", "speed@network"]
    assert panel.meta.notes["series_coarser_than_a_step"] == 1
    with pytest.raises(PanelError, match=r"longer than a step.*got 300, expected at least 900 s"):
        build(tmp_path, data[:1])


def test_a_row_across_two_steps_belongs_to_the_one_in_which_it_ends(tmp_path):
    panel = build(tmp_path, [observed("a", "speed", 2, 30), observed("a", "speed", 7, 60)])
    np.testing.assert_array_equal(column(panel, "speed@a"), [np.nan, 30, 60])


def test_a_counted_variable_is_zero_where_a_source_without_zeros_is_silent_and_missing_outside_its_days(tmp_path):
    data = [
        observed("a", "departures", 1440 + 600, 2, source="trips"),
        observed("a", "departures", 2 * 1440 + 600, 3, source="trips"),
        *day_of("s", "speed", float, days=4, step=60, interval_s=300),
    ]
    panel = build(tmp_path, data)
    departures = np.array(column(panel, "departures@a"))
    assert np.isnan(departures[:288]).all()
    assert np.nansum(departures) == 5
    assert np.isfinite(departures[288 : 3 * 288]).all()
    assert np.isnan(departures[3 * 288 :]).all()


def test_trips_that_end_after_the_last_covered_day_do_not_make_a_day(tmp_path):
    data = [
        observed("a", "departures", 600, 1, source="derived:trip:taxi"),
        observed("b", "departures", 1435, 1, source="derived:trip:taxi"),
        observed("b", "arrivals", 650, 1, source="derived:trip:taxi"),
        observed("a", "arrivals", 1440 + 10, 1, source="derived:trip:taxi"),
    ]
    # Arrivals on the second day are what is left of trips of the first.
    panel = build(tmp_path, data)
    assert panel.calendar.dates.size == 1
    assert np.sum(column(panel, "arrivals@network")) == 1


def trips_a_day(days, count, *, batch="b"):
    moments = [day * 1440 + i * 1440 // count for day in days for i in range(count)]
    return [{**observed("a", "departures", m, 1, source="trips"), "batch_id": batch} for m in moments]


def test_a_few_stray_trips_before_the_first_and_after_the_last_day_do_not_make_days(tmp_path):
    strays = [observed("a", "departures", m, 1, source="trips") for m in (30, 5 * 1440 + 700)]
    panel = build(tmp_path, [*trips_a_day([1, 2, 3, 4], 48), *strays])
    assert panel.calendar.dates.tolist() == [MONDAY.date() + timedelta(days=d) for d in (1, 2, 3, 4)]


def test_a_day_that_has_just_begun_is_covered_as_far_as_it_goes(tmp_path):
    panel = build(
        tmp_path, [*trips_a_day([0, 1, 2], 48), observed("a", "departures", 3 * 1440 + 60, 1, source="trips")]
    )
    departures = np.array(column(panel, "departures@a"))
    assert departures.size == 3 * 288 + 13
    assert departures[3 * 288 :].tolist() == [*[0] * 12, 1]


def test_a_file_that_never_came_is_missing(tmp_path):
    files = [*trips_a_day([0, 1], 48, batch="first"), *trips_a_day([4, 5], 48, batch="third")]
    departures = np.array(column(build(tmp_path, files), "departures@a"))
    assert np.isnan(departures[2 * 288 : 4 * 288]).all()
    assert np.isfinite(departures[: 2 * 288]).all()
    assert np.isfinite(departures[4 * 288 :]).all()


def test_a_silent_day_is_zero_inside_one_file_and_where_trips_are_few(tmp_path):
    one_file = build(tmp_path / "file", trips_a_day([0, 1, 4, 5], 48))
    few = [*trips_a_day([0, 1], 2, batch="first"), *trips_a_day([4, 5], 2, batch="third")]
    for panel in (one_file, build(tmp_path / "few", few)):
        departures = np.array(column(panel, "departures@a"))
        assert (departures[2 * 288 : 4 * 288] == 0).all()


def test_counts_derived_from_trips_are_covered_where_the_trip_files_are(tmp_path):
    counts = [
        {**row, "source_id": "derived:trip:bike", "batch_id": "counts"} for row in trips_a_day([0, 1, 3, 5, 6], 48)
    ]
    trips = [
        {"mode": "bike", "start_time": MONDAY + timedelta(days=day), "batch_id": batch}
        for batch, days in (("early", (0, 3)), ("late", (5, 6)))
        for day in days
    ]
    panel = build(tmp_path, counts, trips=trips)
    departures = np.array(column(panel, "departures@a"))
    assert (departures[2 * 288 : 3 * 288] == 0).all()
    assert np.isnan(departures[4 * 288 : 5 * 288]).all()
    assert np.isfinite(departures).mean() == pytest.approx(1 - 288 / departures.size)


def test_a_source_that_writes_zeros_means_missing_when_it_leaves_a_row_out(tmp_path):
    data = [observed("a", "entries", 0, 0), observed("a", "entries", 5, 7), observed("a", "entries", 15, 9)]
    np.testing.assert_array_equal(column(build(tmp_path, data), "entries@a"), [0, 7, np.nan, 9])


def test_on_a_day_that_is_still_going_on_a_slow_source_is_missing_not_zero(tmp_path):
    data = [
        observed("a", "departures", 5, 2, source="slow"),
        *(observed("b", "speed", m, 50) for m in range(0, 30, 5)),
    ]
    np.testing.assert_array_equal(column(build(tmp_path, data), "departures@a"), [0, 2, *[np.nan] * 4])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_rows_does_not_matter(tmp_path_factory, seed):
    data = rows(
        "observation",
        [
            *(observed("a", "speed", m, m, interval_s=60) for m in range(40)),
            *(observed("b", "departures", m, 1, source="trips") for m in range(0, 40, 5)),
            *(observed("c", "flow", m, m) for m in range(0, 40, 5)),
        ],
    )
    folder = tmp_path_factory.mktemp("order")
    straight = build(folder / "straight", data)
    shuffled = build(folder / "shuffled", data.sample(fraction=1, shuffle=True, seed=seed))
    assert straight.meta.panel_id == shuffled.meta.panel_id


def test_poison_in_the_future_changes_no_cell_before_it(tmp_path):
    rng = np.random.default_rng(0)
    minutes = range(0, 3 * 1440, 5)
    data = rows(
        "observation",
        [
            observed(f"s{i}", variable, m, float(rng.uniform(1, 9) * (i + 1)))
            for i, variable, m in itertools.product(range(6), ("speed", "flow"), minutes)
        ],
    )
    cut = MONDAY + timedelta(days=2)
    poison = pl.when(pl.col("time_start") >= cut).then(pl.lit(1e9, pl.Float32)).otherwise(pl.col("value"))
    clean = build(tmp_path / "clean", data, max_series=8)
    poisoned = build(tmp_path / "poisoned", data.with_columns(value=poison), max_series=8)
    assert clean.series.equals(poisoned.series)
    assert clean.values[: 2 * 288].tobytes() == poisoned.values[: 2 * 288].tobytes()
    assert (poisoned.values[2 * 288 :] > 1e8).all()


def test_the_largest_series_of_each_variable_are_kept_when_the_manifest_caps_them(tmp_path):
    data = [
        observed(f"s{i}", variable, m, scale * (i + 1))
        for i, (variable, scale), m in itertools.product(range(4), (("speed", 1), ("flow", 100)), range(0, 60, 5))
    ]
    panel = build(tmp_path, data, max_series=4)
    kept = panel.series.filter(pl.col("level") == "spot")["series_id"].to_list()
    assert sorted(kept) == ["flow@s2", "flow@s3", "speed@s2", "speed@s3"]
    assert panel.meta.notes["series_above_max_series"] == 4


def test_hardly_measured_series_are_left_out_and_counted(tmp_path):
    data = [*day_of("a", "speed", float), observed("b", "speed", 0, 5)]
    panel = build(tmp_path, data, min_coverage=0.1)
    assert "speed@b" not in panel.series["series_id"].to_list()
    assert panel.meta.notes["series_below_min_coverage"] == 1


def test_spots_bring_mode_place_graph_and_named_corridors(tmp_path):
    spots = [
        {"spot_id": s, "mode": "rail", "kind": "station", "name": s.upper(), "attributes": f'{{"line": "{line}"}}'}
        for s, line in (("a", "blue"), ("b", "blue"), ("c", "red"))
    ]
    data = [observed(s, "entries", m, 4) for s in "abc" for m in (0, 5)]
    links = [{"from_spot": "a", "to_spot": "b", "weight": 0.5}, {"from_spot": "b", "to_spot": "c", "weight": 0.25}]
    panel = build(tmp_path, data, spots=spots, links=links, corridors="attribute:line")
    corridors = panel.series.filter(pl.col("level") == "corridor")
    assert corridors["name"].to_list() == ["blue", "red"]
    assert panel.series["mode"].unique().to_list() == ["rail"]
    at = {name: i for i, name in enumerate(panel.series["series_id"])}
    assert panel.graph[at["entries@a"], at["entries@b"]] == 0.5
    assert panel.graph[at["entries@corridor:0"], at["entries@corridor:1"]] == 0.25
    assert column(panel, "entries@corridor:0") == [8, 8]
    with pytest.raises(PanelError, match="no spot has the attribute"):
        build(tmp_path, data, spots=spots, corridors="attribute:route")


def test_the_first_attribute_that_a_place_has_names_its_corridor_and_the_rest_are_counted_by_mode(tmp_path):
    spots = [
        {"spot_id": "a", "mode": "metro", "kind": "station", "attributes": '{"line": "M1"}'},
        {"spot_id": "b", "mode": "road", "kind": "detector", "attributes": '{"line": "no", "road": "Ring"}'},
        {"spot_id": "c", "mode": "bike", "kind": "dock"},
        {"spot_id": "d", "mode": "road", "kind": "detector", "attributes": '{"road": null}'},
    ]
    data = [observed(s, "entries", m, 4) for s in "abcd" for m in (0, 5)]
    panel = build(tmp_path, data, spots=spots, corridors="attribute:road,line")
    corridors = panel.series.filter(pl.col("level") == "corridor")
    assert corridors["name"].to_list() == ["bike corridor 1", "M1", "Ring", "road corridor 1"]


def test_a_named_corridor_longer_than_allowed_is_cut_along_its_graph_and_says_so(tmp_path):
    names = [f"s{i}" for i in range(7)]
    spots = [{"spot_id": s, "mode": "road", "kind": "detector", "attributes": '{"road": "Ring"}'} for s in names]
    links = [{"from_spot": a, "to_spot": b, "weight": 1.0} for a, b in itertools.pairwise(names)]
    data = [observed(s, "flow", m, 4) for s in names for m in (0, 5)]
    panel = build(tmp_path, data, spots=spots, links=links, corridors="attribute:road", corridor_size=3)
    parts = panel.series.filter(pl.col("level") == "corridor")
    assert parts["name"].to_list() == ["Ring (1 of 3)", "Ring (2 of 3)", "Ring (3 of 3)"]
    for row in parts["index"].to_list():
        members = sorted(panel.series["spot_id"][int(i)] for i in panel.aggregation[[row - len(names)]].indices)
        positions = [names.index(one) for one in members]
        assert len(members) <= 3
        assert positions == list(range(positions[0], positions[0] + len(positions))), "neighbours stay together"


def test_building_again_from_the_same_data_gives_the_same_panel(tmp_path):
    data = day_of("a", "speed", float)
    first, second = build(tmp_path, data), build(tmp_path, data)
    assert first.meta.panel_id == second.meta.panel_id
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["latest", first.meta.panel_id[:16]])


def test_weather_is_known_to_a_step_only_once_its_report_is_complete(tmp_path):
    weather = [
        {"time_start": MONDAY + timedelta(hours=h), "interval_s": 3600, "temperature_c": float(h), "rain_mm": 0.5}
        for h in (0, 1)
    ]
    panel = build(tmp_path, day_of("a", "speed", float), weather=weather)
    assert panel.covariates is not None
    assert panel.covariates.names == ("temperature_c", "rain_mm", "wind_m_s")
    hourly = panel.covariates.values[::12, 0]
    # The report of the second hour is used until two hours after its end; then it says nothing any more.
    np.testing.assert_array_equal(hourly[:6], [np.nan, 0, 1, 1, 1, np.nan])
    assert panel.covariates.values[11, 0] != 0
    assert np.isnan(panel.covariates.values[:, 2]).all()


@pytest.mark.parametrize(
    ("data", "panel", "message"),
    [
        ([], {}, "holds no observation of this city"),
        ([observed("a", "speed", 0, 5)], {"variables": ["flow"]}, "does not measure this variable.*got flow.*speed"),
        ([observed("a", "speed", 0, 5)], {"start": "2025-01-01"}, "nothing was measured in the panel's period"),
        ([observed("a", "speed", 0, 5)], {"interval_s": 7200}, "does not divide one hour"),
        ([observed("a", "speed", 0, 5), observed("a", "speed", 9_000_000, 5)], {}, "too far apart.*panel.start"),
        ([observed("a", "speed", 0, 5), observed("a", "speed", 60, 5)], {"min_coverage": 0.9}, "often enough"),
    ],
)
def test_a_panel_that_cannot_be_built_is_refused_with_one_sentence(tmp_path, data, panel, message):
    with pytest.raises(PanelError, match=message):
        build(tmp_path, data, **panel)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_refuses_is_told_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PanelError, match=r"could not be written.*Not a directory"):
        build(tmp_path / "file" / "panels", day_of("a", "speed", float))


def test_the_timetable_is_a_covariate_that_reaches_beyond_the_end(tmp_path):
    timetable = {
        "service": [
            {"pattern_id": p, "spot_id": "a", "band_start_s": 0, "band_s": 86_400, "departures": d}
            for p, d in (("weekday", 288), ("weekend", 24))
        ],
        "service_day": [
            {
                "pattern_id": "weekend" if day in (5, 6) else "weekday",
                "service_date": (MONDAY + timedelta(days=day)).date(),
            }
            for day in range(8)
        ],
    }
    panel = build(tmp_path, day_of("a", "speed", float), further=timetable)
    known = panel.covariates
    assert known.names == ("transit_departures",)
    np.testing.assert_allclose(known.values[:, 0], 1)
    assert known.future.shape == (7 * 288, 1)
    np.testing.assert_allclose(known.future[:, 0], [1] * 4 * 288 + [24 / 288] * 2 * 288 + [1] * 288, rtol=1e-5)
    assert panel.meta.table_versions["service"] == 3
    cut = panel.slice(0, 100).covariates
    assert cut.values.shape == (100, 1)
    np.testing.assert_allclose(cut.future[:188, 0], 1)
    np.testing.assert_allclose(cut.future[188:, 0], known.future[:-188, 0])


def test_weather_is_never_known_ahead(tmp_path):
    timetable = {
        "service": [{"pattern_id": "p", "spot_id": "a", "band_start_s": 0, "band_s": 86_400, "departures": 288}],
        "service_day": [{"pattern_id": "p", "service_date": MONDAY.date()}],
    }
    weather = [{"time_start": MONDAY + timedelta(hours=h), "interval_s": 3600, "temperature_c": h} for h in range(24)]
    panel = build(tmp_path, day_of("a", "speed", float), further=timetable, weather=weather)
    assert panel.covariates.names == ("temperature_c", "rain_mm", "wind_m_s", "transit_departures")
    assert np.isnan(panel.covariates.future).all()
    cut = panel.slice(0, 100).covariates
    assert np.isnan(cut.future[:, :3]).all()
    assert np.isfinite(cut.future[:188, 3]).all()


def test_suspect_values_are_left_out_as_missing_even_where_no_row_would_be_a_zero(tmp_path):
    data = [
        *day_of("a", "speed", float),
        *({**row, "suspect": "frozen"} for row in day_of("b", "speed", lambda m: 50)),
        *(
            {**observed("c", "departures", m, 5 if m else 5000, source="trips"), "suspect": None if m else "scale"}
            for m in range(0, 1440, 60)
        ),
    ]
    data.append(observed("b", "speed", 1440, 40))
    panel = build(tmp_path, data)
    speed, departures = np.array(column(panel, "speed@b")), np.array(column(panel, "departures@c"))
    assert np.isnan(speed[:288]).all()
    assert speed[288] == 40
    assert np.isnan(departures[0])
    assert departures[1] == 0
    assert departures[12] == 5
    assert panel.meta.notes["suspect_rows"] == {"frozen": 288, "scale": 1}
    taken = build(tmp_path, data, use_suspect=True)
    assert column(taken, "departures@c")[0] == 5000
    assert "suspect_rows" not in taken.meta.notes


def test_transfers_between_modes_are_told_apart_from_the_graph(tmp_path):
    spots = [
        {"spot_id": "dock1", "kind": "dock", "mode": "bike", "lon": 10.0, "lat": 59.0},
        {"spot_id": "dock2", "kind": "dock", "mode": "bike", "lon": 10.01, "lat": 59.0},
        {"spot_id": "station", "kind": "station", "mode": "rail", "lon": 10.0, "lat": 59.001},
    ]
    links = [
        {"from_spot": a, "to_spot": b, "kind": "transfer", "distance_m": 111.0}
        for a, b in (("dock1", "station"), ("station", "dock1"), ("dock1", "elsewhere"), ("halt", "station"))
    ]
    data = [
        *day_of("dock1", "departures", lambda m: 1.0),
        *day_of("dock2", "departures", lambda m: 2.0),
        *day_of("station", "departures", lambda m: 3.0),
    ]
    spots.append({"spot_id": "halt", "kind": "stop", "mode": "tram", "lon": 10.0, "lat": 59.0})
    panel = build(tmp_path, data, spots=spots, links=links)
    assert panel.transfers.to_dicts() == [
        {"from_spot": "dock1", "to_spot": "station", "distance_m": 111.0},
        {"from_spot": "halt", "to_spot": "station", "distance_m": 111.0},
        {"from_spot": "station", "to_spot": "dock1", "distance_m": 111.0},
    ]
    ids = panel.series["series_id"].to_list()
    one, two, rail = (ids.index(f"departures@{name}") for name in ("dock1", "dock2", "station"))
    # The dock is still joined to its nearest dock, and no trips diffuse between modes.
    assert panel.graph[one, two] > 0
    assert panel.graph[one, rail] == 0
    assert panel.meta.notes["transfers"] == 3


def test_events_of_the_panels_time_are_counted_by_kind(tmp_path):
    def event(name, kind, start, end, **more):
        def at(hours):
            return None if hours is None else MONDAY + timedelta(hours=hours)

        return {"event_id": name, "language": "en", "kind": kind, "start": at(start), "end": at(end), **more}

    events = [
        event("1", "works", -24, None),
        event("1", "works", -24, None, language="nb"),
        event("2", "works", -24, 0),
        event("3", "alert", 23, 30),
        event("4", "alert", 24, 30),
        event("5", "incident", 3, 4),
        event("5", "incident", -9, -8, valid_from=MONDAY + timedelta(days=9)),
    ]
    panel = build(tmp_path, day_of("a", "speed", float), further={"event": events})
    assert panel.meta.notes["events"] == {"alert": 1, "works": 1}


def test_a_stray_year_in_a_grid_with_times_of_its_own_does_not_stretch_the_axis(tmp_path):
    stray = [{**observed(spot, "speed", 0, 50), "time_start": datetime(1999, 1, 1, tzinfo=UTC)} for spot in "ab"]
    panel = build(tmp_path, [*stray, *day_of("a", "speed", float), *day_of("b", "speed", float)])
    assert panel.n_step == 288
    assert panel.meta.notes["rows_of_stray_days"] == 2
