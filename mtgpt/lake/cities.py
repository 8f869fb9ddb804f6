"""Several cities at once: one after the other in this process, or each in a process of its own.

Either way the ledger is the same: a batch is named by its bytes, a table's writers take turns by file locks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mtgpt.errors import LakeError, MTGPTError
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mtgpt.ingest.manifest import CityManifest, Source
    from mtgpt.lake.batch import BatchResult
    from mtgpt.settings import Settings

Engine = Literal["serial", "ray"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CityOutcome:
    """What became of one city's feeds.

    Attributes:
        city: Its id.
        name: Its name for people.
        batches: One result per batch, derived ones included.
        failed: Facts of every source that could not be read: ``source_id``, ``sentence``, ….
        fault: What stopped the whole city, if anything did.
    """

    city: str
    name: str
    batches: list[BatchResult] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    fault: MTGPTError | None = None

    @property
    def is_well(self) -> bool:
        """Whether every source was read and no batch is held."""
        return not self.failed and not any(one.status == "held" for one in self.batches)


def ingest_cities(
    manifests: Sequence[CityManifest],
    *,
    settings: Settings,
    only: Sequence[str] | None = None,
    engine: Engine = "serial",
    progress: Callable[[str], None] | None = None,
) -> list[CityOutcome]:
    """Ingests cities; a source that cannot be read keeps no other from landing.

    Args:
        manifests: The cities.
        settings: The lake, where files of the manifests lie, the salt of trip keys.
        only: Ids of the sources to ingest; all if not given.
        engine: ``serial``, or ``ray``: one Ray task per city.
        progress: Called with what is going on, in a few words.

    Returns:
        One outcome per city, in the order of ``manifests``.

    Raises:
        UsageError: Ray is asked for and is not installed.
        NotFound: A name in ``only`` is no source of a city.
        LakeError: The disk is full or read-only, or another process kept writing.
    """
    say = progress or (lambda _: None)
    if engine == "ray":
        from mtgpt.lake.on_ray import ingest_on_ray  # noqa: PLC0415 - an extra, and slow to load

        outcomes = ingest_on_ray(manifests, settings=settings, only=only, progress=say)
    else:
        outcomes = [ingest_one(one, settings=settings, only=only, progress=say) for one in manifests]
    for outcome in outcomes:
        if outcome.fault is not None:
            raise outcome.fault
    return outcomes


def ingest_one(
    manifest: CityManifest,
    *,
    settings: Settings,
    only: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> CityOutcome:
    """Ingests one city.

    Raises:
        NotFound: A name in ``only`` is no source of the city.
        LakeError: The lake cannot be written.
    """
    failures: list[dict[str, Any]] = []

    def failed(at: Source, error: MTGPTError) -> None:
        failures.append({"source_id": at.id, "sentence": error.sentence(), **error.as_dict()})

    lake = Lake.open(settings.lake)
    results = ingest_city(manifest, lake, settings=settings, only=only, progress=progress, failed=failed)
    return CityOutcome(city=manifest.city, name=manifest.name, batches=results, failed=failures)


def died(manifest: CityManifest, how: str) -> CityOutcome:
    """The outcome of a city whose process ended without one."""
    fault = LakeError(
        "the process that ingested the city died",
        where=manifest.city,
        got=how,
        next_step="nothing is half-written: run the same command again, perhaps with --engine serial",
    )
    return CityOutcome(city=manifest.city, name=manifest.name, fault=fault)
