"""Contracts of a folder."""

from __future__ import annotations

import shutil

import pytest

from mtgpt.contracts.registry import contract, contracts
from mtgpt.errors import ContractError


@pytest.fixture
def folder(repo, tmp_path):
    return shutil.copytree(repo / "data_contracts", tmp_path / "contracts")


def test_an_edited_contract_is_read_anew_in_the_same_process(folder):
    path = folder / "weather.odcs.yaml"
    before = contract("weather", folder)
    path.write_text(path.read_text(encoding="utf-8").replace("maximum: 60\n", "maximum: 65\n"), encoding="utf-8")
    after = contract("weather", folder)
    assert (before.field("temperature_c").maximum, after.field("temperature_c").maximum) == (60, 65)


def test_the_folder_can_be_set_in_the_environment(folder, monkeypatch):
    (folder / "trip.odcs.yaml").unlink()
    monkeypatch.setenv("MTGPT_CONTRACTS", str(folder))
    assert "trip" not in contracts()


def test_a_missing_folder_is_refused_with_the_next_step(tmp_path):
    with pytest.raises(ContractError, match=r"nowhere: The contracts cannot be read .* Set MTGPT_CONTRACTS"):
        contracts(tmp_path / "nowhere")


def test_a_folder_without_contracts_is_refused(folder):
    for path in folder.glob("*.odcs.yaml"):
        path.unlink()
    with pytest.raises(ContractError, match="The folder has no contracts"):
        contracts(folder)


def test_a_file_must_be_named_after_its_table(folder):
    (folder / "trip.odcs.yaml").rename(folder / "journey.odcs.yaml")
    with pytest.raises(ContractError, match=r"named after its table .*expected trip\.odcs\.yaml"):
        contracts(folder)


def test_changing_the_dictionary_given_back_changes_nothing(folder):
    contracts(folder).clear()
    assert len(contracts(folder)) == 15
