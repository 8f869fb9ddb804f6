"""Ask a city's live feeds once, or watch them for a while: one run of a schedule.

``python -m flows.live CITY`` runs it here without a server of yours. A run of Prefect costs a second or more: for feeds
that are asked more often than every few minutes, give it minutes to watch, or run ``mtgpt watch`` as a service.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from flows import runtime

if __name__ == "__main__":
    runtime.prepare()

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from mtgpt.errors import FeedError
from mtgpt.ingest.manifest import load_manifest
from mtgpt.lake.lake import Lake
from mtgpt.lake.watch.watch import Watch, watched_sources
from mtgpt.settings import settings

if TYPE_CHECKING:
    from mtgpt.lake.watch.watch import Event

_LOUD = frozenset({"held", "failed", "rests", "lake"})


@task(task_run_name="watch-{city}", cache_policy=NO_CACHE)
def watch_feeds(city: str, minutes: float, only: list[str] | None) -> list[str]:
    """Watches a city's feeds.

    Args:
        city: Name or path of the manifest.
        minutes: For how long; 0 asks each source once.
        only: Ids of the sources.

    Returns:
        A sentence for each source that fails in the end, and for each one of which a batch was held.
    """
    now, log = settings(), get_run_logger()
    manifest = load_manifest(city, settings=now)

    def note(event: Event) -> None:
        facts = event.as_dict()
        log.log(30 if event.event in _LOUD else 10, "%s %s: %s", event.event, event.source, facts.get("sentence", ""))

    until = time.monotonic() + minutes * 60
    watch = Watch(manifest, Lake.open(now.lake), settings=now, only=only, once=not minutes, note=note)
    with watch:
        while not watch.wait(1.0) and (not minutes or time.monotonic() < until):
            pass
        found = watch.status()
    return [
        f"{one.source_id}: {one.fault or 'a batch is held or could not be read'}"
        for one in found
        if one.fault is not None or one.held or one.unread
    ]


@flow(flow_run_name=runtime.run_name, result_serializer="json")
def live(city: str, minutes: float = 0, only: list[str] | None = None) -> None:
    """Asks a city's live feeds; the run fails where one of them does, and everything else landed all the same.

    Args:
        city: Name or path of the manifest.
        minutes: Watch for so long, each source on its own cadence; 0 asks each source once.
        only: Ids of the sources; those that may change where absent.

    Raises:
        FeedError: A source fails, or a batch was held.
        UsageError: The city has no source that may change.
    """
    watched_sources(load_manifest(city, settings=settings()), only)
    faults = watch_feeds(city, minutes, only)
    if faults:
        raise FeedError("not every feed is well", where=city, got="; ".join(faults), next_step="see mtgpt lake status")


def main(
    city: Annotated[str, typer.Argument(help="Name or path of a city manifest.")],
    minutes: Annotated[float, typer.Option(min=0, help="Watch for so long; 0 asks each source once.")] = 0,
    only: Annotated[list[str] | None, typer.Option(help="Only this source; may be given again.")] = None,
) -> None:
    """Ask a city's live feeds as a Prefect flow."""
    watched_sources(load_manifest(city, settings=settings()), only)  # a slip is a sentence before a server is started
    live(city, minutes, only)


if __name__ == "__main__":
    runtime.program(main)
