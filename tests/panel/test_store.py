from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from mtgpt.errors import NotFound, PanelError
from mtgpt.panel.assemble import make_panel
from mtgpt.panel.panel import Covariates, PanelMeta
from mtgpt.panel.store import latest_panel, open_panel, save_panel
from mtgpt.settings import Settings


def small(seed: int = 0):
    rng = np.random.default_rng(seed)
    values = rng.uniform(0, 9, (50, 3)).astype(np.float32)
    values[4, 1] = np.nan
    series = pl.DataFrame({"spot_id": ["a", "b", "ç"], "variable": "entries", "lon": [1.0, 2.0, None], "lat": 0.0})
    time = np.datetime64("2024-03-30T20:00", "s") + np.arange(50) * np.timedelta64(600, "s")
    meta = PanelMeta(
        city="testville", name="Testville", interval_s=600, time_zone="Europe/Paris", table_versions={"spot": 2}
    )
    weather = Covariates(values=rng.uniform(0, 9, (50, 2)).astype(np.float32), names=("rain_mm", "wind_m_s"))
    return make_panel(values, time, series, meta=meta, covariates=weather)


def test_a_stored_panel_comes_back_as_it_was_without_a_copy_of_its_values(tmp_path):
    panel = small()
    place = save_panel(panel, tmp_path / "testville")
    found = open_panel(place)
    assert found.values.tobytes() == panel.values.tobytes()
    assert not found.values.flags.owndata
    assert not found.values.flags.writeable
    assert found.series.equals(panel.series)
    assert found.meta == panel.meta
    assert found.calendar.rules == panel.calendar.rules
    for name in ("time", "day", "slot", "dates", "day_off"):
        np.testing.assert_array_equal(getattr(found.calendar, name), getattr(panel.calendar, name))
    for name in ("graph", "aggregation"):
        np.testing.assert_array_equal(getattr(found, name).toarray(), getattr(panel, name).toarray())
    assert found.covariates is not None
    assert found.covariates.names == ("rain_mm", "wind_m_s")
    np.testing.assert_array_equal(found.covariates.values, panel.covariates.values)


def test_the_panel_built_last_is_the_latest_even_when_it_was_there_before(tmp_path):
    first, second = small(1), small(2)
    home = Settings(home=tmp_path)
    for panel in (first, second, first):
        save_panel(panel, home.panels / "testville")
        assert latest_panel(home, "testville").meta.panel_id == panel.meta.panel_id


def test_only_the_newest_panels_are_kept_and_an_open_one_stays_readable(tmp_path):
    panels = [small(seed) for seed in range(5)]
    places = []
    for number, panel in enumerate(panels):
        places.append(save_panel(panel, tmp_path))
        os.utime(places[-1], (number, number))
        if number == 0:
            opened = open_panel(places[0])
    assert [place.is_dir() for place in places] == [False, False, True, True, True]
    assert opened.values.tobytes() == panels[0].values.tobytes()


def test_what_a_killed_build_left_behind_is_swept_away_and_what_is_at_work_is_not(tmp_path):
    for name, age in (("dead", 86_400), ("alive", 60)):
        (tmp_path / f".grid.{name}.tmp").mkdir()
        os.utime(tmp_path / f".grid.{name}.tmp", (time.time() - age,) * 2)
    save_panel(small(), tmp_path)
    assert [p.name for p in tmp_path.glob(".*.tmp")] == [".grid.alive.tmp"]


def test_a_city_without_a_panel_is_told_which_ones_have_one(tmp_path):
    home = Settings(home=tmp_path)
    save_panel(small(), home.panels / "testville")
    with pytest.raises(NotFound, match=r"got atlantis, expected one of testville.*mtgpt panel build atlantis"):
        latest_panel(home, "atlantis")
    with pytest.raises(NotFound, match="there is no panel here"):
        open_panel(tmp_path / "nowhere")


def test_a_write_that_fails_leaves_the_last_panel_and_nothing_half_written(tmp_path, monkeypatch):
    kept = small(1)
    save_panel(kept, tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(PanelError, match=r"could not be written.*No space left on device"):
            save_panel(small(2), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert open_panel(tmp_path).meta.panel_id == kept.meta.panel_id


@pytest.mark.parametrize("name", ["values.arrow", "series.arrow", "graph.arrow"])
def test_a_truncated_file_of_a_panel_is_refused_with_one_sentence(tmp_path, name):
    place = save_panel(small(), tmp_path)
    file = place / name
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(PanelError, match=r"the panel cannot be read.*Build it again"):
        open_panel(place)


def test_a_panel_without_an_id_is_not_stored(tmp_path):
    panel = small()
    with pytest.raises(PanelError, match="without an id"):
        save_panel(replace(panel, meta=replace(panel.meta, panel_id="")), tmp_path)
