"""The ingest flow on a city of two detectors, with Prefect's real engine."""

import importlib.util
from pathlib import Path

import pytest

from mtgpt.errors import FeedError, ManifestError, UsageError

pytestmark = pytest.mark.slow

MANIFEST = """
city: {city}
name: Two detectors
time_zone: Europe/Oslo
sources:
{sources}
"""
SOURCE = """  - id: {id}
    kind: matrix
    path: {id}.csv
    options: {{variable: {variable}, mode: road, kind: detector, interval_s: 300, time: time}}
"""


@pytest.fixture
def flows(prefect_api, home):
    """The flows, imported when Prefect knows where it lives."""
    from flows import ingest

    return ingest


@pytest.fixture
def city(tmp_path):
    def write(name, **feeds):
        for source, value in feeds.items():
            rows = [f"2024-03-01T{step // 12:02}:{step % 12 * 5:02}:00,{value},{value + 1}" for step in range(120)]
            (tmp_path / f"{source}.csv").write_text("\n".join(["time,a,b", *rows]) + "\n", "utf-8")
        sources = "".join(SOURCE.format(id=source, variable=source) for source in feeds)
        manifest = tmp_path / f"{name}.yaml"
        manifest.write_text(MANIFEST.format(city=name, sources=sources), "utf-8")
        return str(manifest)

    return write


def _artifact(api, key):
    import httpx

    return httpx.get(f"{api}/artifacts/{key}/latest", timeout=30).raise_for_status().json()


def test_a_city_is_ingested_once_and_its_ledger_is_a_table_in_the_run(flows, city, home, prefect_api):
    from mtgpt.lake.lake import Lake

    manifest = city("two_detectors", speed=60, flow=400)
    batches = flows.ingest(manifest)
    assert len(batches) == 2
    lake = Lake.open(home / "lake")
    assert lake.scan("observation").collect().height == 480
    table = _artifact(prefect_api, "ledger-two-detectors")
    assert table["type"] == "table"
    assert "rows_quarantined" in table["data"]

    version = lake.version("observation")
    assert flows.ingest(manifest) == batches
    assert lake.version("observation") == version


def test_a_held_batch_keeps_no_other_source_from_landing_and_fails_the_run(flows, city, home):
    from mtgpt.lake.lake import Lake

    manifest = city("one_wrong", speed=900, flow=400)  # km/h
    with pytest.raises(FeedError, match="held"):
        flows.ingest(manifest)
    assert Lake.open(home / "lake").scan("observation").collect()["variable"].unique().to_list() == ["flow"]


def test_a_torn_feed_is_not_tried_again_and_its_error_is_the_runs(flows, city, tmp_path, home):
    from mtgpt.lake.lake import Lake

    manifest = city("torn", speed=60, flow=400)
    (tmp_path / "speed.csv").write_text("time,a,b\n2024-03-01T00:00:00,1\n2024-", "utf-8")
    with pytest.raises(FeedError, match=r"speed\.csv"):
        flows.ingest(manifest)
    assert Lake.open(home / "lake").scan("observation").collect()["variable"].unique().to_list() == ["flow"]


def test_a_manifest_with_an_unknown_key_stops_before_anything_is_pulled(flows, city, tmp_path, home):
    manifest = city("odd", speed=60)
    with Path(manifest).open("a", encoding="utf-8") as file:
        file.write("colour: green\n")
    with pytest.raises(ManifestError, match="colour"):
        flows.ingest(manifest)
    assert not (home / "lake").exists()


def test_the_live_flow_asks_each_source_once_and_fails_where_one_does(prefect_api, city, home, tmp_path):
    from flows.live import live
    from mtgpt.lake.lake import Lake

    manifest = city("live", speed=60, flow=400)
    text = (
        Path(manifest)
        .read_text("utf-8")
        .replace("path: speed.csv", "path: 'spe*.csv'")
        .replace("path: flow.csv", "path: 'flo*.csv'")
    )
    Path(manifest).write_text(text, "utf-8")
    live(manifest)
    assert Lake.open(home / "lake").scan("observation").collect().height == 480
    (tmp_path / "speed_2.csv").write_text("time,a,b\n2024-03-02T00:00:00,1\n2024-", "utf-8")
    with pytest.raises(FeedError, match="speed"):
        live(manifest)


def test_cities_are_tasks_of_one_flow(prefect_api, city, home):
    from flows.cities import cities
    from mtgpt.lake.lake import Lake

    batches = cities([city("east", speed=60), city("west", flow=400)])
    ledger = Lake.open(home / "lake").ledger()
    assert sorted(batches) == sorted(ledger["batch_id"])
    assert sorted(ledger["city_id"]) == ["east", "west"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(
    importlib.util.find_spec("prefect_ray") is None, reason="prefect-ray is not installed: pip install 'mtgpt[ray]'"
)
def test_cities_are_ray_tasks_where_they_are_asked_to_be(prefect_api, city, home):
    from flows.cities import on_ray
    from mtgpt.lake.lake import Lake

    batches = on_ray()([city("east", speed=60), city("west", flow=400)])
    assert sorted(batches) == sorted(Lake.open(home / "lake").ledger()["batch_id"])


def test_without_prefect_ray_the_sentence_says_what_to_install(prefect_api, monkeypatch):
    from flows import cities

    monkeypatch.setattr(cities.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'mtgpt\[ray\]'"):
        cities.on_ray()
