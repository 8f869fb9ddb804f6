"""``mtgpt ingest``: cities' feeds into the lake, and what became of every row."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from mtgpt.cli.ledger import results_table, suspect_text
from mtgpt.cli.show import emit, fail, progress
from mtgpt.errors import UsageError
from mtgpt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from mtgpt.lake.cities import CityOutcome


class EngineName(StrEnum):
    """Where cities are ingested."""

    SERIAL = "serial"
    RAY = "ray"


def command(
    cities: Annotated[list[str], typer.Argument(help="Names of cities (mtgpt city list), or paths of manifests.")],
    source: Annotated[list[str] | None, typer.Option(help="Only this source; may be given again.")] = None,
    engine: Annotated[
        EngineName, typer.Option(help="One city after the other, or each in a Ray task (extra: ray).")
    ] = EngineName.SERIAL,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON; no progress.")] = False,
) -> None:
    """Pulls cities' feeds, judges every row and lands each batch exactly once.

    Rows in = good + quarantined + duplicate, for every batch. Running it again costs little: what the lake has, it
    keeps. The exit code is 1 where a batch is held or a source could not be read; the others land all the same.

    Example: mtgpt ingest demo
    """
    from mtgpt.ingest.manifest import load_manifest
    from mtgpt.lake.cities import ingest_cities

    now = settings()
    manifests = [load_manifest(city, settings=now) for city in dict.fromkeys(cities)]
    if source and len(manifests) > 1:
        raise UsageError("sources of one city at a time", where="--source", got=f"{len(manifests)} cities")
    names = ", ".join(one.city for one in manifests)
    with progress(f"ingest {names}", quiet=as_json) as say:
        outcomes = ingest_cities(manifests, settings=now, only=source, engine=engine.value, progress=say)
    reports = [{"city": one.city, "batches": one.batches, "failed": one.failed} for one in outcomes]
    emit(
        reports[0] if len(reports) == 1 else {"cities": reports},
        as_json=as_json,
        table=lambda: Group(*_spaced([_report(one) for one in outcomes])),
    )
    if not as_json:
        for outcome in outcomes:
            for one in outcome.failed:
                place = one["source_id"] if len(outcomes) == 1 else f"{outcome.city}, {one['source_id']}"
                fail(f"{place}: could not be read. {one['sentence']}")
    if not all(one.is_well for one in outcomes):
        raise typer.Exit(1)


def _report(outcome: CityOutcome) -> RenderableType:
    parts: list[Any] = [results_table(outcome.batches, title=f"{outcome.name}: what the feeds brought")]
    quarantined = sum(one.rows_quarantined for one in outcome.batches if one.status == "committed")
    if quarantined:
        parts.append(
            Text(f"\n{quarantined:,} rows were put aside: mtgpt lake quarantine --city {outcome.city}", style="yellow")
        )
    suspect = Counter[str]()
    for one in outcome.batches:
        if one.status == "committed":
            suspect.update(one.tables.get("observation", {}).get("flagged", {}))
    if suspect:
        parts.append(Text(f"\n{suspect_text(suspect)}", style="yellow"))
    return Group(*parts)


def _spaced(parts: Sequence[RenderableType]) -> list[RenderableType]:
    return [piece for part in parts for piece in (part, Text(""))][:-1]
