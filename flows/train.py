"""Train a model on the panels of one or more cities.

``python -m flows.train CITY --recipe quick`` runs it here without a server of yours.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows import runtime

if __name__ == "__main__":
    runtime.prepare()

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from mtgpt.panel.store import latest_panel
from mtgpt.settings import settings
from mtgpt.train.cities import train_cities

LINES = 20  # in the log, for a run of any length


@task(task_run_name="train-{recipe}", cache_policy=NO_CACHE)
def train_model(cities: list[str], recipe: str, name: str | None, changes: dict[str, Any] | None) -> str:
    """Trains, or goes on from the last checkpoint, and returns the model's folder."""
    log = get_run_logger()

    def progress(step: int, steps: int, loss: float) -> None:
        if step % max(1, steps // LINES) == 0:
            log.info("step %d of %d, loss %.4f", step, steps, loss)

    trained = train_cities(
        cities, settings=settings(), recipe_name=recipe, name=name, changes=changes, progress=progress
    )
    create_markdown_artifact(
        f"**{trained.folder.name}**: {trained.steps:,} steps of `{recipe}` on {', '.join(cities)} in "
        f"{trained.seconds:,.0f} s, last loss {trained.loss:.4f}.",
        key=runtime.artifact_key("model", trained.folder.name.lower()),
    )
    return str(trained.folder)


@flow(flow_run_name="train-{recipe}", result_serializer="json")
def train(
    cities: list[str],
    recipe: str = "single_city",
    name: str | None = None,
    changes: dict[str, Any] | None = None,
) -> str:
    """Trains a model.

    Args:
        cities: Ids of cities that have a panel.
        recipe: A name of ``mtgpt.train.recipes``.
        name: Of the run, a folder under the models.
        changes: Fields of the recipe to set differently.

    Returns:
        The model's folder.
    """
    return train_model(cities, recipe, name, changes)


def main(
    cities: Annotated[list[str], typer.Argument(help="Cities that have a panel.")],
    recipe: Annotated[str, typer.Option(help="quick, single_city or joint.")] = "single_city",
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
) -> None:
    """Train a model as a Prefect flow."""
    for city in cities:
        latest_panel(settings(), city)  # a slip is a sentence before a server is started
    train(cities, recipe, name)


if __name__ == "__main__":
    runtime.program(main)
