"""The frozen plan of a transfer experiment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mtgpt.errors import NotFound, UsageError
from mtgpt.eval.transfer.cells import ALWAYS, COMPETITORS, Cell, Results, cells
from mtgpt.eval.transfer.plan import Plan, freeze, load_plan
from tests.synthetic import small_panel


@pytest.fixture(scope="module")
def panels():
    made = {}
    for seed, city in enumerate(("north", "south", "east")):
        panel = small_panel(seed=seed)
        made[city] = replace(panel, meta=replace(panel.meta, city=city, panel_id=f"{seed:064x}"))
    return made


@pytest.fixture(scope="module")
def plan(panels) -> Plan:
    return freeze(panels, name="three towns", held_out=[["north"], ["south", "east"]], days=[1, 3], seeds=[0, 1])


def test_a_plan_names_every_panel_and_accepts_them_again(plan, panels):
    assert plan.cities == {city: panel.meta.panel_id for city, panel in panels.items()}
    plan.check(panels)


def test_a_plan_refuses_a_panel_of_other_data(plan, panels):
    changed = replace(panels["south"], meta=replace(panels["south"].meta, panel_id="f" * 64))
    with pytest.raises(UsageError, match=r"not those of the plan.*south ffffffffffff"):
        plan.check({**panels, "south": changed})


def test_a_plan_says_which_city_is_missing(plan, panels):
    with pytest.raises(NotFound, match="east"):
        plan.check({city: panel for city, panel in panels.items() if city != "east"})


def test_a_group_is_trained_without_any_of_its_cities(plan):
    assert plan.group("east") == ("south", "east")
    assert plan.sources(plan.group("east")) == ("north",)


def test_a_plan_survives_its_file_and_keeps_its_hash(plan, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(plan.model_dump_json(indent=1), "utf-8")
    again = load_plan(path)
    assert again == plan
    assert again.sha256 == plan.sha256


def test_another_seed_is_another_plan(plan):
    assert plan.model_copy(update={"seeds": (0, 2)}).sha256 != plan.sha256


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ([["north"], ["west"]], "not among the cities: west"),
        ([["north"], ["north", "south"]], "held out in two groups"),
        ([["north", "south", "east"]], "leaves no city"),
    ],
)
def test_groups_that_make_no_sense_are_refused(panels, groups, said):
    with pytest.raises(UsageError, match=said):
        freeze(panels, name="x", held_out=groups)


def test_a_plan_with_an_unknown_key_is_refused(plan, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(plan.model_dump_json()[:-1] + ',"sneak":1}', "utf-8")
    with pytest.raises(UsageError, match="sneak"):
        load_plan(path)


def test_cells_hold_every_setting_and_seed_once(plan):
    made = cells(plan)
    assert len(set(made)) == len(made)
    ours = [c for c in made if c.competitor == "MT-GPT" and c.target == "north"]
    assert [(c.setting, c.seed) for c in ours] == [(s, k) for s in ("zero", "1", "3", "full") for k in (0, 1)]
    assert [c.setting for c in made if c.competitor == "last value"] == [ALWAYS] * 3
    assert {c.competitor for c in made} == set(COMPETITORS)


def test_cells_have_file_names_of_their_own(plan):
    names = [cell.name for cell in cells(plan)]
    assert len(set(names)) == len(names)
    assert all("/" not in name and " " not in name and "," not in name for name in names)


def test_an_unknown_competitor_is_refused(plan):
    with pytest.raises(UsageError, match="competitor"):
        cells(plan, competitors=["crystal ball"])


def test_a_cell_counts_as_done_only_when_its_facts_are_there(tmp_path):
    results, cell = Results(folder=tmp_path), Cell(target="north", competitor="ridge", setting="full", seed=0)
    assert not results.has(cell)
    results.put(cell, None, {"reason": "no weights"})
    assert results.has(cell)
    assert results.sums(cell) is None
    assert results.facts(cell)["reason"] == "no weights"
