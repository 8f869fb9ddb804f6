from __future__ import annotations

import gzip
from datetime import UTC, datetime

import pytest

from mtgpt.errors import FeedError, SourceRefused
from tests.ingest.feed_files import judged, read

# Year, month, day, hour; temperature, dew point, pressure, wind direction, wind speed, sky, rain of 1 h and of 6 h.
LINES = (
    "2012 05 01 00   156    89 10132   270    46     2     0 -9999",
    "2012 05 01 01   150    89 10132   270    51     2    12 -9999",
    "2012 05 01 02 -9999 -9999 10132   270 -9999     2    -1 -9999",
    "2012 05 01 03   -25   -31 10132   270     0     2     4 -9999",
)


def weather(folder, lines=LINES, *, data: bytes | None = None, name="722950-23174-2012", **options):
    path = folder / "isd"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode() if data is None else data)
    return read("isd_lite", path, name=name, **options)["weather"]


def rows(frame, *columns):
    return judged("weather", frame).good.sort("time_start").select("time_start", *columns).rows()


def at(hour: int, day: int = 1) -> datetime:
    return datetime(2012, 5, day, hour, tzinfo=UTC)


def test_tenths_missing_values_and_traces_are_read_and_rain_goes_to_the_hour_it_fell_in(tmp_path):
    assert rows(weather(tmp_path), "temperature_c", "wind_m_s", "rain_mm") == [
        (datetime(2012, 4, 30, 23, tzinfo=UTC), None, None, 0.0),
        (at(0), 15.6, 4.6, 1.2),
        (at(1), 15.0, 5.1, 0.0),
        (at(2), None, None, 0.4),
    ]


def test_humidity_follows_from_the_dew_point(tmp_path):
    humidity = weather(tmp_path).sort("time_start")["humidity"].to_list()
    assert humidity == [None, pytest.approx(0.643, abs=1e-3), pytest.approx(0.669, abs=1e-3), None]


def test_a_dew_point_far_above_the_temperature_gives_no_humidity(tmp_path):
    frame = weather(tmp_path, ["2012 05 01 00   100   103 10132   270    46     2", LINES[0].replace("01 00", "01 01")
                               .replace("   156    89", "   100   120")])  # fmt: skip
    assert frame.sort("time_start")["humidity"].drop_nulls().to_list() == [1.0]


def test_gzipped_files_and_the_station_s_place(tmp_path):
    data = gzip.compress("\n".join(LINES).encode())
    frame = weather(tmp_path, data=data, name="722950-23174-2012.gz", lon=-118.39, lat=33.94)
    assert frame.select("lon", "lat").unique().rows() == [(-118.39, 33.94)]
    assert frame.height == 4


def test_a_station_without_rain_gauge_keeps_its_last_hour(tmp_path):
    lines = [line[:49] for line in LINES[:2]]
    assert [row[0] for row in rows(weather(tmp_path, lines))] == [at(0), at(1)]


def test_faulty_lines_are_marked_and_the_others_read(tmp_path):
    lines = [
        LINES[0],
        LINES[1][:30],  # cut off
        LINES[1] + " 1 2 3",  # too long
        "2012 13 01 02   150    89 10132   270    51     2    12 -9999",
        "2012 05 01 05   1x0    89 10132   270    51     2    12 -9999",
        "²⁰¹² 05 01 06   150    89 10132   270    51     2    12 -9999",
        LINES[3],
    ]
    verdict = judged("weather", weather(tmp_path, lines))
    assert sorted(verdict.bad.select("row", "rule_id").rows()) == [
        (1, "time_unreadable"), (2, "time_unreadable"), (3, "time_unreadable"), (4, "number_unreadable"),
        (5, "time_unreadable"),
    ]  # fmt: skip
    assert verdict.good["temperature_c"].drop_nulls().to_list() == [15.6, -2.5]


def test_stray_years_and_absurd_numbers_are_quarantined(tmp_path):
    lines = [LINES[0], LINES[1].replace("2012", "1901"), LINES[2].replace("-9999 -9999 10132", " 9990   100 10132"),
             LINES[1].replace("2012", "2912").replace("    51", "-00051")]  # fmt: skip
    verdict = judged("weather", weather(tmp_path, lines))
    assert {"time_start.range", "temperature_c.range"} <= set(verdict.bad["rule_id"])
    assert verdict.good["temperature_c"].drop_nulls().to_list() == [15.6]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"station,date\n722950,2012\n", "no line is one of ISD-Lite"),
        (b"<html>gone</html>", "a web page"),
        (b"\x00\x01\x02" * 50, "binary data"),
        ("2012 05 01 00   156".encode("utf-16"), "UTF-16"),
        (LINES[0].encode() + b"\n\xff\xfe\n", "not UTF-8"),
        (gzip.compress("\n".join(LINES).encode())[:-20], "truncated"),
    ],
)
def test_what_is_no_isd_lite_is_one_sentence(tmp_path, data, what):
    with pytest.raises(FeedError, match=what):
        weather(tmp_path, data=data)


def test_a_bomb_is_refused(tmp_path):
    with pytest.raises(SourceRefused):
        weather(tmp_path, data=gzip.compress(b" " * (80 << 20)))
