"""Build a city's panel from the lake.

``python -m flows.panel CITY`` runs it here without a server of yours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import runtime

if __name__ == "__main__":
    runtime.prepare()

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from mtgpt.ingest.manifest import load_manifest
from mtgpt.lake.lake import Lake
from mtgpt.panel.build import build_panel
from mtgpt.panel.store import open_panel
from mtgpt.settings import settings


@task(cache_policy=NO_CACHE)
def build(city: str) -> str:
    """Builds the panel and returns its folder."""
    now = settings()
    manifest = load_manifest(city, settings=now)
    lake = Lake.open(now.lake, create=False)
    folder = now.panels / manifest.city
    build_panel(manifest, lake, folder=folder, progress=get_run_logger().debug)
    return str(folder)


@task(cache_policy=NO_CACHE)
def publish_panel(folder: str) -> None:
    """Says what the panel holds and which table versions it was built from, as an artifact, ``panel-<city>``."""
    panel = open_panel(Path(folder))
    meta = panel.meta
    versions = ", ".join(f"{table} {version}" for table, version in sorted(meta.table_versions.items()))
    create_markdown_artifact(
        f"**{meta.name}**: {panel.n_step:,} steps of {meta.interval_s} s × {panel.n_series:,} series "
        f"({panel.n_spot:,} at spots), from Delta versions {versions}. Panel `{meta.panel_id[:12]}`.",
        key=runtime.artifact_key("panel", meta.city),
    )


@flow(flow_run_name=runtime.run_name, result_serializer="json")
def panel(city: str) -> str:
    """Builds a city's panel.

    Args:
        city: Name or path of the manifest.

    Returns:
        The panel's folder.
    """
    folder = build(city)
    publish_panel(folder)
    return folder


def main(city: Annotated[str, typer.Argument(help="Name or path of a city manifest.")]) -> None:
    """Build a city's panel as a Prefect flow."""
    load_manifest(city, settings=settings())  # a slip is a sentence before a server is started
    panel(city)


if __name__ == "__main__":
    runtime.program(main)
