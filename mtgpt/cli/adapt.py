"""``mtgpt adapt``: a pretrained model and a few days of a city in, a small adapter out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mtgpt.cli.show import console, emit


def command(
    city: Annotated[str, typer.Argument(help="City with a panel (see `mtgpt panel build`).")],
    days: Annotated[
        int, typer.Option(min=1, max=60, help="Whole service days to adapt to, the last ones there are.")
    ] = 3,
    model: Annotated[
        Path | None, typer.Option(help="Pretrained model; by default the newest that was trained on several cities.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the adapter, a folder under the models.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe, e.g. steps=400."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or npu; the best there is by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON; no progress bar.")] = False,
) -> None:
    """Adapts a pretrained model to a city of which a few days are known: a minute or two on two CPU cores.

    The last of the days decides: where the adapted model is not better there than the model as it is, that one goes on
    answering, and the result says so. `mtgpt forecast CITY` then uses the adapter by itself.

    Example: mtgpt adapt los_loop --days 3
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mtgpt.cli.train import changes
    from mtgpt.model.checkpoint import find_base
    from mtgpt.panel.store import latest_panel
    from mtgpt.settings import settings
    from mtgpt.train.adapt import adapt
    from mtgpt.train.cities import run_name
    from mtgpt.train.recipes import recipe

    here = settings()
    config = recipe("adapt", **changes(set_ or []))
    folder = here.models / run_name(name or f"{city}-{days}-days")
    panel = latest_panel(here, city)
    base = model or find_base(here)
    columns = (TextColumn("adapting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), disable=as_json) as bar:
        task = bar.add_task("adapting", total=2 * config.steps)
        result = adapt(
            base,
            panel,
            folder,
            days=days,
            config=config,
            device=device,
            progress=lambda step, steps: bar.update(task, completed=step, total=steps),
        )
    if as_json:
        emit(
            {
                "model": str(result.folder),
                "base": str(base),
                "used": result.used,
                "error_before": result.error_before,
                "error_after": result.error_after,
                "days": result.days,
                "seconds": round(result.seconds, 1),
            },
            as_json=True,
        )
        return
    sys.stdout.write(f"{result.sentence()}\n{result.folder}, {result.seconds:.0f} s. Next: mtgpt forecast {city}\n")
