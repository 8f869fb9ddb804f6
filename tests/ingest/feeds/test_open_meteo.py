from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from mtgpt.errors import FeedError
from tests.ingest.feed_files import RECEIVED, judged, read

HOURS = ["2024-01-01T00:00", "2024-01-01T01:00", "2024-01-01T02:00", "2024-01-01T03:00"]
UNITS = {
    "time": "iso8601", "temperature_2m": "°C", "precipitation": "mm", "wind_speed_10m": "km/h",
    "relative_humidity_2m": "%",
}  # fmt: skip


def document(times=HOURS, *, units=None, offset=0, lon=-51.2, lat=-30.0, **hourly):
    hourly = hourly or {"temperature_2m": [10, 11, 12, 13], "precipitation": [0.5, 1.5, 2.5, 3.5]}
    return {
        "latitude": lat, "longitude": lon, "utc_offset_seconds": offset, "timezone": "GMT",
        "hourly_units": UNITS | (units or {}), "hourly": {"time": times} | hourly,
    }  # fmt: skip


def weather(folder, data, **options):
    path = folder / "archive.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return read("open_meteo", path, **options)["weather"]


def good(frame, *columns):
    return judged("weather", frame).good.sort("time_start").select("time_start", *columns).rows()


def at(hour: int) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hour)


def test_rain_written_at_an_hour_fell_in_the_hour_before_it(tmp_path):
    frame = weather(tmp_path, document())
    assert good(frame, "interval_s", "temperature_c", "rain_mm") == [
        (at(-1), 3600, None, 0.5),
        (at(0), 3600, 10.0, 1.5),
        (at(1), 3600, 11.0, 2.5),
        (at(2), 3600, 12.0, 3.5),
    ]


def test_the_last_hour_waits_for_the_file_that_knows_its_rain(tmp_path):
    first = {row[0] for row in good(weather(tmp_path, document()))}
    later = good(weather(tmp_path, document([*HOURS[3:], "2024-01-01T04:00"], temperature_2m=[13, 14],
                                            precipitation=[3.5, 4.5])), "temperature_c", "rain_mm")  # fmt: skip
    assert at(3) not in first
    assert (at(3), 13.0, 4.5) in later


def test_without_precipitation_no_hour_waits(tmp_path):
    assert len(good(weather(tmp_path, document(temperature_2m=[1, 2, 3, 4])))) == 4


@pytest.mark.parametrize(
    ("unit", "metres_per_second"), [("km/h", 10.0), ("m/s", 36.0), ("mp/h", 16.09344), ("kn", 18.52)]
)
def test_wind_is_converted_by_the_unit_that_the_file_names(tmp_path, unit, metres_per_second):
    frame = weather(tmp_path, document(HOURS[:1], units={"wind_speed_10m": unit}, wind_speed_10m=[36]))
    assert frame["wind_m_s"].item() == pytest.approx(metres_per_second)


def test_fahrenheit_inches_and_percent_are_converted(tmp_path):
    data = document(
        HOURS[:2], units={"temperature_2m": "°F", "precipitation": "inch"}, temperature_2m=[50, 50],
        precipitation=[0, 0.1], relative_humidity_2m=[80, 81],
    )  # fmt: skip
    assert good(weather(tmp_path, data), "temperature_c", "rain_mm", "humidity")[1] == (
        at(0), pytest.approx(10.0), pytest.approx(2.54), pytest.approx(0.8),
    )  # fmt: skip


def test_local_hours_are_brought_to_utc_by_the_offset_that_the_file_names(tmp_path):
    frame = weather(tmp_path, document(offset=-10800, temperature_2m=[1, 2, 3, 4]))
    assert good(frame)[0] == (at(3),)


def test_posix_seconds_are_utc_whatever_the_offset(tmp_path):
    seconds = [int(at(hour).timestamp()) for hour in range(4)]
    frame = weather(tmp_path, document(seconds, units={"time": "unixtime"}, offset=7200, temperature_2m=[1, 2, 3, 4]))
    assert good(frame)[0] == (at(0),)


def test_hours_that_nothing_is_known_of_have_no_row(tmp_path):
    frame = weather(tmp_path, document(temperature_2m=[1, None, 3, None], precipitation=[0, None, 0, None]))
    assert [row[0] for row in good(frame)] == [at(-1), at(0), at(1)]


def test_hours_that_are_not_over_when_the_file_comes_have_no_row(tmp_path):
    times = [(RECEIVED + timedelta(hours=hour)).strftime("%Y-%m-%dT%H:%M") for hour in (-2, -1, 0, 1)]
    frame = weather(tmp_path, document(times, temperature_2m=[1, 2, 3, 4]))
    assert frame["temperature_c"].to_list() == [1.0, 2.0]


def test_several_places_are_one_city_s_mean_or_the_one_that_is_chosen(tmp_path):
    both = [document(temperature_2m=[1, 2, 3, 4]), document(lon=-51.0, temperature_2m=[3, None, 5, 6])]
    mean = weather(tmp_path, both)
    assert mean["temperature_c"].to_list() == [2.0, 2.0, 4.0, 5.0]
    assert mean["lon"].to_list() == [-51.1] * 4
    assert weather(tmp_path, both, place=1)["temperature_c"].to_list() == [3.0, 5.0, 6.0]
    with pytest.raises(FeedError, match=r"no such place .*got 2, expected 0 to 1"):
        weather(tmp_path, both, place=2)


def test_what_is_no_number_or_no_time_costs_its_own_row_only(tmp_path):
    data = document(
        ["2024-01-01T00:00", "yesterday", "2024-01-01T02:00", "0000-13-01T00:00", "2024-01-01T04:00"],
        temperature_2m=[1, 2, "warm", 4, True],
    )  # fmt: skip
    verdict = judged("weather", weather(tmp_path, data))
    assert verdict.good["temperature_c"].to_list() == [1.0]
    assert sorted(verdict.bad.select("row", "rule_id").rows()) == [
        (1, "time_unreadable"), (2, "number_unreadable"), (3, "time_unreadable"), (4, "number_unreadable"),
    ]  # fmt: skip
    assert any("warm" in raw for raw in verdict.bad["raw"])


def test_absurd_numbers_are_the_contract_s_to_refuse(tmp_path):
    huge = json.dumps(document(temperature_2m=[1, 900, 10**400, 4])).replace("900", "1e999")
    verdict = judged("weather", weather(tmp_path, huge))
    assert verdict.good.height == 2
    assert set(verdict.bad["rule_id"]) <= {"temperature_c.finite", "temperature_c.range"}


def test_an_hour_that_stands_twice_is_a_duplicate_and_not_a_product(tmp_path):
    many = 20_000
    frame = weather(tmp_path, document([HOURS[0]] * many, temperature_2m=[1] * many, precipitation=[1] * many))
    verdict = judged("weather", frame)
    assert frame.height == many
    assert verdict.duplicates == many - 2


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ("", "JSON"),
        ("[]", "not weather of Open-Meteo"),
        ("[1]", "not weather of Open-Meteo"),
        ("3", "not weather of Open-Meteo"),
        (json.dumps(document())[:200], "not JSON"),
        ("<!doctype html><p>busy", "a web page"),
        (json.dumps({"error": True, "reason": "Latitude must be in range"}), "refused the query.*Latitude must be"),
        (json.dumps(document()).replace("10", "NaN"), "not JSON"),
        (json.dumps({"hourly": []}), "no hourly weather"),
        (json.dumps({"hourly": {"time": "now"}, "hourly_units": {}}), "no hourly weather"),
        (json.dumps(document(temperature_2m=[1])), "hours and values differ in number.*got 1, expected 4 values"),
        (json.dumps(document(temperature_2m={"a": 1})), "hours and values differ in number"),
        (json.dumps(document(pressure_msl=[1, 2, 3, 4])), "none of its series"),
        (json.dumps(document(units={"temperature_2m": "furlong"})), "no conversion between these units.*furlong"),
        (json.dumps(document() | {"utc_offset_seconds": 1e9}), "is no offset"),
        (json.dumps(document() | {"utc_offset_seconds": "Z"}), "is no offset"),
        ('{"hourly":' * 100_000, "JSON"),
    ],
)
def test_what_is_no_weather_of_open_meteo_is_one_sentence(tmp_path, data, what):
    with pytest.raises(FeedError, match=what):
        weather(tmp_path, data)
