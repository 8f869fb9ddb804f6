from __future__ import annotations

import pytest

from mtgpt.errors import FeedError
from tests.ingest.feed_files import judged, read

SAO_PAULO = "America/Sao_Paulo"
TIMES = ["2023-04-01 00:00:00", "2023-04-01 01:00:00"]


@pytest.fixture
def files(tmp_path):
    """Three stations, two hours; the columns of the series are not in the order of the stations."""

    def write(name: str, text: str):
        path = tmp_path / name
        path.write_text(text)
        return path

    def series(first: str, *rows: str) -> str:
        return f"{first},0,2,1\n" + "".join(f"{time},{row}\n" for time, row in zip(TIMES, rows, strict=True))

    return {
        "data": write("volume.csv", series("", "22,0,7.4", "0,1,3")),
        "duration": write("duration.csv", series("", "1,0,0.5", "0,0.25,1")),
        "price": write("e_price.csv", series("time", "144,170,0", "144,170,0")),
        "stations": write("stations.csv", "station_id,longitude,latitude,pile_num,total_duration,avg_power\n0,-46.68,-23.60,1,9,22.0\n1,-46.67,-23.61,2,9,7.4\n2,-46.66,-23.62,1,9,11.0\n"),
        "distance": write("distance.csv", ",0,1,2\n0,0,1.5,3\n1,1.5,0,1.25\n2,3,1.25,0\n"),
        "weather": write("weather.csv", ",time,temp,humidity,precip,windspeed,conditions\n2160,2023-04-01 00:00:00,20.0,93.97,0.5,3.6,0\n2161,2023-04-01 01:00:00,19.9,90,,7.2,0\n"),
    }  # fmt: skip


def charged(files, **options):
    rest = {role: path for role, path in files.items() if role != "data"}
    return read("charged", files["data"], zone=SAO_PAULO, files=rest, **options)


def test_energy_time_and_price_go_to_the_station_that_the_header_names(files):
    good = judged("observation", charged(files)["observation"]).good
    first = good.filter(good["time_start"] == good["time_start"].min())
    values = {
        (variable, spot): value for variable, spot, value in first.select("variable", "spot_id", "value").iter_rows()
    }
    assert values == pytest.approx({
        ("energy", "0"): 22.0, ("energy", "2"): 0.0, ("energy", "1"): 7.4,
        ("charging_time", "0"): 1.0, ("charging_time", "2"): 0.0, ("charging_time", "1"): 0.5,
        ("price", "0"): 144.0, ("price", "2"): 170.0, ("price", "1"): 0.0,
    })  # fmt: skip
    assert good["time_start"].dt.strftime("%d %H").unique().sort().to_list() == ["01 03", "01 04"]


def test_an_idle_hour_is_a_row_with_a_zero(files):
    assert charged(files)["observation"].height == 3 * 2 * 3


def test_stations_become_chargers_with_plugs(files):
    spot = judged("spot", charged(files)["spot"]).good
    assert spot.select("spot_id", "kind", "mode", "capacity", "attributes").rows()[0] == (
        "0",
        "charger",
        "ev",
        1.0,
        '{"power_kw": 22.0}',
    )


def test_kilometres_become_metres_to_the_nearest_stations(files):
    link = judged("link", charged(files, nearest=1)["link"]).good
    assert link.select("from_spot", "to_spot", "distance_m", "kind").rows() == [
        ("0", "1", 1500.0, "proximity"), ("1", "2", 1250.0, "proximity"), ("2", "1", 1250.0, "proximity"),
    ]  # fmt: skip


def test_weather_comes_in_the_units_of_the_lake_and_a_blank_is_null(files):
    good = judged("weather", charged(files)["weather"]).good
    assert good.select("temperature_c", "rain_mm", "wind_m_s", "humidity", "lon", "lat").rows() == [
        (20.0, 0.5, pytest.approx(1.0), pytest.approx(0.9397), -46.67, -23.61),
        (19.9, None, pytest.approx(2.0), pytest.approx(0.9), -46.67, -23.61),
    ]


def test_only_volume_and_stations_are_needed(files):
    frames = charged({role: files[role] for role in ("data", "stations")})
    assert set(frames) == {"spot", "observation"}
    assert frames["observation"]["variable"].unique().to_list() == ["energy"]


def test_series_of_other_stations_than_the_list_are_refused_with_both_numbers(files):
    files["duration"].write_text(f",0,1\n{TIMES[0]},1,1\n")
    with pytest.raises(FeedError, match=r"duration\.csv.*got 2 stations, different: 2, expected 3 stations"):
        charged(files)


def test_a_negative_energy_is_quarantined_and_nothing_else(files):
    files["data"].write_text(files["data"].read_text().replace("7.4", "-7.4"))
    verdict = judged("observation", charged(files)["observation"])
    assert verdict.bad["rule_id"].to_list() == ["value.variable_range"]
