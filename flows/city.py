"""The whole road for one city: feeds → lake → panel → model → forecast.

``python -m flows.city CITY`` runs it here without a server of yours.
"""

from __future__ import annotations

from typing import Annotated

import typer

from flows import runtime

if __name__ == "__main__":
    runtime.prepare()

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.forecast import forecast
from flows.ingest import ingest
from flows.panel import panel
from flows.train import train
from mtgpt.errors import NotFound
from mtgpt.ingest.manifest import load_manifest
from mtgpt.model.checkpoint import find_model
from mtgpt.settings import settings


@task(task_run_name="known-model-{city_id}", cache_policy=NO_CACHE)
def known_model(city_id: str) -> str | None:
    """Folder of the model to use, or None where the city has none yet."""
    try:
        return str(find_model(settings(), city_id))
    except NotFound:
        return None


@flow(flow_run_name="city-{city}", result_serializer="json")
def city(city: str, recipe: str = "quick", retrain: bool = False, horizon: int = 12) -> str:  # noqa: FBT001, FBT002 - a deployment's parameter
    """Takes a city from its feeds to a forecast; what is there already is not done again.

    Args:
        city: Name or path of the manifest.
        recipe: How to train where there is no model yet.
        retrain: Train even where there is one.
        horizon: Steps ahead.

    Returns:
        Path of the forecast.
    """
    city_id = load_manifest(city, settings=settings()).city
    ingest(city)
    panel(city)
    model = None if retrain else known_model(city_id)
    return forecast(city_id, horizon=horizon, model=model or train([city_id], recipe))


def main(
    name: Annotated[str, typer.Argument(metavar="CITY", help="Name or path of a city manifest.")],
    recipe: Annotated[str, typer.Option(help="How to train where there is no model yet.")] = "quick",
    retrain: Annotated[bool, typer.Option("--retrain", help="Train even where there is a model.")] = False,  # noqa: FBT002
    horizon: Annotated[int, typer.Option(min=1, help="Steps ahead.")] = 12,
) -> None:
    """Take a city from its feeds to a forecast as Prefect flows."""
    city(name, recipe, retrain, horizon)


if __name__ == "__main__":
    runtime.program(main)
