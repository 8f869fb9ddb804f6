"""Several cities land the same, one after the other or each in a process of its own."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from mtgpt.errors import LakeError, UsageError
from mtgpt.ingest.manifest import load_manifest
from mtgpt.lake.cities import ingest_cities
from mtgpt.lake.lake import Lake
from mtgpt.settings import Settings
from tests.cli.feeds import matrix

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from mtgpt.ingest.manifest import CityManifest

MANIFEST = """\
city: {name}
name: {name}
time_zone: Europe/Oslo
sources:
  - {{id: speeds, kind: matrix, path: "{name}_speed_*.csv", options: {options}}}
  - {{id: held, kind: matrix, path: "{name}_held.csv", options: {options}}}
  - {{id: torn, kind: matrix, path: "{name}_torn.csv", options: {options}}}
"""
OPTIONS = "{variable: speed, mode: road, kind: detector, interval_s: 300, time: time}"
STANDS = ("batch_id", "city_id", "source_id", "kind", "status", "rows_in", "rows_good", "rows_quarantined",
          "rows_duplicate", "reason", "contracts")  # fmt: skip


@pytest.fixture
def manifests(tmp_path: Path) -> list[CityManifest]:
    """Three cities, each with files that land, one that is held and one that cannot be read."""
    made = []
    for name in ("east", "north", "west"):
        for number in range(3):
            matrix(tmp_path / f"{name}_speed_{number}.csv", steps=60 + number, value=40.0 + number)
        matrix(tmp_path / f"{name}_held.csv", bad=30)
        (tmp_path / f"{name}_torn.csv").write_bytes(b"time,a\n2024-03-04T00:00:00,1\n\xff\xfe")
        (tmp_path / f"{name}.yaml").write_text(MANIFEST.format(name=name, options=OPTIONS), "utf-8")
        made.append(load_manifest(tmp_path / f"{name}.yaml", settings=Settings()))
    return made


def ledger(settings: Settings) -> pl.DataFrame:
    return Lake.open(settings.lake).ledger().select(STANDS).sort("batch_id")


def settings_for(folder: Path, name: str) -> Settings:
    return Settings(home=folder / name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, about its next release
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'mtgpt[ray]'")
def test_ray_writes_the_ledger_that_one_process_writes(manifests: list[CityManifest], tmp_path: Path) -> None:
    serial, on_ray = settings_for(tmp_path, "serial"), settings_for(tmp_path, "ray")
    said: list[str] = []
    one = ingest_cities(manifests, settings=serial)
    other = ingest_cities(manifests, settings=on_ray, engine="ray", progress=said.append)
    assert ledger(serial).equals(ledger(on_ray))
    assert ledger(serial).height == 12
    assert [x.city for x in other] == ["east", "north", "west"]
    for here, there in zip(one, other, strict=True):
        assert sorted(b.batch_id for b in here.batches) == sorted(b.batch_id for b in there.batches)
        assert here.failed == there.failed
        assert [x["source_id"] for x in there.failed] == ["torn"]
    rows = [Lake.open(x.lake).scan("observation").drop("batch_id").collect() for x in (serial, on_ray)]
    key = ["city_id", "spot_id", "variable", "time_start"]
    assert rows[0].sort(key).equals(rows[1].sort(key))
    assert Lake.open(on_ray.lake).bronze.verify() == []
    assert list(Lake.open(on_ray.lake).staging.glob("run-*")) == []
    assert any(text.startswith("west: ") and "rows" in text for text in said), "each city's progress is heard"


def test_without_ray_the_sentence_says_what_to_install(
    manifests: list[CityManifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "ray" else found(name, *a))
    with pytest.raises(UsageError, match=r"pip install 'mtgpt\[ray\]'"):
        ingest_cities(manifests, settings=settings_for(tmp_path, "none"), engine="ray")
    assert not (tmp_path / "none").exists()


def test_a_city_whose_lake_cannot_be_written_is_said_whatever_the_others_did(
    manifests: list[CityManifest], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeError, match="file"):
        ingest_cities(manifests, settings=settings_for(tmp_path, "file"))
