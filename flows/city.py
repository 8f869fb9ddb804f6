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
from mtgpt.panel.store import latest_panel
from mtgpt.settings import settings


@task(task_run_name="known-model-{city_id}", cache_policy=NO_CACHE)
def known_model(city_id: str) -> str | None:
    """Folder of the model to use, or None where the city has none yet."""
    try:
        return str(find_model(settings(), city_id))
    except NotFound:
        return None


@task(cache_policy=NO_CACHE)
def name_of_run(city_id: str, recipe: str) -> str:
    """A name of the panel's own: the same panel goes on from its checkpoint, a newer one starts anew."""
    return f"{city_id}-{recipe}-{latest_panel(settings(), city_id).meta.panel_id[:8]}"


@flow(flow_run_name=runtime.run_name, result_serializer="json")
def city(city: str, recipe: str = "quick", retrain: bool = False, horizon: int = 12) -> str:  # noqa: FBT001, FBT002 - a deployment's parameter
    """Takes a city from its feeds to a forecast; what is there already is not done again.

    One department's outage is no reason to be without a forecast: it is made from what the lake has, and then the run
    fails with what was wrong with the feeds.

    Args:
        city: Name or path of the manifest.
        recipe: How to train where there is no model yet.
        retrain: Train even where there is one.
        horizon: Steps ahead.

    Returns:
        Path of the forecast.
    """
    city_id = load_manifest(city, settings=settings()).city
    fed = ingest(city, return_state=True)
    panel(city)
    model = None if retrain else known_model(city_id)
    path = forecast(city_id, horizon=horizon, model=model or train([city_id], recipe, name_of_run(city_id, recipe)))
    fed.result()
    return path


def main(
    name: Annotated[str, typer.Argument(metavar="CITY", help="Name or path of a city manifest.")],
    recipe: Annotated[str, typer.Option(help="How to train where there is no model yet.")] = "quick",
    retrain: Annotated[bool, typer.Option("--retrain", help="Train even where there is a model.")] = False,  # noqa: FBT002
    horizon: Annotated[int, typer.Option(min=1, help="Steps ahead.")] = 12,
) -> None:
    """Take a city from its feeds to a forecast as Prefect flows."""
    load_manifest(name, settings=settings())  # a slip is a sentence before a server is started
    city(name, recipe, retrain, horizon)


if __name__ == "__main__":
    runtime.program(main)
