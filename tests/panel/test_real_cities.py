from __future__ import annotations

import json
from datetime import date

import numpy as np
import polars as pl
import pytest

from mtgpt.ingest.manifest import load_manifest
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.panel.build import build_panel
from mtgpt.settings import Settings

pytestmark = [pytest.mark.real_data, pytest.mark.slow]


def panel_of(city, home, real_data):
    settings = Settings(home=home, real_data=real_data)
    manifest = load_manifest(city, settings=settings)
    lake = Lake.open(settings.lake)
    results = ingest_city(manifest, lake, settings=settings)
    assert {result.status for result in results} == {"committed"}
    return build_panel(manifest, lake, folder=settings.panels / city)


def test_the_panel_of_pemsd7_is_the_published_matrix_in_kmh(home, real_data):
    panel = panel_of("pems07m", home, real_data)
    assert (panel.n_step, panel.n_spot, panel.n_series) == (12672, 228, 233)
    assert panel.calendar.dates.size == 44
    assert panel.series.filter(pl.col("level") == "spot")["corridor"].value_counts()["count"].max() <= 64
    assert json.loads(json.dumps(panel.meta.as_dict()))["table_versions"].keys() == {"link", "observation", "spot"}
    published = np.load(real_data / "road_pems07m" / "PEMS07M.npz")["data"]
    published = published.reshape(12672, 228).astype(np.float64) * 1.609344
    columns = {spot: i for i, spot in enumerate(sorted(panel.series["spot_id"].drop_nulls(), key=int))}
    order = [columns[spot] for spot in panel.series["spot_id"].drop_nulls()]
    np.testing.assert_allclose(panel.spots, published[:, order], rtol=1e-5)
    np.testing.assert_allclose(panel.values[:, -1], published.mean(axis=1), rtol=1e-5)


def test_the_panel_of_jersey_city_covers_the_three_months_of_its_trip_files(home, real_data):
    panel = panel_of("jersey_city_bikes", home, real_data)
    days = panel.calendar.dates
    assert (days[0].astype(object), days[-1].astype(object)) == (date(2021, 1, 1), date(2021, 3, 31))
    # 90 days of 24 hours, less the one that the clocks skip on 14 March.
    assert panel.n_step == 90 * 24 - 1
    departures = panel.values[:, panel.indices(level="network", variable="departures")[0]]
    # On 2 February a blizzard had closed the stations: a day without a trip, inside a file, is a day of zeros.
    closed = days[panel.calendar.day] == np.datetime64("2021-02-02")
    assert (departures[closed] == 0).all()
    assert np.isfinite(panel.spots).all()
