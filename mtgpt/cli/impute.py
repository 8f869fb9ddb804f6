"""``mtgpt impute``: what was not measured, filled in with ranges."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtgpt.cli.show import console, emit

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mtgpt.model.impute import Imputation


def command(
    city: Annotated[str, typer.Argument(help="City with a panel.")],
    since: Annotated[
        str | None, typer.Option("--from", help="First local time to fill; the beginning by default.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Local time to fill until; the end by default.")] = None,
    spot: Annotated[
        list[str] | None, typer.Option(help="Only this spot id, series id or name; may be given again.")
    ] = None,
    variable: Annotated[str | None, typer.Option(help="Only this variable, e.g. speed.")] = None,
    model: Annotated[Path | None, typer.Option(help="Model folder; by default the newest for the city.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Parquet file for every filled value; without it a summary is shown.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every filled value as JSON.")] = False,
) -> None:
    """Fills every gap of a city's spots, and spots that never measured anything, from both sides and the neighbours.

    Each filled value has an 80 % range. The first day stays as it is: nothing is known of usual days before it.

    Example: mtgpt impute demo --variable speed --out filled.parquet
    """
    import numpy as np
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mtgpt.cli.forecast import moment_of
    from mtgpt.errors import UsageError
    from mtgpt.model.checkpoint import find_model
    from mtgpt.model.forecast import choose
    from mtgpt.model.impute import impute
    from mtgpt.model.mtgpt import MTGPT, Forecaster
    from mtgpt.panel.store import latest_panel
    from mtgpt.settings import settings

    here = settings()
    panel = latest_panel(here, city)
    rows = choose(panel.series, level="spot", spot=spot, variable=variable, where=city)
    start = 0
    if since is not None and (moment := moment_of(since, panel)) is not None:
        start = int(np.searchsorted(panel.time, moment))
    end = None if until is None else moment_of(until, panel)
    stop = panel.n_step if end is None else panel.steps_until(end)
    if start >= stop:
        raise UsageError("nothing lies between the two times", where="--from", got=f"{since} to {until}")
    if out is not None and out.suffix.lower() != ".parquet":
        raise UsageError(
            "values are kept as Parquet", where="--out", got=out.name, expected="a name ending in .parquet"
        )
    folder = model or find_model(here, city)
    if here.threads:
        torch.set_num_threads(here.threads)
    columns = (TextColumn("filling"), BarColumn(), MofNCompleteColumn(), TextColumn("windows"), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), disable=as_json) as bar:
        task = bar.add_task("filling", total=None)
        filled = impute(
            Forecaster(MTGPT.from_pretrained(folder), panel),
            start=start,
            stop=stop,
            spots=rows,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if out is not None:
        from mtgpt.serve.render import whole_file

        with whole_file(out) as part:
            filled.frame().write_parquet(part)
        sys.stdout.write(f"wrote {out}\n")
        return
    facts: dict[str, Any] = {"filled": len(filled.step), "left": filled.left, "provenance": dict(filled.provenance)}
    emit(
        {"city": city, "model": str(folder), **facts, "values": filled.frame()} if as_json else facts,
        as_json=as_json,
        table=lambda: _table(filled, city),
    )


def _table(filled: Imputation, city: str) -> RenderableType:
    import polars as pl
    from rich.table import Table
    from rich.text import Text

    frame = filled.frame()
    by_series = (
        frame.group_by("series_id", "name", "variable", "unit", maintain_order=True)
        .agg(pl.len(), pl.col("value").mean(), ((pl.col("high") - pl.col("low")) / 2).mean().alias("half"))
        .sort("len", descending=True)
    )
    more = by_series.height - 20
    rest = f"; {more} more series (--out keeps every value)" if more > 0 else ""
    table = Table(
        title=f"{city}: {frame.height:,} values filled in {by_series.height} series, {filled.left:,} left empty{rest}",
        caption="value and ±: the average filled value and half its 80 % range",
        title_justify="left",
        caption_justify="left",
        box=None,
    )
    for name in ("spot", "variable", "filled", "value", "±", "unit"):
        table.add_column(name, justify="left" if name in {"spot", "variable", "unit"} else "right", overflow="fold")
    for row in by_series.head(20).iter_rows(named=True):
        label = Text(str(row["name"] or row["series_id"]))
        table.add_row(
            label, row["variable"], f"{row['len']:,}", f"{row['value']:,.4g}", f"{row['half']:,.2g}", row["unit"]
        )
    return table
