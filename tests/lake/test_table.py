"""A Delta table keeps its contract's meaning, and grows with it."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import polars as pl
import pytest
from deltalake import DeltaTable

from mtgpt.errors import LakeError, NotFound
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from tests.lake.feeds import KINDS, observations

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mtgpt.lake.batch import BatchResult
    from tests.lake.conftest import City

QUALITY = """\
      - name: quality
        logicalType: number
        physicalType: float64
"""
LANE = """\
      - name: lane
        logicalType: string
        physicalType: string
        description: Lane of the detector.
"""


@pytest.fixture
def landed(city: City) -> City:
    observations(city.write("a.csv"))
    city.add("detectors", "*.csv")
    city.ingest()
    return city


def test_units_and_zones_of_the_contract_survive_in_the_table(landed: City) -> None:
    contract = landed.lake.contracts["observation"]
    table = DeltaTable(str(landed.lake.table("observation").path))
    for written, meant in zip(table.schema().to_arrow(), contract.arrow_schema, strict=True):
        assert written.name == meant.name
        assert {k.decode(): v.decode() for k, v in written.metadata.items()} == {
            k.decode(): v.decode() for k, v in (meant.metadata or {}).items()
        }
        assert written.nullable == meant.nullable
    assert contract.version in (table.metadata().description or "")


def test_rows_come_back_with_exactly_the_contracts_types(landed: City) -> None:
    for name in landed.lake.contracts:
        assert landed.lake.scan(name).collect_schema() == landed.lake.contracts[name].polars_schema


def test_another_city_reads_other_files(landed: City) -> None:
    paths = DeltaTable(str(landed.lake.table("observation").path)).file_uris()
    assert ["city_id=testville/source_id=detectors" in path for path in paths] == [True]
    assert landed.lake.scan("observation", city_id="elsewhere").collect().is_empty()


def _lake_with(landed: City, repo: Path, folder: Path, old: str, new: str) -> Lake:
    shutil.copytree(repo / "data_contracts", folder)
    file = folder / "observation.odcs.yaml"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")
    return Lake.open(landed.lake.root, contracts_folder=folder)


def test_a_new_optional_column_is_null_in_old_rows_and_old_versions(landed: City, repo: Path, tmp_path: Path) -> None:
    lake = _lake_with(landed, repo, tmp_path / "contracts", QUALITY, LANE + QUALITY)
    assert lake.scan("observation").collect()["lane"].null_count() == 12
    observations(landed.write("b.csv"), first=50)
    text = landed.write("b.csv").read_text("utf-8").splitlines()
    landed.write("b.csv").write_text("\n".join([f"{text[0]},lane", *(f"{line},left" for line in text[1:])]), "utf-8")
    results = ingest_city(landed.manifest(), lake, settings=landed.settings, kinds=KINDS)
    assert [result.status for result in results] == ["replay", "committed"]
    lanes = dict(lake.scan("observation").group_by("lane").len().collect().iter_rows())
    assert lanes == {None: 12, "left": 12}
    assert lake.scan("observation", version=1).collect()["lane"].null_count() == 12


def test_a_contract_that_lost_a_column_does_not_write_into_the_old_table(
    landed: City, repo: Path, tmp_path: Path
) -> None:
    lake = _lake_with(landed, repo, tmp_path / "contracts", "name: quality", "name: trust")
    observations(landed.write("b.csv"), first=50)
    with pytest.raises(LakeError, match="columns are not those of its contract"):
        ingest_city(landed.manifest(), lake, settings=landed.settings, kinds=KINDS)
    assert landed.lake.ledger().height == 1


def test_a_damaged_data_file_is_one_sentence(landed: City) -> None:
    [file] = landed.lake.table("observation").path.rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:200])
    observations(landed.write("b.csv"), steps=2)
    with pytest.raises(LakeError, match=r"^observation: ") as caught:
        landed.ingest()
    assert "\n" not in str(caught.value)


def test_a_table_that_no_contract_names_is_not_found(landed: City) -> None:
    with pytest.raises(NotFound, match="no such table"):
        landed.lake.scan("parking")


def test_two_writers_at_once_land_each_batch_once(city: City) -> None:
    for index in range(6):
        observations(city.write(f"{index}.csv"), first=50 * index)
    city.add("detectors", "*.csv")
    results: list[Sequence[BatchResult]] = []
    writers = [threading.Thread(target=lambda: results.append(city.ingest())) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    statuses = [result.status for one in results for result in one]
    assert (statuses.count("committed"), statuses.count("replay")) == (6, 12)
    assert city.lake.ledger().height == 6
    rows = city.lake.scan("observation").collect()
    assert rows.height == rows.select("spot_id", "time_start").n_unique() == 72


def test_files_are_pruned_by_time_and_city_before_they_are_opened(landed: City) -> None:
    table = landed.lake.table("observation")
    files = table.files(table.open())
    assert files.select(pl.col("partition.city_id"), pl.col("min.time_start") <= pl.col("max.time_start")).row(0) == (
        "testville",
        True,
    )
