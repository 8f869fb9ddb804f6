"""``mtgpt evaluate freeze`` and ``transfer``: how well what was learned in some cities serves another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtgpt.cli.show import console, emit
from mtgpt.settings import settings

if TYPE_CHECKING:
    import polars as pl
    from rich.console import RenderableType

    from mtgpt.eval.transfer.plan import Plan
    from mtgpt.settings import Settings


def freeze(
    cities: Annotated[list[str], typer.Argument(help="Cities with a panel, in the order of the table.")],
    out: Annotated[Path, typer.Option(help="Where the plan goes.")] = Path("transfer-plan.json"),
    name: Annotated[str, typer.Option(help="Title of the table.")] = "Transfer between cities",
    together: Annotated[
        list[str] | None,
        typer.Option(metavar="CITY,CITY", help="Hold these out together, as parts of one place; may be given again."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="How many seeds.")] = 3,
    stride: Annotated[int, typer.Option(min=1, help="Score every n-th test window.")] = 3,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the pre-training; the recipe's own if absent.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Freezes what a transfer table will compare: cities, hashes of their panels, who is held out, seeds, recipes.

    Commit the file beside the numbers: whoever runs it on other data is refused.

    Example: mtgpt evaluate freeze pems07m los_loop beijing_metro --together pems07m,los_loop
    """
    from mtgpt.errors import UsageError
    from mtgpt.eval.transfer.plan import freeze as make
    from mtgpt.panel.store import latest_panel

    here = settings()
    panels = {city: latest_panel(here, city) for city in cities}
    groups = [one.split(",") for one in together or []]
    unknown = sorted({city for group in groups for city in group} - set(cities))
    if unknown:
        raise UsageError("not among the cities", where="--together", got=", ".join(unknown), expected=", ".join(cities))
    placed = {city for group in groups for city in group}
    held_out = [*groups, *([city] for city in cities if city not in placed)]
    changes: dict[str, Any] = {"seeds": list(range(seeds)), "stride": stride}
    if steps is not None:
        changes["pretrain"] = {"name": "joint", "changes": {"steps": steps}}
    plan = make(panels, name=name, held_out=held_out, **changes)
    aside = out.with_suffix(".part")
    aside.write_text(plan.model_dump_json(indent=1) + "\n", "utf-8")
    aside.replace(out)
    emit(
        {"plan": str(out), "sha256": plan.sha256, **plan.model_dump(mode="json")},
        as_json=as_json,
        table=lambda: _plan_text(plan, out),
    )


def transfer(
    plan: Annotated[Path, typer.Argument(help="A plan from `mtgpt evaluate freeze`.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the results; by default under the workspace.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="Only this target; may be given again.")] = None,
    competitor: Annotated[list[str] | None, typer.Option(help="Only this competitor; may be given again.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Cells side by side, a process each.")] = 1,
    only_report: Annotated[
        bool, typer.Option("--only-report", help="Make the tables of what is done already.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print verdicts and table as JSON; no progress.")] = False,
) -> None:
    """Leave-one-city-out: zero-shot, few-shot, full and target-only, beside naive forecasts, ridge and networks.

    Models are trained without the target's whole group; a model that has seen the target is refused. Stop it whenever
    you like: what is done stays done. Ends in results.parquet and report.html.

    Example: mtgpt evaluate transfer transfer-plan.json --workers 2
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from mtgpt.eval.transfer.cells import Results, cells
    from mtgpt.eval.transfer.plan import load_plan
    from mtgpt.eval.transfer.report import write_transfer_report
    from mtgpt.eval.transfer.table import gather, table, verdicts
    from mtgpt.eval.transfer.work import Done, do

    here = settings()
    frozen = load_plan(plan)
    folder = out or here.home / "transfer" / frozen.sha256[:12]
    wanted = cells(frozen, targets=target, competitors=competitor)
    if not only_report:
        _begin(frozen, folder, here)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console(stderr=True), disable=as_json) as bar:
            task = bar.add_task("training and scoring", total=None)

            def said(done: Done, ended: int, total: int) -> None:
                note = "" if done.problem is None else f": {done.problem}"
                bar.update(task, completed=ended, total=total, description=f"{done.name} {done.seconds:.0f} s{note}")

            do(folder, wanted, settings=here, workers=workers, progress=said)
    results = Results(folder=folder)
    everything = cells(frozen)
    found = gather(results, everything)
    rows, claims = table(found), verdicts(found)
    if rows.height:
        rows.write_parquet(folder / "results.parquet")
    report = write_transfer_report(
        folder / "report.html", plan=frozen, rows=rows, claims=claims, results=results, cells=everything
    )
    emit(
        {"plan": frozen.sha256, "report": str(report), "claims": claims, "table": rows},
        as_json=as_json,
        table=lambda: _claims_table(claims, report, rows),
    )


def _begin(plan: Plan, folder: Path, here: Settings) -> None:
    from mtgpt.errors import NotFound
    from mtgpt.eval.transfer.work import PLAN
    from mtgpt.panel.store import latest_panel

    panels = {}
    for city in plan.cities:
        try:
            panels[city] = latest_panel(here, city)
        except NotFound:
            continue  # the plan says below which ones are missing
    plan.check(panels)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN).write_text(plan.model_dump_json(indent=1) + "\n", "utf-8")


def _plan_text(plan: Plan, out: Path) -> RenderableType:
    from rich.table import Table

    shown = Table(title=f"{plan.name}: {out} ({plan.sha256[:12]})", title_justify="left", box=None)
    shown.add_column("target")
    shown.add_column("trained on")
    for group in plan.held_out:
        shown.add_row(" + ".join(group), ", ".join(plan.sources(group)))
    return shown


def _claims_table(claims: list[dict[str, Any]], report: Path, rows: pl.DataFrame) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    shown = Table(
        title=f"{rows.height} rows", title_justify="left", box=None, caption=str(report), caption_justify="left"
    )
    for name in ("claim", "holds in", "mean gain"):
        shown.add_column(name, justify="left" if name == "claim" else "right")
    for one in claims:
        gain = "" if one["mean_gain"] is None else f"{100 * one['mean_gain']:+.1f} %"
        shown.add_row(one["claim"], f"{one['holds']} of {one['cases']}", gain)
    return Group(shown)
