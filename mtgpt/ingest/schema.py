"""The JSON schema of city manifests, for editors: completion and marks while one is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from mtgpt.ingest.adapter import DATA
from mtgpt.ingest.manifest import CityManifest, PanelSpec, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mtgpt.ingest.adapter import Adapter

FILE = "city.schema.json"
"""Its name beside the manifests, which refer to it in their first line."""


def manifest_schema(adapters: Mapping[str, Adapter], variables: Iterable[str]) -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a manifest.

    Args:
        adapters: Known kinds of feeds; each gives its source its own options and files.
        variables: Known variables.
    """
    kinds = sorted(adapters)
    models = [CityManifest, Source, PanelSpec, *(adapters[kind].Options for kind in kinds)]
    refs, shared = models_json_schema([(model, "validation") for model in dict.fromkeys(models)])
    definitions = shared["$defs"]
    city = definitions.pop(_name(refs[CityManifest, "validation"]))
    source = definitions[_name(refs[Source, "validation"])]
    source["properties"]["kind"]["enum"] = kinds
    source["oneOf"] = [{"required": ["path"]}, {"required": ["url"]}]
    source["allOf"] = [_of_kind(adapters[kind], refs[adapters[kind].Options, "validation"]) for kind in kinds]
    panel = definitions[_name(refs[PanelSpec, "validation"])]
    panel["properties"]["variables"]["anyOf"][0]["items"]["enum"] = list(variables)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "MT-GPT city manifest"}
    return head | {key: value for key, value in city.items() if key != "title"} | {"$defs": definitions}


def _of_kind(adapter: Adapter, options: Mapping[str, Any]) -> dict[str, Any]:
    files: dict[str, Any] = {"propertyNames": {"enum": sorted(adapter.roles.known - {DATA})}}
    then: dict[str, Any] = {"properties": {"options": dict(options), "files": files}}
    required = sorted(adapter.roles.required - {DATA})
    if required:
        files["required"] = required
        then["required"] = ["files"]
    if any(field.is_required() for field in adapter.Options.model_fields.values()):
        then["required"] = [*then.get("required", []), "options"]
    return {"if": {"properties": {"kind": {"const": adapter.kind}}, "required": ["kind"]}, "then": then}


def _name(reference: Mapping[str, Any]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]
