"""The rules that the ledger's README lists, against those that contracts and adapters can give."""

from __future__ import annotations

import ast
import re

import pytest

from mtgpt.contracts.compile import WRITTEN
from mtgpt.contracts.registry import contracts
from mtgpt.lake.plausible.look import FROZEN, SCALE, SWAPPED

ROW = re.compile(r"^\| `([^`]+)` \| .+ \| .+ \|$", re.MULTILINE)
WORDS = re.compile(r"[a-z]+(_[a-z]+)+")
# Constants of adapters that are written like rules and are none: names of files, columns and roles.
NO_RULES = {"rain_mm", "station_status", "station_information"}


@pytest.fixture(scope="module")
def readme(repo):
    return (repo / "mtgpt" / "lake" / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def listed(readme):
    text = readme.split("<!-- rules: begin -->")[1].split("<!-- rules: end -->")[0]
    return ROW.findall(text)


def rules(scope):
    return [rule for one in contracts().values() for rule in one.rules if rule.scope == scope]


def faults(repo):
    """Public text constants of adapters that read like the id of a rule."""
    found = set()
    for path in (repo / "mtgpt" / "ingest").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and node.targets[0].id.isupper()
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
                and WORDS.fullmatch(node.value.value)
            ):
                found.add(node.value.value)
    return found - NO_RULES


def test_every_rule_of_a_row_is_listed_once_and_no_other(repo, listed):
    written = {rule.id for rule in rules("row") if rule.check in WRITTEN}
    implied = {f"<column>.{rule.check}" for rule in rules("row") if rule.check not in WRITTEN}
    assert sorted(listed) == sorted(written | implied | faults(repo))


def test_every_rule_of_a_batch_is_listed(repo, readme):
    text = readme.split("## Rules on a whole batch")[1].split("## Rules on a row")[0]
    # What the lake itself holds a batch for begins with the rule's name, as in f"scale_jump: {number} of …".
    lake = "".join(path.read_text(encoding="utf-8") for path in (repo / "mtgpt" / "lake").rglob("*.py"))
    own = set(re.findall(r'f"([a-z]+_[a-z]+): \{', lake))
    assert "scale_jump" in own
    assert set(ROW.findall(text)) == {rule.id for rule in rules("batch")} | own


def test_every_status_of_the_ledger_is_listed(readme):
    text = readme.split("## The statuses")[1].split("##")[0]
    (column,) = (field for field in contracts()["batch"].fields if field.name == "status")
    assert re.findall(r"^\| ([a-z]+) \|", text, re.MULTILINE)[1:] == list(column.enum)


def test_every_way_to_look_wrong_is_listed(readme):
    text = readme.split("## Values that keep every rule")[1]
    (column,) = (field for field in contracts()["observation"].fields if field.name == "suspect")
    assert ROW.findall(text) == [SCALE, FROZEN, SWAPPED] == list(column.enum)
