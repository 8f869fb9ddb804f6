"""``mtgpt ingest``: a city's feeds into the lake, and what became of every row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from mtgpt.cli.show import emit, progress, rows_table
from mtgpt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from mtgpt.errors import MTGPTError
    from mtgpt.ingest.manifest import Source
    from mtgpt.lake.batch import BatchResult

_COLUMNS = ("source", "file", "status", "in", "good", "quarantined", "duplicate", "seconds", "batch")
_SHORT = 12


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
        table=lambda: _report(manifest.name, results, failures),
    )
    if failures or any(result.status == "held" for result in results):
        raise typer.Exit(1)


def batches_table(results: Sequence[BatchResult], *, title: str | None = None) -> RenderableType:
    """Results as a table, held ones explained below in red."""
    rows = [
        (
            one.source_id,
            one.name,
            "there already" if one.status == "replay" else one.status,
            one.rows_in,
            one.rows_good,
            one.rows_quarantined,
            one.rows_duplicate,
            round(one.seconds, 2),
            one.batch_id[:_SHORT],
        )
        for one in results
    ]
    held = [one for one in results if one.status == "held"]
    caption = "rows in = good + quarantined + duplicate" if rows else None
    return Group(rows_table(rows, _COLUMNS, title=title, caption=caption), *(_held(one) for one in held))


def _held(one: BatchResult) -> Text:
    batch = one.batch_id[:_SHORT]
    return Text(
        f"{one.source_id}: held, the tables are untouched. {one.reason}.\n"
        f"  See the rows with: mtgpt lake quarantine --batch {batch}\n"
        f"  Then mend the feed and ingest again, or mend the contract and: mtgpt lake replay {batch}",
        style="red",
    )


def _report(name: str, results: Sequence[BatchResult], failures: list[dict[str, Any]]) -> RenderableType:
    parts: list[RenderableType] = [batches_table(results, title=f"{name}: what the feeds brought")]
    parts += [Text(f"{one['source_id']}: failed. {one['sentence']}", style="red") for one in failures]
    quarantined = sum(one.rows_quarantined for one in results if one.status == "committed")
    if quarantined:
        parts.append(Text(f"{quarantined:,} rows in quarantine: mtgpt lake quarantine", style="yellow"))
    return Group(*parts)
