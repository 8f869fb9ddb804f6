"""What a compiled contract carries."""

from __future__ import annotations

import io

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtgpt.contracts.compile import read_contract
from mtgpt.contracts.registry import contract, contracts
from mtgpt.contracts.variables import variables
from mtgpt.errors import NotFound

UTC_US = pa.timestamp("us", tz="UTC")


def field_facts(schema: pa.Schema) -> dict[str, dict[bytes, bytes]]:
    return {field.name: field.metadata for field in schema}


def test_an_observation_has_the_columns_types_and_key_of_the_design():
    one = contract("observation")
    assert {field.name: field.type for field in one.fields} == {
        "city_id": pa.string(),
        "spot_id": pa.string(),
        "variable": pa.string(),
        "time_start": UTC_US,
        "interval_s": pa.int32(),
        "value": pa.float32(),
        "quality": pa.float64(),
        "suspect": pa.string(),
        "source_id": pa.string(),
        "batch_id": pa.string(),
    }
    assert one.key == ("city_id", "spot_id", "variable", "time_start")
    assert [field.name for field in one.fields if not field.required] == ["quality", "suspect"]
    assert one.field("variable").enum == tuple(variables())


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("spot", ("city_id", "spot_id", "valid_from")),
        ("link", ("city_id", "from_spot", "to_spot", "kind", "valid_from")),
        ("trip", ("city_id", "mode", "trip_key")),
        ("weather", ("city_id", "time_start")),
        ("batch", ("batch_id",)),
        ("quarantine", ()),
    ],
)
def test_rows_are_told_apart_by_the_key_of_the_design(table, key):
    assert contract(table).key == key


def test_the_polars_schema_has_the_same_columns_in_the_same_order():
    for one in contracts().values():
        frame = one.polars_schema.to_frame()
        assert frame.columns == one.arrow_schema.names
        assert [field.polars_type for field in one.fields] == frame.dtypes


def test_units_crs_zone_and_description_survive_parquet_and_arrow_ipc():
    for one in contracts().values():
        schema = one.arrow_schema
        table = schema.empty_table()
        parquet = io.BytesIO()
        pq.write_table(table, parquet)
        parquet.seek(0)
        ipc = io.BytesIO()
        with pa.ipc.new_file(ipc, schema) as writer:
            writer.write_table(table)
        ipc.seek(0)
        for read in (pq.read_table(parquet).schema, pa.ipc.open_file(ipc).read_all().schema):
            assert read.remove_metadata().equals(schema.remove_metadata())
            assert {name: read.metadata[name] for name in schema.metadata} == schema.metadata
            for name, facts in field_facts(schema).items():
                assert facts.items() <= field_facts(read)[name].items()


def test_field_metadata_names_unit_crs_and_time_zone():
    facts = field_facts(contract("spot").arrow_schema)
    assert facts["lon"][b"unit"] == b"deg"
    assert facts["lon"][b"crs"] == b"EPSG:4326"
    assert facts["valid_from"][b"time_zone"] == b"UTC"
    assert all(facts[name][b"description"] for name in facts)
    assert field_facts(contract("weather").arrow_schema)["wind_m_s"][b"unit"] == b"m/s"


def test_schema_metadata_names_contract_version_and_hash():
    one = contract("trip")
    assert one.arrow_schema.metadata[b"contract"] == b"trip"
    assert one.arrow_schema.metadata[b"version"] == one.version.encode()
    assert one.arrow_schema.metadata[b"sha256"] == one.sha256.encode()


def test_a_judged_frame_can_be_written_with_the_arrow_schema():
    one = contract("weather")
    frame = pl.DataFrame({name: [None] for name in one.polars_schema}, schema=one.polars_schema)
    optional = pa.schema([field.with_nullable(True) for field in one.arrow_schema])
    assert frame.to_arrow().cast(optional).num_rows == 1


def test_the_hash_follows_the_meaning_and_not_the_layout(repo, tmp_path):
    text = (repo / "data_contracts" / "link.odcs.yaml").read_text(encoding="utf-8")
    path = tmp_path / "link.odcs.yaml"
    hashes = []
    for variant in (text, f"# a comment\n\n{text}", text.replace("maximum: 1000000", "maximum: 999999")):
        path.write_text(variant, encoding="utf-8")
        hashes.append(read_contract(path, variables()).sha256)
    assert hashes[0] == hashes[1] == contract("link").sha256
    assert hashes[2] != hashes[0]


def test_an_unknown_contract_is_answered_with_those_that_exist():
    with pytest.raises(NotFound, match="got tripp, expected batch, document, event, link"):
        contract("tripp")
