"""``mtgpt evaluate``: how good a forecast is on days, and in cities, that nothing was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtgpt.cli.show import console, emit
from mtgpt.cli.transfer import freeze, transfer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mtgpt.eval.score import Evaluation


app = typer.Typer(no_args_is_help=True, help="Score models on days and in cities that they have not seen.")


@app.command("city")
def city_command(
    city: Annotated[str, typer.Argument(help="City with a panel.")],
    model: Annotated[Path | None, typer.Option(help="Model folder; by default the newest for the city.")] = None,
    part: Annotated[
        str, typer.Option(help="test (last 20 % of the windows) or validation (the 20 % before).")
    ] = "test",
    stride: Annotated[int, typer.Option(min=1, help="Score every n-th window; 1 is all of them.")] = 1,
    stid: Annotated[bool, typer.Option(help="Also train a STID-like network on this city, as a yardstick.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole table, every step, as JSON.")] = False,
) -> None:
    """Scores a model beside five baselines on unseen windows: MAE, RMSE, WAPE per variable, coverage of the 80 % band.

    Example: mtgpt evaluate city demo
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mtgpt.eval.score import evaluate
    from mtgpt.model.checkpoint import find_model
    from mtgpt.model.mtgpt import MTGPT
    from mtgpt.panel.store import latest_panel
    from mtgpt.settings import settings

    here = settings()
    panel = latest_panel(here, city)
    folder = model or find_model(here, city)
    net = MTGPT.from_pretrained(folder)
    extra = {}
    if stid:
        from mtgpt.eval.stid import train_stid
        from mtgpt.train.data import split

        bounds = split(panel.n_step, patch=net.config.patch)
        extra["STID-like"] = train_stid(panel, patch=net.config.patch, cuts=bounds.train)
    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TextColumn("windows"), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), disable=as_json) as bar:
        task = bar.add_task("scoring", total=None)
        result = evaluate(
            panel,
            net,
            part=part,
            stride=stride,
            extra=extra,
            progress=lambda windows, total: bar.update(task, completed=windows, total=total),
        )
    emit(
        {"city": city, "model": str(folder), "part": part, "windows": result.windows, "scores": result.frame()},
        as_json=as_json,
        table=lambda: _table(result, city, folder.name),
    )


app.command("freeze")(freeze)
app.command("transfer")(transfer)


def _table(result: Evaluation, city: str, model: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"{city}, {result.part}: {result.windows} windows, average over all steps ({model})",
        caption="mae, rmse in the unit given; cover80: share of truths inside the 80 % band",
        title_justify="left",
        caption_justify="left",
        box=None,
    )
    for name in ("", "mae", "rmse", "wape", "cover80"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=not name)
    frame = result.frame().filter(horizon_step=0)
    for (level, variable, unit), rows in frame.group_by("level", "variable", "unit", maintain_order=True):
        table.add_row(Text(f"{level} {variable}, {unit}", "bold"))
        best = rows["mae"].min()
        for row in rows.iter_rows(named=True):
            cells = [_number(row[n], 3) for n in ("mae", "rmse")] + [_percent(row[n]) for n in ("wape", "coverage80")]
            table.add_row(Text(f"  {row['model']}"), *cells, style="green" if row["mae"] == best else None)
    return table


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
