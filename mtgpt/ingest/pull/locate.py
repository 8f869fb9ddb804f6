"""From what a manifest says of a source to the files of each of its batches."""

from __future__ import annotations

import re
from dataclasses import dataclass
from glob import escape, glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING

from mtgpt.errors import ManifestError, NotFound
from mtgpt.ingest.adapter import DATA
from mtgpt.ingest.manifest import PATH_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mtgpt.ingest.manifest import CityManifest, Source
    from mtgpt.settings import Settings

_VARIABLE = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLocation:
    """Where the files of one batch lie.

    Attributes:
        files: By role, the source's own first under :data:`~mtgpt.ingest.adapter.DATA`; absolute paths or URLs.
    """

    files: Mapping[str, str]


def locate(manifest: CityManifest, source: Source, settings: Settings) -> list[BatchLocation]:
    """The batches of a source: one, or one for each match of a glob, sorted by name.

    Args:
        manifest: Relative paths start from its folder.
        source: One of its sources.
        settings: What ``${MTGPT_REAL_DATA}``, ``${MTGPT_HOME}`` and ``${MTGPT_CITIES}`` stand for.

    Raises:
        NotFound: No file matches.
        ManifestError: A further file whose glob matches several.
    """
    where = f"{manifest.city}.{source.id}"
    further = {role: _one(location, role, where, manifest, settings) for role, location in source.files.items()}
    own = [source.url] if source.url is not None else _matches(source.path or "", where, manifest, settings)
    return [BatchLocation(files={DATA: location, **further}) for location in own]


def is_url(location: str) -> bool:
    """Whether a location is pulled over the network."""
    return "://" in location


def _one(location: str, role: str, where: str, manifest: CityManifest, settings: Settings) -> str:
    if is_url(location):
        return location
    found = _matches(location, f"{where}.files.{role}", manifest, settings)
    if len(found) > 1:
        raise ManifestError("several files match", where=f"{where}.files.{role}", got=len(found), expected="one file")
    return found[0]


def _matches(location: str, where: str, manifest: CityManifest, settings: Settings) -> list[str]:
    folders: dict[str, Path] = dict(
        zip(PATH_VARIABLES, (settings.real_data, settings.home, settings.cities), strict=True)
    )
    variable = _VARIABLE.match(location)
    folder = folders[variable[1]].absolute() if variable else manifest.file.parent
    rest = location[variable.end() :].lstrip("/") if variable else location
    if has_magic(rest):
        # Only the manifest's own words are a pattern; a folder may well be called [old].
        found = sorted(one for one in glob(str(Path(escape(str(folder))) / rest)) if Path(one).is_file())  # noqa: PTH207
    else:
        found = [str(folder / rest)] if (folder / rest).exists() else []
    if not found:
        raise NotFound(
            "no file matches" if has_magic(rest) else "no such file",
            where=where,
            got=location,
            next_step=f"set {variable[1]} to the folder that holds it"
            if variable
            else "check the path in the manifest",
        )
    return found
