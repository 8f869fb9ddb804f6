"""``mtgpt train``: from panels to a model."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from mtgpt.cli.show import console, emit


def command(
    cities: Annotated[list[str], typer.Argument(help="City or cities with a panel (see `mtgpt panel build`).")],
    recipe: Annotated[
        str, typer.Option(help="quick (a minute), single_city (best for one city), joint (several cities and modes).")
    ] = "single_city",
    name: Annotated[str | None, typer.Option(help="Name of the run, a folder under the models.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe, e.g. steps=2000."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or npu; the best there is by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON; no progress bar.")] = False,
) -> None:
    """Trains a model on the first 60 % of one or more panels; the last 20 % stay unseen for `mtgpt evaluate`.

    The 20 % between set the width of the bands, and nothing else.

    Stop it whenever you like: the same command goes on from the last checkpoint, bit-identically. Several processes:
    torchrun --nproc-per-node 2 -m mtgpt train CITY

    Example: mtgpt train demo --recipe quick
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from mtgpt.settings import settings
    from mtgpt.train.cities import train_cities

    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4f}"))
    out = console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=out, disable=as_json) as bar:
        # No line before the first step: of several processes only the first reports any.
        task = bar.add_task("training", total=None, loss=float("nan"), visible=False)
        trained = train_cities(
            cities,
            settings=settings(),
            recipe_name=recipe,
            name=name,
            changes=changes(set_ or []),
            device=device,
            progress=lambda step, steps, loss: bar.update(task, completed=step, total=steps, loss=loss, visible=True),
        )
    if trained.rank:
        return
    facts = {
        "model": str(trained.folder),
        "steps": trained.steps,
        "resumed_at": trained.resumed_at,
        "seconds": round(trained.seconds, 1),
        "last_loss": trained.loss,
    }
    if as_json:
        emit(facts, as_json=True)
        return
    sys.stdout.write(
        f"{trained.folder}: {trained.steps} steps in {trained.seconds:.0f} s.\n"
        f"Next: mtgpt evaluate city {cities[0]}  or  mtgpt forecast {cities[0]}\n"
    )


def changes(pairs: list[str]) -> dict[str, Any]:
    """Fields of a recipe from FIELD=VALUE pairs; values are JSON where they can be."""
    import json

    from mtgpt.errors import UsageError

    found: dict[str, Any] = {}
    for pair in pairs:
        field, separator, value = pair.partition("=")
        if not separator:
            raise UsageError("not a change", where="--set", got=pair, expected="FIELD=VALUE, e.g. steps=2000")
        try:
            found[field.strip()] = json.loads(value)
        except ValueError:
            found[field.strip()] = value
    return found
