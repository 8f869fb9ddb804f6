from __future__ import annotations

import json
import subprocess
import sys

import geopandas as gpd
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from mtgpt.cli.panel import app
from mtgpt.errors import NotFound, PanelError, UsageError
from mtgpt.panel.assemble import make_panel
from mtgpt.panel.panel import PanelMeta
from mtgpt.panel.store import save_panel


@pytest.fixture
def stored(home):
    """A panel of Testville: two days of four stations on one road, with a gap."""
    rng = np.random.default_rng(0)
    values = rng.uniform(1, 9, (576, 4)).astype(np.float32)
    values[:57, 0] = np.nan
    series = pl.DataFrame(
        {
            "spot_id": list("abcd"),
            "variable": "speed",
            "unit": "km/h",
            "lon": [10.0, 10.001, 10.1, 10.101],
            "lat": [60.0, 60.0, 60.0, 60.001],
        }
    )
    time = np.datetime64("2024-01-01", "s") + np.arange(576) * np.timedelta64(300, "s")
    meta = PanelMeta(
        city="testville", name="Testville", interval_s=300, time_zone="UTC", table_versions={"observation": 7}
    )
    panel = make_panel(values, time, series, meta=meta, corridor=np.array([0, 0, 1, 1]))
    return save_panel(panel, home / "panels" / "testville")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False, standalone_mode=True)
    assert result.exit_code == 0
    return result.stdout


def test_info_tells_programs_the_whole_panel_as_json(stored):
    facts = json.loads(run("info", "testville", "--json"))
    assert facts["steps"] == 576
    assert facts["levels"] == {"spot": 4, "corridor": 2, "network": 1}
    assert facts["days"] == 2
    assert facts["table_versions"] == {"observation": 7}
    (speed,) = facts["variables"]
    assert speed["spots"] == 4
    assert speed["missing"] == pytest.approx(57 / 576 / 4, abs=1e-4)
    assert speed["missing_network"] == 0
    assert facts["end"] == "2024-01-03T00:00:00Z"


def test_info_shows_people_a_table_and_takes_a_folder_too(stored):
    for place in ("testville", str(stored), str(stored.parent)):
        shown = run("info", place, "--series")
        assert "576 of 300 s" in shown
        assert "4 spot, 2 corridor, 1 network" in shown
        assert "observation v7" in shown
        assert "speed@corridor:1" in shown


def test_export_writes_spots_and_corridors_that_gis_programs_read(stored, tmp_path):
    files = json.loads(run("export", "testville", "--geo", str(tmp_path / "gis"), "--json"))["files"]
    spots, corridors = (gpd.read_parquet(file) for file in files)
    assert spots.crs == corridors.crs == "EPSG:4326"
    assert spots["spot_id"].tolist() == list("abcd")
    assert corridors["spots"].tolist() == [2, 2]
    assert all(corridors.geometry.iloc[row.corridor].contains(row.geometry) for row in spots.itertuples())
    run("export", "testville", "--geo", str(tmp_path / "gis"), "--format", "geojson")
    geojson = json.loads((tmp_path / "gis" / "spots.geojson").read_text())
    assert geojson["features"][0]["properties"]["variables"] == "speed"


def test_what_is_not_there_is_said_in_one_sentence(stored, tmp_path, home):
    runner = CliRunner()
    assert isinstance(runner.invoke(app, ["info", "atlantis"]).exception, NotFound)
    assert isinstance(runner.invoke(app, ["info", str(tmp_path / "none")]).exception, NotFound)
    unknown = runner.invoke(app, ["export", "testville", "--geo", str(tmp_path), "--format", "shapefile"]).exception
    assert isinstance(unknown, UsageError)
    (stored / "values.arrow").write_bytes(b"ARROW1")
    assert isinstance(runner.invoke(app, ["info", "testville"]).exception, PanelError)


def test_help_does_not_load_geometry_or_delta():
    code = "import sys, mtgpt.cli.panel; print(sorted({'geopandas', 'deltalake', 'torch'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
