"""What a manifest says against what this installation knows: adapters, variables, public holidays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtgpt.ingest.adapter import DATA
from mtgpt.ingest.faults import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mtgpt.ingest.adapter import Adapter
    from mtgpt.ingest.faults import Faults, Keys
    from mtgpt.ingest.manifest import CityManifest, Source


def check(
    manifest: CityManifest, faults: Faults, *, adapters: Mapping[str, Adapter], vocabulary: Mapping[str, object]
) -> None:
    """Adds a fault for each kind, role, option, variable, country and subdivision that is not known.

    Args:
        manifest: Sound in itself.
        faults: Of its file.
        adapters: By kind.
        vocabulary: Known variables by name.
    """
    for index, source in enumerate(manifest.sources):
        _check_source(source, ("sources", index), faults, adapters)
    for index, name in enumerate(manifest.panel.variables or ()):
        if name not in vocabulary:
            faults.add(("panel", "variables", index), "unknown variable", got=name, expected=_known(name, vocabulary))
    _check_holidays(manifest, faults)


def _check_source(source: Source, here: Keys, faults: Faults, adapters: Mapping[str, Adapter]) -> None:
    adapter = adapters.get(source.kind)
    if adapter is None:
        faults.add((*here, "kind"), "unknown kind", got=source.kind, expected=_known(source.kind, sorted(adapters)))
        return
    faults.validate(adapter.Options, source.options, (*here, "options"))
    roles = sorted(adapter.roles.known - {DATA})
    for role in source.files:
        if role not in roles:
            expected = _known(role, roles) if roles else "none"
            faults.add((*here, "files", role), f"{source.kind} has no such role", got=role, expected=expected)
    missing = adapter.roles.required - source.files.keys() - {DATA}
    if missing:
        faults.add((*here, "files"), f"{source.kind} needs further files", expected=", ".join(sorted(missing)))


def _check_holidays(manifest: CityManifest, faults: Faults) -> None:
    part = manifest.subdivision
    if manifest.country is None:
        if part is not None:
            faults.add(("subdivision",), "a subdivision without its country", got=part, expected="country too")
        return
    import holidays  # noqa: PLC0415 - 0.2 s, and a manifest without a country needs none

    if not _is_known(manifest.country, None):
        known = holidays.list_supported_countries(include_aliases=False)
        expected = nearest(manifest.country, known) or "an ISO 3166-1 alpha-2 code with known holidays, or null"
        faults.add(("country",), "no public holidays are known", got=manifest.country, expected=expected)
    elif part is not None and not _is_known(manifest.country, part):
        known = holidays.list_supported_countries(include_aliases=False).get(manifest.country, [])
        faults.add(("subdivision",), "unknown subdivision", got=part, expected=", ".join(known) or "none")


def _is_known(country: str, subdivision: str | None) -> bool:
    import holidays  # noqa: PLC0415

    try:
        holidays.country_holidays(country, subdiv=subdivision)
    except NotImplementedError:
        return False
    return True


def _known(word: str, known: Iterable[str]) -> str:
    names = list(known)
    return nearest(word, names) or (names[0] if len(names) == 1 else f"one of {', '.join(names)}")
