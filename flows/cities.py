"""Pull several cities' feeds into one lake: one task per city, in this process or as Ray tasks.

``python -m flows.cities CITY CITY --engine ray`` runs it here without a server of yours.
"""

from __future__ import annotations

import importlib.util
from typing import Annotated, Any

import typer

from flows import runtime

if __name__ == "__main__":
    runtime.prepare()

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.ingest import publish_ledger
from mtgpt.errors import FeedError, UsageError
from mtgpt.ingest.manifest import load_manifest
from mtgpt.lake.cities import ingest_one
from mtgpt.settings import settings

_RAY = {"num_cpus": 2, "include_dashboard": False, "log_to_driver": False, "_node_ip_address": "127.0.0.1"}


@task(
    task_run_name="ingest-{city}",
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_jitter_factor=0.5,
    retry_condition_fn=runtime.is_transient,
    cache_policy=NO_CACHE,
)
def ingest_whole(city: str) -> dict[str, Any]:
    """Ingests every batch of one city that the lake does not have yet.

    Args:
        city: Name or path of the manifest.

    Returns:
        ``city``: its id; ``batches``: their ids; ``failed``: a sentence for each source that could not be read.
    """
    now = settings()
    outcome = ingest_one(load_manifest(city, settings=now), settings=now, progress=get_run_logger().debug)
    return {
        "city": outcome.city,
        "batches": [one.batch_id for one in outcome.batches],
        "failed": [one["sentence"] for one in outcome.failed],
    }


@flow(flow_run_name="ingest-cities", result_serializer="json")
def cities(cities: list[str]) -> list[str]:
    """Ingests cities, each as one task; the tables' writers take turns by file locks, whatever runs the tasks.

    Args:
        cities: Names or paths of manifests.

    Returns:
        Batch ids.

    Raises:
        MTGPTError: A manifest is off, a lake cannot be written, a source failed, or a batch is held.
    """
    for city in cities:
        load_manifest(city, settings=settings())
    futures = [ingest_whole.submit(city) for city in cities]
    outcomes = [future.result() for future in futures]
    held = [batch for one in outcomes for batch in publish_ledger(one["city"], one["batches"])]
    failed = [sentence for one in outcomes for sentence in one["failed"]]
    if failed or held:
        raise FeedError(
            "not everything landed",
            where=", ".join(one["city"] for one in outcomes),
            got="; ".join([*failed, *(f"batch {batch} is held" for batch in held)]),
            next_step="see mtgpt lake status and mtgpt lake quarantine",
        )
    return [batch for one in outcomes for batch in one["batches"]]


def on_ray(address: str | None = None) -> Any:
    """The flow :func:`cities` with Ray's task runner.

    Args:
        address: Of a Ray cluster whose machines see the workspace under the same path, with file locks; a local one of
            two processes where absent.

    Raises:
        UsageError: ``prefect-ray`` is not installed.
    """
    if importlib.util.find_spec("prefect_ray") is None:
        install = "install it: pip install 'mtgpt[ray]'"
        raise UsageError("prefect-ray is not installed", where="--engine", got="ray", next_step=install)
    from prefect_ray import RayTaskRunner  # noqa: PLC0415 # pyright: ignore[reportMissingImports] - an extra

    runner = RayTaskRunner(address=address) if address else RayTaskRunner(init_kwargs=dict(_RAY))
    return cities.with_options(task_runner=runner)


def main(
    names: Annotated[list[str], typer.Argument(metavar="CITY...", help="Names or paths of city manifests.")],
    engine: Annotated[str, typer.Option(help="serial or ray (extra: ray).")] = "serial",
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster; a local one where absent.")] = None,
) -> None:
    """Ingest cities as a Prefect flow, each as one task."""
    for name in names:
        load_manifest(name, settings=settings())  # a slip is a sentence before a server is started
    if engine not in {"serial", "ray"}:
        raise UsageError("no such engine", where="--engine", got=engine, expected="serial, ray")
    run = on_ray(address) if engine == "ray" else cities
    run(names)


if __name__ == "__main__":
    runtime.program(main)
