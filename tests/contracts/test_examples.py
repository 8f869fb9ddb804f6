"""The example rows beside each contract."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
import pytest

from mtgpt.contracts.compile import WRITTEN
from mtgpt.contracts.datafile import read_chunks
from mtgpt.contracts.registry import contract, contracts
from mtgpt.contracts.verdict import judge

if TYPE_CHECKING:
    from pathlib import Path

TABLES = [
    "batch", "document", "event", "link", "observation", "quarantine", "road", "route", "service", "service_day", "spot",
    "stop_visit", "trip", "vehicle", "weather",
]  # fmt: skip
RECEIVED_AT = datetime(2026, 1, 5, 12, tzinfo=UTC)


def bad_examples(repo: Path, table: str) -> list[dict]:
    lines = (repo / "data_contracts" / "examples" / f"{table}.bad.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_every_table_of_the_design_has_a_contract():
    assert list(contracts()) == TABLES


@pytest.mark.parametrize("table", TABLES)
def test_good_examples_are_good(repo, table):
    path = repo / "data_contracts" / "examples" / f"{table}.good.jsonl"
    (frame,) = read_chunks(path)
    verdict = judge(frame, contract(table), received_at=RECEIVED_AT.replace(month=2))
    assert verdict.bad.to_dicts() == []
    assert verdict.good.height == len(path.read_text(encoding="utf-8").splitlines()) >= 2


@pytest.mark.parametrize("table", TABLES)
def test_bad_examples_break_the_rule_they_name(repo, tmp_path, table):
    examples = bad_examples(repo, table)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one["row"]) + "\n" for one in examples), encoding="utf-8")
    (frame,) = read_chunks(path)
    verdict = judge(frame, contract(table), received_at=RECEIVED_AT)
    assert verdict.bad["rule_id"].to_list() == [one["rule_id"] for one in examples]
    assert verdict.bad["row"].to_list() == list(range(len(examples)))
    assert verdict.good.height == 0


@pytest.mark.parametrize("table", TABLES)
def test_bad_examples_say_what_was_got_and_expected_and_keep_the_row(repo, table):
    for one in bad_examples(repo, table):
        frame = pl.DataFrame({name: [value] for name, value in one["row"].items()})
        (bad,) = judge(frame, contract(table), received_at=RECEIVED_AT).bad.to_dicts()
        assert ": got " in bad["message"]
        assert "expected " in bad["message"]
        assert set(json.loads(bad["raw"])) == set(one["row"])


@pytest.mark.parametrize("table", TABLES)
def test_every_written_row_rule_has_a_bad_example(repo, table):
    written = {rule.id for rule in contract(table).rules if rule.scope == "row" and rule.check in WRITTEN}
    assert written <= {one["rule_id"] for one in bad_examples(repo, table)}


def test_every_kind_of_row_check_has_a_bad_example(repo):
    shown = {contract(table).rule(one["rule_id"]).check for table in TABLES for one in bad_examples(repo, table)}
    used = {rule.check for table in TABLES for rule in contract(table).rules if rule.scope == "row"}
    assert shown == used
