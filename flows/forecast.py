"""Forecast a city from its newest panel and model.

``python -m flows.forecast CITY`` runs it here without a server of yours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import runtime

if __name__ == "__main__":
    runtime.prepare()

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from mtgpt.model.checkpoint import find_model
from mtgpt.model.mtgpt import MTGPT
from mtgpt.panel.store import latest_panel
from mtgpt.serve.render import as_frame, as_parquet, as_png, source_line
from mtgpt.settings import settings


@task(task_run_name="forecast-{city}", cache_policy=NO_CACHE)
def make_forecast(city: str, at: str | None, horizon: int, model: str | None) -> str:
    """Writes the forecast as Parquet with its provenance, a picture beside it, and returns the Parquet's path."""
    now = settings()
    net = MTGPT.from_pretrained(Path(model) if model else find_model(now, city))
    result = net.forecast(latest_panel(now, city), at=at, horizon=horizon)
    stamp = str(result.at.astype("datetime64[s]")).replace(":", "").replace("-", "")
    path = now.home / "forecasts" / city / f"{stamp}Z.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    as_parquet(result, path)
    as_png(result, path.with_suffix(".png"))
    network = as_frame(result).filter(level="network")
    create_table_artifact(
        table=[{name: str(value) for name, value in row.items()} for row in network.iter_rows(named=True)],
        key=runtime.artifact_key("forecast", city),
        description=f"The network as a whole. {source_line(result)}",
    )
    return str(path)


@flow(flow_run_name=runtime.run_name, result_serializer="json")
def forecast(city: str, at: str | None = None, horizon: int = 12, model: str | None = None) -> str:
    """Forecasts a city.

    Args:
        city: Id of a city that has a panel.
        at: End of the last visible step, UTC, ISO 8601; the panel's end where absent.
        horizon: Steps ahead.
        model: Folder of a model; the newest that fits the city where absent.

    Returns:
        Path of the Parquet file; a PNG lies beside it.
    """
    return make_forecast(city, at, horizon, model)


def main(
    city: Annotated[str, typer.Argument(help="City that has a panel.")],
    at: Annotated[str | None, typer.Option(help="End of the last visible step, UTC.")] = None,
    horizon: Annotated[int, typer.Option(min=1, help="Steps ahead.")] = 12,
    model: Annotated[str | None, typer.Option(help="Folder of a model.")] = None,
) -> None:
    """Forecast a city as a Prefect flow."""
    latest_panel(settings(), city)  # a slip is a sentence before a server is started
    forecast(city, at, horizon, model)


if __name__ == "__main__":
    runtime.program(main)
