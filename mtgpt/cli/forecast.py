"""``mtgpt forecast``: what comes next in a city, at spots, corridors and the whole network."""

from __future__ import annotations

import io
import re
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo

import numpy as np
import typer

from mtgpt.cli import show
from mtgpt.errors import UsageError

if TYPE_CHECKING:
    from mtgpt.model.forecast import Forecast
    from mtgpt.panel.panel import Panel

Form = Literal["table", "json", "parquet", "png"]

_SECONDS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
# Beyond two weeks a forecast patch by patch is the seasonal expectation, at the price of many passes.
_MOST_DAYS = 14
_MOST_YEARS = 200
VIRTUAL = "virtual"


def command(
    city: Annotated[str, typer.Argument(help="City with a panel.")],
    at: Annotated[
        str, typer.Option(help="Moment of the forecast in the city's local time, 2012-06-14T17:00; or last.")
    ] = "last",
    horizon: Annotated[str, typer.Option(help="How far ahead: steps, or a time like 90min, 2h, 1d.")] = "12",
    spot: Annotated[
        list[str] | None, typer.Option(help="Only this spot id, series id or name; may be given again.")
    ] = None,
    level: Annotated[
        Literal["spot", "corridor", "network"] | None, typer.Option(help="Only series of this scale.")
    ] = None,
    variable: Annotated[str | None, typer.Option(help="Only this variable, e.g. speed.")] = None,
    corridor: Annotated[int | None, typer.Option(help="Only this corridor and its spots.")] = None,
    place: Annotated[
        str | None,
        typer.Option(metavar="LON,LAT", help="A place without a sensor, in degrees: what one would measure there."),
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Model folder; by default the newest for the city.")] = None,
    method: Annotated[
        Literal["wls", "bottom_up", "none"],
        typer.Option(help="How spots, corridors and the network are made to agree."),
    ] = "wls",
    form: Annotated[Form | None, typer.Option("--format", help="How to show it; table by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write instead of the terminal.")] = None,
    as_map: Annotated[bool, typer.Option("--map", help="Draw a map of the spots instead of fans (png).")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Forecasts every series of a city with intervals, coherent from spots to corridors to the network.

    Example: mtgpt forecast demo --level network --horizon 2h
    """
    from mtgpt.model.checkpoint import find_model
    from mtgpt.model.forecast import choose
    from mtgpt.panel.store import latest_panel
    from mtgpt.settings import settings

    shown = _form(form, as_json=as_json, as_map=as_map, out=out)
    here = settings()
    panel = latest_panel(here, city)
    if place is not None:
        panel = with_place(panel, place, variable, spot=spot, level=level)
        spot, level, variable = [VIRTUAL], None, None
    # Everything a person may have mistyped is found before the model is loaded.
    rows = choose(panel.series, level=level, spot=spot, variable=variable, corridor=corridor, where=city)
    moment = moment_of(at, panel)
    steps = steps_of(horizon, panel)
    folder = model or find_model(here, city)
    with nullcontext() if shown == "json" else show.progress(f"forecast {city}"):
        forecast = _forecast(panel, folder, moment, steps, method, here.threads).take(rows)
    _show(forecast, shown, out, as_map=as_map)


def with_place(panel: Panel, text: str, variable: str | None, *, spot: list[str] | None, level: str | None) -> Panel:
    """Reads ``--place`` and puts a virtual sensor there.

    Raises:
        UsageError: Not a place, one outside the city, or a spot or scale named beside it.
    """
    from mtgpt.panel.virtual import with_virtual_spot

    if spot or level:
        raise UsageError("a place is a spot of its own", where="--place", next_step="leave --spot and --level out")
    try:
        lon, lat = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            "not a place", where="--place", got=text, expected="degrees east, degrees north: -118.25,34.05"
        ) from error
    return with_virtual_spot(panel, lon=lon, lat=lat, variable=variable, spot_id=VIRTUAL)


def moment_of(text: str, panel: Panel) -> np.datetime64 | None:
    """Reads ``--at``: ISO 8601, local unless it carries an offset; None for ``last``, the end of the panel.

    Raises:
        UsageError: Not a time, a time that clocks skipped, or one outside the panel.
    """
    if text.strip().lower() == "last":
        return None
    zone = ZoneInfo(panel.meta.time_zone)
    step = np.timedelta64(panel.meta.interval_s, "s")
    first, last = (_local(time, zone) for time in (panel.time[0], panel.time[-1] + step))
    span = f"{first:%Y-%m-%dT%H:%M} to {last:%Y-%m-%dT%H:%M} {panel.meta.time_zone}, or last"
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UsageError("not a time", where="--at", got=text, expected=span) from error
    if abs(moment.year - first.year) > _MOST_YEARS:
        # The first and last years that there are cannot be moved to another zone.
        raise UsageError("the panel does not reach there", where="--at", got=text, expected=span)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
        if moment.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != moment.replace(tzinfo=None):
            raise UsageError(
                "clocks skipped this hour",
                where="--at",
                got=text,
                next_step=f"ask for {(moment + timedelta(hours=1)):%Y-%m-%dT%H:%M}",
            )
    if not first < moment <= last:
        raise UsageError("the panel does not reach there", where="--at", got=text, expected=span)
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "s")


def steps_of(text: str, panel: Panel) -> int:
    """Reads ``--horizon``: a number of steps, or a time that is rounded up to whole steps.

    Raises:
        UsageError: Neither, or outside one step to two weeks of service.
    """
    most = _MOST_DAYS * panel.calendar.slots_per_day
    expected = f"1 to {most} steps, or a time such as 90min, 2h, 1d"
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,6})?)\s*(s|min|m|h|d|)\s*", text.lower())
    if match is None or (not match[2] and "." in match[1]):
        raise UsageError("not a horizon", where="--horizon", got=text, expected=expected)
    seconds = float(match[1]) * _SECONDS.get(match[2], panel.meta.interval_s)
    steps = int(np.ceil(seconds / panel.meta.interval_s))
    if not 1 <= steps <= most:
        raise UsageError("the horizon is too short or too long", where="--horizon", got=text, expected=expected)
    return steps


def _forecast(
    panel: Panel, folder: Path, at: np.datetime64 | None, horizon: int, method: str, threads: int | None
) -> Forecast:
    import torch

    from mtgpt.model.mtgpt import MTGPT

    if threads:
        torch.set_num_threads(threads)
    return MTGPT.from_pretrained(folder).forecast(panel, at, horizon, method=method)  # pyright: ignore[reportArgumentType]


def _form(form: Form | None, *, as_json: bool, as_map: bool, out: Path | None) -> Form:
    if as_json and form not in {None, "json"}:
        raise UsageError("two formats at once", where="--json", got=f"--format {form}", next_step="leave one out")
    if as_json:
        return "json"
    if as_map and form not in {None, "png"}:
        raise UsageError("a map is a picture", where="--map", got=f"--format {form}", expected="--format png")
    if as_map:
        return "png"
    by_suffix: dict[str, Form] = {".json": "json", ".parquet": "parquet", ".png": "png"}
    return form or (by_suffix.get(out.suffix.lower(), "table") if out else "table")


def _show(forecast: Forecast, form: Form, out: Path | None, *, as_map: bool) -> None:
    from mtgpt.serve import render

    local = render.moments(forecast, np.array([forecast.at]))[0]
    path = out or Path(f"{forecast.city}-{local:%Y%m%dT%H%M}.{form}")
    if form == "png":
        render.as_png(forecast, path, kind="map" if as_map else "fan")
    elif form == "parquet":
        render.as_parquet(forecast, path)
    elif out is None and form == "table":
        show.console().print(render.as_table(forecast))
        return
    elif out is None:
        sys.stdout.write(render.as_json_text(forecast))
        return
    else:
        with render.whole_file(path) as part:
            part.write_text(render.as_json_text(forecast) if form == "json" else _page(forecast), encoding="utf-8")
    sys.stdout.write(f"wrote {path}\n")


def _page(forecast: Forecast) -> str:
    from rich.console import Console

    from mtgpt.serve import render

    text = io.StringIO()
    Console(file=text, width=100, highlight=False).print(render.as_table(forecast))
    return text.getvalue()


def _local(time: np.datetime64, zone: ZoneInfo) -> datetime:
    return time.astype("datetime64[s]").item().replace(tzinfo=UTC).astimezone(zone)
