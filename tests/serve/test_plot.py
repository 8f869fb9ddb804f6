"""Pictures are whole, say what they show, and draw what the forecast says."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from matplotlib import image
from PIL import Image

from mtgpt.errors import NotFound, UsageError
from mtgpt.serve import plot
from mtgpt.serve.render import as_png
from tests.serve.forecasts import small_forecast


def texts(figure) -> str:
    return " | ".join(t.get_text() for t in figure.findobj(plot.Text))


def test_the_picture_of_one_series_names_place_time_unit_and_source(tmp_path):
    forecast = small_forecast(simulated=True).select(spot="101")
    as_png(forecast, tmp_path / "fan.png")
    with Image.open(tmp_path / "fan.png") as png:
        assert png.size[0] > 1000
        assert png.text["Description"].startswith("Simulated city · data until Wed 13 Jun 2012")
    written = texts(plot.fan(forecast))
    for part in (
        "Exit 1 [north] (101) – speed",
        "speed (km/h)",
        "17:00 PDT",
        "1 h ahead in steps of 5 min",
        "Simulated",
    ):
        assert part in written
    for part in ("measured", "median", "95 % band", "80 % band", "50 % band", "what happened", "now"):
        assert part in written


def test_the_lines_and_bands_are_the_forecasts_own_numbers():
    forecast = small_forecast(horizon=6).select(spot="100")
    ax = plot.fan(forecast).axes[0]
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["median"].get_ydata()[1:-1], forecast.median[0])
    np.testing.assert_allclose(lines["what happened"].get_ydata(), forecast.observed[0])
    np.testing.assert_allclose(lines["measured"].get_ydata(), forecast.history[0, -24:])
    band = next(patch for patch in ax.collections if patch.get_label() == "80 % band")
    low, high = forecast.band(0.8)
    edges = band.get_paths()[0].vertices[:, 1]
    assert edges.min() == pytest.approx(low.min(), rel=1e-5)
    assert edges.max() == pytest.approx(high.max(), rel=1e-5)


def test_a_night_without_service_is_a_break_and_not_a_stretch():
    forecast = small_forecast(horizon=6, night_h=7).select(spot="100")
    ax = plot.fan(forecast).axes[0]
    assert ax.get_xlim() == (0, 24 + 6 + 1)
    assert "Wed 13 Jun" in texts(plot.fan(forecast))


def test_many_series_show_the_network_the_corridor_and_the_busiest_spots():
    forecast = small_forecast(spots=30)
    picked = plot.telling(forecast)
    assert picked.series["level"].to_list() == ["network", "corridor", "spot", "spot", "spot", "spot"]
    busiest = np.nanmean(forecast.history[:30], axis=1).argmax()
    assert picked.series["index"][2] == busiest
    assert "6 of 32 series" in texts(plot.fan(forecast))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 12])
def test_any_number_of_small_multiples_is_drawn(count, tmp_path):
    forecast = small_forecast(spots=12, horizon=3).take(range(count))
    plot.save(plot.fan(forecast), tmp_path / "fan.png")
    assert image.imread(tmp_path / "fan.png").std() > 0.01


@pytest.mark.parametrize("change", [{"dead": 0}, {"observed": False}, {"horizon": 1}, {"history": 1}])
def test_what_is_missing_leaves_a_gap_and_no_warning(change, tmp_path):
    forecast = small_forecast(**change).select(spot="100")
    as_png(forecast, tmp_path / "fan.png")
    assert ("no forecast" in texts(plot.fan(forecast))) == ("dead" in change)
    assert ("what happened" in texts(plot.fan(forecast))) == ("observed" not in change)


def test_a_name_in_a_script_without_a_font_does_not_fail(tmp_path):
    forecast = small_forecast().take([0])
    forecast = replace(forecast, series=forecast.series.with_columns(name=pl.lit("南京南站 $x_{")))
    as_png(forecast, tmp_path / "fan.png")
    assert (tmp_path / "fan.png").stat().st_size > 10_000


def test_chosen_series_are_drawn_in_the_order_asked_for(tmp_path):
    forecast = small_forecast()
    as_png(forecast, tmp_path / "fan.png", series=["speed@network", "speed@100"])
    with pytest.raises(NotFound, match="speed@999"):
        as_png(forecast, tmp_path / "fan.png", series=["speed@999"])


def test_the_map_colours_spots_by_what_was_and_what_comes(tmp_path):
    forecast = small_forecast(spots=20, dead=2)
    as_png(forecast, tmp_path / "map.png", kind="map")
    figure = plot.city_map(forecast)
    seen, ahead, width = (max(ax.collections, key=lambda dots: len(dots.get_offsets())) for ax in figure.axes[:3])
    alive = np.array([i for i in range(20) if i != 2])
    assert sorted(np.asarray(seen.get_array())) == pytest.approx(sorted(forecast.history[alive, -1]))
    assert sorted(np.asarray(ahead.get_array())) == pytest.approx(sorted(forecast.median[alive, -1]))
    assert len(width.get_offsets()) == 19
    assert "1 h ahead" in texts(figure)
    assert "km" in texts(figure)


def test_a_map_of_spots_without_a_place_is_refused_with_a_way_out(tmp_path):
    forecast = small_forecast()
    nowhere = replace(forecast, series=forecast.series.with_columns(lon=pl.lit(None, pl.Float64)))
    for one in (nowhere, forecast.select(level="network"), replace(forecast, series=forecast.series.drop("lon"))):
        with pytest.raises(UsageError, match="a map needs spots with a place"):
            as_png(one, tmp_path / "map.png", kind="map")
    assert not list(tmp_path.iterdir())


def test_a_map_of_one_spot_is_a_map(tmp_path):
    as_png(small_forecast(spots=1), tmp_path / "map.png", kind="map")
    assert (tmp_path / "map.png").stat().st_size > 10_000


@pytest.mark.parametrize("interval_s", [60, 300, 420, 900, 3600, 86_400])
@pytest.mark.parametrize("steps", [3, 48, 400])
def test_time_labels_are_few_distinct_and_name_their_day(interval_s, steps):
    start = datetime.fromisoformat("2012-06-13T17:00:00-07:00").timestamp()
    zone = small_forecast().zone
    local = [datetime.fromtimestamp(start + i * interval_s, zone) for i in range(steps)]
    ticks, labels = plot._ticks(local, np.arange(steps), 8)
    assert 1 <= len(ticks) <= 8
    assert "Jun" in labels[0] or "Jul" in labels[0] or "20" in labels[0]
    assert ticks == sorted(set(ticks))


def test_an_amount_is_drawn_from_zero_and_a_speed_is_not_flattened():
    speeds = small_forecast().select(spot="100")
    flows = replace(speeds, series=speeds.series.with_columns(aggregate=pl.lit("sum")))
    high = float(speeds.quantiles.max())
    steady = replace(speeds, quantiles=speeds.quantiles / 10 + high, history=speeds.history / 10 + high, observed=None)
    assert plot.fan(replace(flows, quantiles=steady.quantiles, history=steady.history)).axes[0].get_ylim()[0] == 0
    assert plot.fan(steady).axes[0].get_ylim()[0] > high / 2
