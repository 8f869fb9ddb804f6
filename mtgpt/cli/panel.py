"""``mtgpt panel``: builds a city's panel, says what is in it, hands its geometry to GIS programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from mtgpt.cli import show
from mtgpt.settings import Settings, settings

if TYPE_CHECKING:
    from rich.console import Group

    from mtgpt.panel.panel import Panel

app = typer.Typer(help="Regular grids of a city's series: build, look at, export.", no_args_is_help=True)

City = Annotated[str, typer.Argument(help="City id.")]
Place = Annotated[str, typer.Argument(help="City id, or the folder of a panel.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_BLOCK_ROWS = 512


@app.command(epilog="Example: mtgpt panel build demo")
def build(city: City, as_json: Json = False) -> None:
    """Build the panel that the city's manifest describes, from what the lake holds."""
    from mtgpt.ingest.manifest import load_manifest
    from mtgpt.lake.lake import Lake
    from mtgpt.panel.build import build_panel

    now = settings()
    manifest = load_manifest(city, settings=now)
    lake = Lake.open(now.lake, create=False)
    with show.progress(f"panel {manifest.city}", quiet=as_json) as say:
        panel = build_panel(manifest, lake, folder=now.panels / manifest.city, progress=say)
    facts = describe(panel)
    show.emit(facts, as_json=as_json, table=lambda: _table(facts))


@app.command(epilog="Example: mtgpt panel info demo --series")
def info(
    place: Place,
    as_json: Json = False,
    series: Annotated[bool, typer.Option("--series", help="List the series too.")] = False,
) -> None:
    """Say what a panel holds: steps, series, days, missing values, graph, and the data behind it."""
    panel = _open(place, settings())
    facts = describe(panel)
    if series:
        facts["series_list"] = panel.series.to_dicts()
    show.emit(facts, as_json=as_json, table=lambda: _table(facts))


@app.command(epilog="Example: mtgpt panel export demo --geo gis")
def export(
    place: Place,
    folder: Annotated[Path, typer.Option("--geo", help="Folder for the files of spots and corridors.")],
    kind: Annotated[str, typer.Option("--format", help="geoparquet or geojson.")] = "geoparquet",
    as_json: Json = False,
) -> None:
    """Write spots and corridors for GIS programs (EPSG:4326)."""
    from mtgpt.panel.geo import export_geo

    panel = _open(place, settings())
    files = [str(path) for path in export_geo(panel, folder, kind=kind)]
    rows = [{"file": file} for file in files]
    show.emit({"files": files}, as_json=as_json, table=lambda: show.rows_table(rows, ["file"]))


def describe(panel: Panel) -> dict[str, Any]:
    """The facts of ``mtgpt panel info``; reads every value once, in blocks."""
    missing = np.zeros(panel.n_series)
    zero = np.zeros(panel.n_series)
    for start in range(0, panel.n_step, _BLOCK_ROWS):
        block = panel.values[start : start + _BLOCK_ROWS]
        missing += np.isnan(block).sum(axis=0)
        zero += (block == 0).sum(axis=0)
    shares = panel.series.with_columns(
        missing=missing / panel.n_step, zero=zero / np.maximum(panel.n_step - missing, 1)
    )
    variables = []
    for (name,), group in shares.group_by("variable", maintain_order=True):
        spots = group.filter(group["level"] == "spot")
        variables.append(
            {
                "variable": name,
                "unit": group["unit"][0],
                "spots": spots.height,
                "corridors": int((group["level"] == "corridor").sum()),
                "networks": int((group["level"] == "network").sum()),
                "missing": _share(spots["missing"].mean()),
                "zero": _share(spots["zero"].mean()),
                "missing_network": _share(group.filter(group["level"] == "network")["missing"].mean()),
            }
        )
    meta, calendar = panel.meta, panel.calendar
    levels = panel.series["level"].to_list()
    return {
        "city": meta.city,
        "name": meta.name,
        "simulated": meta.simulated,
        "panel_id": meta.panel_id,
        "built_at": meta.built_at,
        "steps": panel.n_step,
        "series": panel.n_series,
        "levels": {level: levels.count(level) for level in ("spot", "corridor", "network")},
        "interval_s": meta.interval_s,
        "time_zone": meta.time_zone,
        "start": f"{panel.time[0]}Z",
        "end": f"{panel.time[-1] + np.timedelta64(meta.interval_s, 's')}Z",
        "days": int(calendar.dates.size),
        "days_off": int(calendar.day_off.sum()),
        "holidays": [str(day) for day in calendar.dates[calendar.holiday]],
        "slots_per_day": calendar.slots_per_day,
        "variables": variables,
        "graph_edges": int(panel.graph.nnz),
        "covariates": list(panel.covariates.names) if panel.covariates is not None else [],
        "bytes": int(panel.values.nbytes),
        "table_versions": meta.table_versions,
        "contracts": meta.contracts,
        "batches": meta.batches,
        "spec": meta.spec,
        "notes": meta.notes,
    }


def _open(place: str, now: Settings) -> Panel:
    from mtgpt.panel.store import latest_panel, open_panel

    folder = Path(place)
    if "/" in place or folder.is_dir():
        return open_panel(folder)
    return latest_panel(now, place)


def _share(value: Any) -> float | None:
    return None if value is None else round(float(value), 4)


def _table(facts: dict[str, Any]) -> Group:
    from rich.console import Group

    levels = ", ".join(f"{count} {level}" for level, count in facts["levels"].items())
    holidays = ", ".join(facts["holidays"])
    notes = dict(facts["notes"])
    made = ", ".join(f"{count:,} {kind}" for kind, count in notes.pop("graph", {}).items())
    lines = {
        "city": facts["name"] + (" (simulated)" if facts["simulated"] else ""),
        "panel": facts["panel_id"][:16],
        "built": facts["built_at"],
        "steps": f"{facts['steps']:,} of {facts['interval_s']} s, {facts['slots_per_day']} a day",
        "series": f"{facts['series']:,} ({levels})",
        "time": f"{facts['start']} to {facts['end']}, local {facts['time_zone']}",
        "days": f"{facts['days']} ({facts['days_off']} off{'; holidays ' + holidays if holidays else ''})",
        "graph": f"{facts['graph_edges']:,} edges" + (f" (between spots: {made})" if made else ""),
        "covariates": ", ".join(facts["covariates"]) or "none",
        "tables": ", ".join(f"{name} v{version}" for name, version in facts["table_versions"].items()) or "none",
        "notes": ", ".join(f"{key} {value}" for key, value in notes.items()) or "none",
    }
    columns = ["variable", "unit", "spots", "corridors", "networks", "missing", "zero"]
    parts = [
        show.rows_table(list(lines.items()), ["what", "value"]),
        "",
        show.rows_table(facts["variables"], columns),
    ]
    if "series_list" in facts:
        listed = ["index", "series_id", "level", "name", "mode", "kind", "corridor"]
        parts += ["", show.rows_table(facts["series_list"], listed)]
    return Group(*parts)
