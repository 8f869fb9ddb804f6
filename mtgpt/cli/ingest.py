"""``mtgpt ingest``: a city's feeds into the lake, and what became of every row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from mtgpt.cli.ledger import results_table
from mtgpt.cli.show import emit, fail, progress
from mtgpt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from mtgpt.errors import MTGPTError
    from mtgpt.ingest.manifest import Source
    from mtgpt.lake.batch import BatchResult


def command(
    city: Annotated[str, typer.Argument(help="Name of a city (mtgpt city list), or the path of its manifest.")],
    source: Annotated[list[str] | None, typer.Option(help="Only this source; may be given again.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON; no progress.")] = False,
) -> None:
    """Pulls a city's feeds, judges every row and lands each batch exactly once.

    Rows in = good + quarantined + duplicate, for every batch. Running it again costs little: what the lake has, it
    keeps. The exit code is 1 where a batch is held or a source could not be read; the others land all the same.

    Example: mtgpt ingest demo
    """
    from mtgpt.ingest.manifest import load_manifest
    from mtgpt.lake.intake import ingest_city
    from mtgpt.lake.lake import Lake

    now = settings()
    manifest = load_manifest(city, settings=now)
    failures: list[dict[str, Any]] = []

    def failed(at: Source, error: MTGPTError) -> None:
        failures.append({"source_id": at.id, "sentence": error.sentence(), **error.as_dict()})

    with progress(f"ingest {manifest.city}", quiet=as_json) as say:
        lake = Lake.open(now.lake)
        results = ingest_city(manifest, lake, settings=now, only=source, progress=say, failed=failed)
    emit(
        {"city": manifest.city, "batches": results, "failed": failures},
        as_json=as_json,
        table=lambda: _report(manifest.city, manifest.name, results),
    )
    if not as_json:
        for one in failures:
            fail(f"{one['source_id']}: could not be read. {one['sentence']}")
    if failures or any(result.status == "held" for result in results):
        raise typer.Exit(1)


def _report(city: str, name: str, results: Sequence[BatchResult]) -> RenderableType:
    parts: list[RenderableType] = [results_table(results, title=f"{name}: what the feeds brought")]
    quarantined = sum(one.rows_quarantined for one in results if one.status == "committed")
    if quarantined:
        parts.append(
            Text(f"\n{quarantined:,} rows were put aside: mtgpt lake quarantine --city {city}", style="yellow")
        )
    return Group(*parts)
