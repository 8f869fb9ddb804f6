"""The whole road on the demo city, with a model that is hardly trained: feeds over HTTP, lake, panel, report, forecast."""

from pathlib import Path

import polars as pl
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def road(prefect_api, tmp_path_factory):
    """Workspace and report of one run of the demo."""
    place = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTGPT_HOME", str(place / "home"))
        from flows.demo import demo
        from flows.forecast import forecast

        report = demo(str(place / "report"), {"steps": 10})
        return place / "home", Path(report), Path(forecast("demo", horizon=18))


def test_every_row_of_the_departments_is_accounted_for(road):
    from mtgpt.lake.lake import Lake

    ledger = Lake.open(road[0] / "lake").ledger("demo")
    assert ledger.height > 5
    assert ledger["status"].unique().to_list() == ["committed"]
    assert ledger.filter(
        pl.col("rows_in") != pl.sum_horizontal("rows_good", "rows_quarantined", "rows_duplicate")
    ).is_empty()
    assert ledger["rows_quarantined"].sum() > 0, "the departments' feeds carry faults, as real ones do"


def test_the_report_says_that_the_city_is_simulated_and_needs_nothing_from_elsewhere(road):
    page = road[1].read_text("utf-8")
    assert "imulated city" in page
    assert "<script" not in page
    assert 'src="http' not in page
    assert 'href="http' not in page
    for picture in ("forecast.png", "map.png"):
        assert (road[1].parent / picture).read_bytes().startswith(b"\x89PNG")


def test_live_feeds_are_followed_to_their_last_snapshot_and_told_of_in_the_report(road):
    from mtgpt.lake.lake import Lake

    batches = Lake.open(road[0] / "lake").ledger("demo").group_by("source_id").len()
    assert dict(batches.filter(pl.col("source_id").is_in(["docks", "transit_live"])).iter_rows()) == {
        "docks": 26,
        "transit_live": 26,
    }
    page = road[1].read_text("utf-8")
    assert "Public transport, alerts and docks" in page
    assert "M1: signal failure at University" in page
    assert "Football on" not in page, "the match is on the day after the forecasts"


def test_a_forecast_flow_leaves_ranges_with_their_provenance_and_a_picture(road):
    import pyarrow.parquet as pq

    frame = pl.read_parquet(road[2])
    assert frame["step"].max() == 18
    assert set(frame["level"]) == {"spot", "corridor", "network"}
    assert b"table_versions" in pq.read_schema(road[2]).metadata[b"mtgpt"]
    assert road[2].with_suffix(".png").exists()
