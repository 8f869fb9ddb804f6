"""``mtgpt city``: the cities that are described, what is wrong with a description, the schema for editors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from mtgpt.cli.show import as_json_text, console, emit, fail, rows_table
from mtgpt.errors import ManifestError, NotFound
from mtgpt.settings import settings

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from mtgpt.ingest.manifest import CityManifest, Source
    from mtgpt.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    help="""The cities that are described, and what is wrong with a description.

    A city is one YAML file: its name, its time zone, its sources (kind, path or URL, options, schedule) and what its
    panel holds. Bring your own by writing one; editors complete it by the JSON schema.""",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


@app.command("list", epilog="Example: mtgpt city list")
def list_cities(as_json: Json = False) -> None:
    """Lists the cities that have a manifest."""
    from mtgpt.ingest.manifest import manifest_names

    here = settings()
    rows = [_summary(name, here) for name in manifest_names(here.cities)]
    none = Text(f"no manifest in {here.cities}")
    emit(rows, as_json=as_json, table=lambda: _cities_view(rows) if rows else none)


@app.command("show", epilog="Example: mtgpt city show demo")
def show_city(
    city: Annotated[str, typer.Argument(help="Name of a city, or path of a manifest.")], as_json: Json = False
) -> None:
    """Shows a city's sources and panel."""
    from mtgpt.ingest.manifest import load_manifest

    here = settings()
    manifest = load_manifest(city, settings=here)
    batches = [_batches(manifest, source, here) for source in manifest.sources]
    data = manifest.model_dump(mode="json")
    for source, found in zip(data["sources"], batches, strict=True):
        source["batches"], source["missing"] = found
    emit(data, as_json=as_json, table=lambda: _city_view(manifest, batches))


@app.command("check", epilog="Example: mtgpt city check my_city.yaml --files")
def check_cities(
    cities: Annotated[list[str] | None, typer.Argument(help="Names or paths; all cities if none is given.")] = None,
    files: Annotated[bool, typer.Option("--files", help="Local files must be there too.")] = False,
    as_json: Json = False,
) -> None:
    """Checks manifests: names every fault with its line, key, what was got and what was expected."""
    from mtgpt.ingest.manifest import manifest_names

    here = settings()
    results = [_checked(name, here, files=files) for name in cities or manifest_names(here.cities)]
    broken = [result for result in results if result["faults"]]
    if as_json:
        emit(results, as_json=True)
    else:
        for result in results:
            for sentence in result["faults"]:
                fail(sentence)
            if not result["faults"]:
                console().print(f"{result['city']}: ok", markup=False)
    if broken:
        raise typer.Exit(ManifestError.exit_code)


@app.command("schema", epilog="Example: mtgpt city schema -o flows/cities/city.schema.json")
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this file.")] = None,
) -> None:
    """Prints the JSON schema of manifests, which lies beside them as city.schema.json."""
    from mtgpt.contracts.variables import variables
    from mtgpt.ingest.adapters import adapters
    from mtgpt.ingest.schema import manifest_schema

    data = manifest_schema(adapters(), variables(settings().contracts))
    if output is None:
        emit(data, as_json=True)
    else:
        output.write_text(as_json_text(data) + "\n", encoding="utf-8")


def _cities_view(rows: list[dict[str, Any]]) -> RenderableType:
    shown = [
        row
        | {
            "name": f"{row['name']} (simulated)" if row.get("simulated") else row.get("name"),
            "sources": row["fault"] or f"{row['sources']} × {row['kinds']}",
        }
        for row in rows
    ]
    return _whole_words(rows_table(shown, ["city", "name", "step_min", "time_zone", "sources"]), "city", "time_zone")


def _whole_words(table: Table, *names: str) -> Table:
    # What a person copies into the next command must not be broken over lines.
    for column in table.columns:
        column.no_wrap = column.header in names
    return table


def _summary(name: str, here: Settings) -> dict[str, Any]:
    from mtgpt.ingest.manifest import load_manifest

    try:
        manifest = load_manifest(name, settings=here)
    except ManifestError as error:
        return {"city": name, "fault": error.sentence().splitlines()[0]}
    return {
        "city": manifest.city,
        "name": manifest.name,
        "kinds": ", ".join(dict.fromkeys(source.kind for source in manifest.sources)),
        "sources": len(manifest.sources),
        "time_zone": manifest.time_zone,
        "step_min": manifest.panel.interval_s // 60,
        "simulated": manifest.simulated,
        "fault": None,
    }


def _checked(name: str, here: Settings, *, files: bool) -> dict[str, Any]:
    from mtgpt.ingest.manifest import load_manifest

    try:
        manifest = load_manifest(name, settings=here)
    except (ManifestError, NotFound) as error:
        facts = error.as_dict()
        return {"city": name, "faults": error.sentence().splitlines(), "facts": facts.get("faults", [facts])}
    missing = [_batches(manifest, source, here)[1] for source in manifest.sources] if files else []
    return {"city": manifest.city, "faults": [sentence for sentence in missing if sentence]}


def _batches(manifest: CityManifest, source: Source, here: Settings) -> tuple[int, str | None]:
    from mtgpt.ingest.pull.locate import locate

    try:
        return len(locate(manifest, source, here)), None
    except (NotFound, ManifestError) as error:
        return 0, error.sentence()


def _city_view(manifest: CityManifest, batches: list[tuple[int, str | None]]) -> RenderableType:
    place = ", ".join(part for part in (manifest.time_zone, manifest.country, manifest.subdivision) if part)
    head = f"{manifest.name} ({manifest.city}), {place}" + (", simulated" if manifest.simulated else "")
    rows = [
        {
            "source": source.id,
            "kind": source.kind,
            "from": source.location,
            "further files": ", ".join(source.files) or None,
            "batches": count,
            "schedule": source.schedule,
            "licence": source.licence or manifest.licence,
        }
        for source, (count, _) in zip(manifest.sources, batches, strict=True)
    ]
    panel = manifest.panel
    days = "all days" if panel.days == "all" else panel.days
    spec = (
        f"panel: {panel.interval_s // 60} min, {days}, {panel.hours[0]}–{panel.hours[1]}, "
        f"{', '.join(panel.variables) if panel.variables else 'all variables'}, "
        f"corridors by {panel.corridors} of at most {panel.corridor_size}"
    )
    columns = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    notes = [Text(sentence, style="yellow") for _, sentence in batches if sentence]
    description = [Text(manifest.description.strip())] if manifest.description else []
    table = _whole_words(rows_table(rows, columns), "source", "kind", "licence")
    return Group(Text(head, style="bold"), *description, Text(), table, Text(), Text(spec), *notes)
