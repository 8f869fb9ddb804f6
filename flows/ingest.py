"""Pull a city's feeds into the lake: one task per source, and the ledger as the run's artifact.

``python -m flows.ingest CITY`` runs it here without a server of yours.
"""

from __future__ import annotations

from typing import Annotated

import typer

from flows import runtime

if __name__ == "__main__":
    runtime.prepare()

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from mtgpt.errors import FeedError
from mtgpt.ingest.manifest import load_manifest
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.settings import settings

LEDGER = ("batch_id", "source_id", "status", "rows_in", "rows_good", "rows_quarantined", "rows_duplicate", "reason")


@task(
    task_run_name="ingest-{source}",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_jitter_factor=0.5,
    retry_condition_fn=runtime.is_transient,
    cache_policy=NO_CACHE,
)
def ingest_source(city: str, source: str) -> list[str]:
    """Ingests every batch of one source that the lake does not have yet.

    Args:
        city: Name or path of the manifest.
        source: Id of the source.

    Returns:
        Ids of the batches that the source offers now, committed, held or already there.
    """
    now = settings()
    log = get_run_logger()
    manifest = load_manifest(city, settings=now)
    results = ingest_city(manifest, Lake.open(now.lake), settings=now, only=[source], progress=log.debug)
    for result in results:
        if result.status == "held":
            log.warning("batch %s of %s is held: %s", result.batch_id, source, result.reason)
    return [result.batch_id for result in results]


@task(cache_policy=NO_CACHE)
def publish_ledger(city_id: str, batches: list[str]) -> list[str]:
    """Shows the ledger's rows of these batches as a table artifact, ``ledger-<city>``.

    Returns:
        Ids of the batches that are held.
    """
    ledger = Lake.open(settings().lake).ledger(city_id)
    rows = ledger.filter(ledger["batch_id"].is_in(batches)).select(LEDGER)
    create_table_artifact(
        table=rows.to_dicts(),
        key=runtime.artifact_key("ledger", city_id),
        description=f"Ledger of {city_id}: rows in = good + quarantined + duplicate",
    )
    return rows.filter(rows["status"] == "held")["batch_id"].to_list()


@flow(flow_run_name=runtime.run_name, result_serializer="json")
def ingest(city: str, only: list[str] | None = None) -> list[str]:
    """Ingests a city's sources one after the other: a table of the lake has one writer at a time.

    A source that fails or a batch that is held does not keep the others from landing; the run ends as failed all the
    same, so that somebody looks.

    Args:
        city: Name or path of the manifest.
        only: Ids of the sources to ingest; all where absent.

    Returns:
        Batch ids.

    Raises:
        MTGPTError: The manifest is off, a source failed after the tries that make sense, or a batch is held.
    """
    manifest = load_manifest(city, settings=settings())
    sources = [manifest.source(name).id for name in only] if only else [source.id for source in manifest.sources]
    states = [ingest_source(city, source, return_state=True) for source in sources]
    batches = [batch for state in states if state.is_completed() for batch in state.result()]
    held = publish_ledger(manifest.city, batches)
    for state in states:
        if not state.is_completed():
            state.result()
    if held:
        raise FeedError(
            "batches are held and their tables untouched",
            where=manifest.city,
            got=", ".join(held),
            next_step=f"see mtgpt lake quarantine --city {manifest.city}; mtgpt lake replay --held judges them again",
        )
    return batches


def main(
    city: Annotated[str, typer.Argument(help="Name or path of a city manifest.")],
    only: Annotated[list[str] | None, typer.Option(help="Only this source; may be given again.")] = None,
) -> None:
    """Ingest a city's feeds as a Prefect flow."""
    load_manifest(city, settings=settings())  # a slip is a sentence before a server is started
    ingest(city, only)


if __name__ == "__main__":
    runtime.program(main)
