"""Errors in contract files name file, line, key, what was got, what was expected."""

from __future__ import annotations

import re

import pytest

from mtgpt.contracts.compile import read_contract
from mtgpt.contracts.variables import read_vocabulary, variables
from mtgpt.errors import ContractError


def edited(repo, tmp_path, old: str, new: str, name: str = "spot.odcs.yaml"):
    text = (repo / "data_contracts" / name).read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / name
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    changed = text[: text.index(old)].count("\n") + 1
    return path, changed


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("version: 1.1.0", "version: '1.0'", r"version: The value is not allowed \(got 1\.0, expected text like"),
        ("status: active", "stauts: active", r"status: A key is missing"),
        ("apiVersion: v3.1.0", "apiVersion: v2.2.2", r"apiVersion: .*got v2\.2\.2, expected 'v3\.1\.0'"),
        ("physicalType: float64", "physicalType: int32", r"physicalType: .*got int32, expected float32 or float64"),
        ("minimum: -180", "minimum: west", r"minimum: A bound must be a number \(got west"),
        ("minimum: -180", "minimun: -180", r"minimun: There is no such key \(got minimun"),
        ("'^[a-z0-9_]+$'", "'[a-z'", r"pattern: The pattern is no regular expression \(got \[a-z"),
        ("metric: invalidValues", "metric: nullValues", r"metric: The value is not allowed \(got nullValues"),
        ("mustBe: 0", "mustBe: 1", r"quality\[0\]: A column's rule must be the closed list"),
        ("value: deg", "value: [deg]", r"A unit, CRS or time zone must be text"),
        ("value: UTC", "value: Europe/Berlin", r"The lake keeps UTC only \(got Europe/Berlin"),
        ('"1970-01-01T00:00:00Z"', '"1970-01-01"', r"minimum: The bound does not fit .*a time with zone"),
        ("check: place", "check: eval", r"The rule is not one that the lake knows \(got eval"),
        ("fields: [lon, lat]", "fields: [lon, latitude]", r"The rule's columns are off \(got lon, latitude"),
        ("limit: 0.05", "limit: many", r"The rule needs a limit \(got many"),
        ("severity: hold", "severity: quarantine", r"The rule is not complete .*severity hold"),
        ("primaryKeyPosition: 2", "primaryKeyPosition: 3", r"properties: The key is not numbered \(got \[1, 3, 3\]"),
        ("name: capacity", "name: lat", r"name: A column stands twice \(got lat"),
        ("name: valid_to.order", "name: place", r"quality: A rule's name stands twice \(got place"),
        (
            "  - name: spot\n",
            "  - name: spots\n",
            r"name: Contract and table differ in name \(got spots, expected spot",
        ),
        (
            "kind: DataContract",
            "kind: DataContract\nkind: DataContract",
            r"kind: A key stands twice \(got also in line",
        ),
        ("domain: urban-transport", "domain: &d x\ntenant: *d", r"YAML aliases are not allowed"),
        ("domain: urban-transport", "domain: [", r"The file is not valid YAML"),
        ("domain: urban-transport", "domain: !!python/name:os.system x", r"The file is not valid YAML"),
    ],
)
def test_a_fault_in_a_contract_is_one_sentence_with_file_line_and_key(repo, tmp_path, old, new, says):
    path, _ = edited(repo, tmp_path, old, new)
    with pytest.raises(ContractError, match=says) as caught:
        read_contract(path, variables())
    assert re.match(rf"{re.escape(str(path))}:\d+: ?", caught.value.where + ": ")


def test_the_line_is_that_of_the_key_at_fault(repo, tmp_path):
    path, line = edited(repo, tmp_path, "minimum: -180", "minimum: west")
    with pytest.raises(ContractError, match=rf"spot\.odcs\.yaml:{line}: schema\[0\]\.properties\[5\]"):
        read_contract(path, variables())


def test_further_faults_are_counted(repo, tmp_path):
    path, _ = edited(repo, tmp_path, "status: active", "stauts: active")
    with pytest.raises(ContractError, match="There are 1 more faults in this file"):
        read_contract(path, variables())


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "spot.odcs.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ContractError, match="not UTF-8"):
        read_contract(path, {})


def test_an_empty_or_missing_file_is_refused(tmp_path):
    path = tmp_path / "spot.odcs.yaml"
    with pytest.raises(ContractError, match="cannot be read"):
        read_contract(path, {})
    path.touch()
    with pytest.raises(ContractError, match=r"spot\.odcs\.yaml:1"):
        read_contract(path, {})


def test_a_deeply_nested_file_is_refused(tmp_path):
    path = tmp_path / "spot.odcs.yaml"
    path.write_text("[" * 20_000, encoding="utf-8")
    with pytest.raises(ContractError, match=r"spot\.odcs\.yaml:1: The file is nested too deeply"):
        read_contract(path, {})


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("maximum: 250", "maximum: fast", r"variables\.speed\.maximum: .*got fast"),
        ("maximum: 250", "maximum: -1", "minimum must be below maximum"),
        ("aggregate: mean", "aggregate: median", r"aggregate: .*got median, expected 'sum' or 'mean'"),
        ("  speed:", "  Speed:", r"got Speed"),
        ("unit: km/h", "units: km/h", r"variables\.speed"),
    ],
)
def test_a_fault_in_the_vocabulary_names_line_and_key(repo, tmp_path, old, new, says):
    path, _ = edited(repo, tmp_path, old, new, "variables.yaml")
    with pytest.raises(ContractError, match=says):
        read_vocabulary(path)
