"""A whole transfer experiment over three small made-up cities: cells, resumption, tables, report."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from mtgpt.errors import ModelError
from mtgpt.eval.transfer.cells import ALONE, ALWAYS, NAIVE, OURS, RIDGE, Cell, Results, cells
from mtgpt.eval.transfer.exposure import exposures, require_unseen
from mtgpt.eval.transfer.plan import ZERO, Recipe, freeze
from mtgpt.eval.transfer.report import write_transfer_report
from mtgpt.eval.transfer.table import gather, table, verdicts
from mtgpt.eval.transfer.work import PLAN, Pretraining, do, pretrainings
from mtgpt.panel.store import latest_panel, save_panel
from mtgpt.settings import Settings
from tests.synthetic import small_panel

COMPETITORS = (*NAIVE, RIDGE, OURS, ALONE)
FEW = {"tokens_per_step": 200, "warmup": 1, "checkpoint_every": 50}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    panels = {}
    for seed, city in enumerate(("north", "south", "east")):
        panel = small_panel(days=16, spots=5, seed=seed, interval_s=1800)
        made = replace(panel, meta=replace(panel.meta, city=city, panel_id=f"{seed + 1:064x}"))
        save_panel(made, settings.panels / city)
        panels[city] = latest_panel(settings, city)
    plan = freeze(
        panels, name="Three towns", held_out=[["north"], ["south"]], days=[3], seeds=[0], stride=6
    ).model_copy(
        update={
            "pretrain": Recipe(name="joint", changes={"steps": 6, **FEW}),
            "alone": Recipe(name="single_city", changes={"steps": 6, **FEW}),
            "adapt": Recipe(name="adapt", changes={"steps": 4, **FEW}),
        }
    )
    folder = settings.home / "transfer"
    folder.mkdir()
    (folder / PLAN).write_text(plan.model_dump_json(), "utf-8")
    wanted = cells(plan, competitors=COMPETITORS)
    names = []
    do(folder, wanted, settings=settings, progress=lambda done, _ended, _total: names.append(done.name))
    return settings, plan, folder, wanted, names


def test_models_come_before_the_cells_that_need_them(workspace):
    _, plan, _, wanted, names = workspace
    models = [one.name for one in pretrainings(plan, wanted)]
    assert names[: len(models)] == models == ["without-north-0", "without-south-0"]
    assert sorted(names[len(models) :]) == sorted(cell.name for cell in wanted)


def test_every_cell_is_kept_with_its_cost(workspace):
    _, plan, folder, wanted, _ = workspace
    results = Results(folder=folder)
    for cell in wanted:
        facts, sums = results.facts(cell), results.sums(cell)
        assert facts["plan"] == plan.sha256
        assert facts["series_per_second"] > 0
        assert sums["count"].sum() > 0


def test_what_is_done_is_not_done_again(workspace):
    settings, _, folder, wanted, _ = workspace
    again = []
    do(folder, wanted, settings=settings, progress=lambda done, _ended, _total: again.append(done.name))
    assert again == []


def test_a_lost_cell_comes_back_bit_for_bit(workspace):
    settings, _, folder, wanted, _ = workspace
    results = Results(folder=folder)
    cell = next(c for c in wanted if c.competitor == OURS and c.setting == "3" and c.target == "north")
    before = results.sums(cell)
    (folder / "cells" / f"{cell.name}.json").unlink()
    (folder / "cells" / f"{cell.name}.parquet").unlink()
    do(folder, wanted, settings=settings)
    assert results.sums(cell).equals(before)


def test_the_model_of_a_target_has_not_seen_it(workspace):
    _, plan, folder, _, _ = workspace
    model = folder / "models" / Pretraining(group=("north",), seed=0).name
    assert {one.city for one in exposures(model)} == set(plan.sources(("north",)))
    require_unseen(model, ("north",))
    with pytest.raises(ModelError, match="not zero-shot"):
        require_unseen(model, ("south",))


def test_an_adapted_model_answers_only_where_it_was_better_on_the_last_day(workspace):
    _, _, folder, wanted, _ = workspace
    results = Results(folder=folder)
    adapted = [c for c in wanted if c.competitor == OURS and c.setting == "3"]
    assert adapted
    for cell in adapted:
        guard = results.facts(cell)["guard"]
        assert guard["used"] == (guard["error_after"] < guard["error_before"])
        zero = Cell(target=cell.target, competitor=OURS, setting=ZERO, seed=0)
        same = results.facts(cell)["model_sha256"] == results.facts(zero)["model_sha256"]
        assert same is not guard["used"]


def test_the_table_has_a_row_for_everything_and_says_what_it_cost(workspace):
    _, plan, folder, wanted, _ = workspace
    found = gather(Results(folder=folder), wanted)
    rows = table(found)
    assert rows.height == len(plan.targets) * (len(NAIVE) + 2 + 3 + 2)
    assert rows["mae_low"].is_between(0, rows["mae"] + 1e-9).all()
    assert rows.filter(competitor=OURS)["coverage_80"].is_between(0, 1).all()
    assert rows.filter(setting=ALWAYS)["coverage_80"].is_null().all()
    best = rows.filter(target="north", setting=ALWAYS)["against_best_naive"].min()
    assert best == pytest.approx(0)


def test_claims_count_every_case_and_name_those_that_fail(workspace):
    _, plan, folder, wanted, _ = workspace
    claims = verdicts(gather(Results(folder=folder), wanted))
    assert [one["cases"] for one in claims] == [len(plan.targets)] * 4
    for one in claims:
        assert one["holds"] + len(one["fails_at"]) == one["cases"]
        assert all(np.isfinite([fail["ours"], fail["theirs"]]).all() for fail in one["fails_at"])


def test_the_report_is_one_whole_page_without_scripts(workspace, tmp_path):
    _, plan, folder, wanted, _ = workspace
    results = Results(folder=folder)
    found = gather(results, wanted)
    path = write_transfer_report(
        tmp_path / "report.html", plan=plan, rows=table(found), claims=verdicts(found), results=results, cells=wanted
    )
    text = path.read_text("utf-8")
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.append(tag)
            assert not any(name in ("src", "href") and "//" in (value or "") for name, value in attrs)

    Reader().feed(text)
    assert "script" not in tags
    assert tags.count("svg") >= 2 * len(plan.targets)
    assert plan.sha256 in text


def test_the_table_survives_parquet(workspace, tmp_path):
    _, _, folder, wanted, _ = workspace
    rows = table(gather(Results(folder=folder), wanted))
    rows.write_parquet(tmp_path / "rows.parquet")
    assert pl.read_parquet(tmp_path / "rows.parquet").equals(rows)


def test_facts_are_plain_json(workspace):
    _, _, folder, wanted, _ = workspace
    for cell in wanted:
        json.loads((folder / "cells" / f"{cell.name}.json").read_text("utf-8"))
