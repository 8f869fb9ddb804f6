"""From a city's manifest to its rows in the lake: pull, keep the bytes, read, judge, land. Each batch once."""

from __future__ import annotations

import dataclasses
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mtgpt.errors import LakeError, MTGPTError
from mtgpt.ingest.adapters import adapters
from mtgpt.ingest.pull.breaker import Breaker
from mtgpt.ingest.pull.locate import locate
from mtgpt.ingest.pull.pull import pull
from mtgpt.lake.ahead import one_ahead
from mtgpt.lake.arrival import Arrivals
from mtgpt.lake.derived.derive import derive
from mtgpt.lake.landing import known_result, land
from mtgpt.lake.staging import workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mtgpt.ingest.adapter import Adapter
    from mtgpt.ingest.manifest import CityManifest, Source
    from mtgpt.lake.arrival import Arrived
    from mtgpt.lake.batch import Batch, BatchResult
    from mtgpt.lake.lake import Lake
    from mtgpt.lake.reading import Judged
    from mtgpt.settings import Settings


def ingest_city(
    manifest: CityManifest,
    lake: Lake,
    *,
    settings: Settings,
    only: Sequence[str] | None = None,
    progress: Callable[[str], None] | None = None,
    failed: Callable[[Source, MTGPTError], None] | None = None,
    kinds: Mapping[str, Adapter] | None = None,
) -> list[BatchResult]:
    """Brings every batch that a city's sources offer now into the lake, each exactly once.

    Args:
        manifest: The city.
        lake: Where to.
        settings: Where files of the manifest lie; the salt of trip keys.
        only: Ids of the sources to ingest; all if not given.
        progress: Called with what is going on, in a few words.
        failed: Called with a source that could not be read, after which the others go on; without it, the first
            failure is raised. A lake that cannot be written is always raised.
        kinds: Adapters by kind; the built-in ones if not given.

    Returns:
        One result per batch, and one for the counts derived from new trips, in the order they were done.

    Raises:
        NotFound: A name in ``only`` is no source of the city.
        LakeError: The disk is full or read-only, or another process kept writing.
        MTGPTError: A source failed and ``failed`` was not given.
    """
    say = progress or (lambda _: None)
    sources = manifest.sources if only is None else [manifest.source(name) for name in only]
    results: list[BatchResult] = []
    breaker = Breaker()
    known = adapters() if kinds is None else kinds
    for source in sources:
        try:
            with workspace(lake.staging) as folder:
                arrivals = Arrivals(
                    manifest=manifest,
                    source=source,
                    adapter=known[source.kind],
                    lake=lake,
                    settings=settings,
                    folder=folder,
                    say=say,
                    pull=partial(pull, breaker=breaker),
                )
                for result in _batches(arrivals):
                    results.append(result)  # noqa: PERF402 - what landed stays known where a later batch fails
        except LakeError:
            raise
        except MTGPTError as error:
            if failed is None:
                raise
            failed(source, error)
    results += derive(lake, manifest, progress=say)
    return results


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A batch that was read and judged; ``judged`` is None where the ledger has it already."""

    batch: Batch
    judged: Judged | None
    seconds: float


def _batches(arrivals: Arrivals) -> Iterator[BatchResult]:
    """Ingests a source's batches one by one; the next one is read while one is written."""
    with closing(one_ahead(_read(arrivals))) as read:
        for one in read:
            started = time.monotonic()
            if one.judged is None:
                result = known_result(one.batch.batch_id, arrivals.lake)
            else:
                name = f"{arrivals.source.id}: {one.batch.files[0].name}"
                arrivals.say(f"{name}: writing {one.judged.rows:,} rows")
                result = land(one.batch, one.judged, arrivals.lake)
            yield dataclasses.replace(result, seconds=one.seconds + time.monotonic() - started)
    arrivals.lake.past(arrivals.manifest.city, arrivals.source.id).save()


def _read(arrivals: Arrivals) -> Iterator[_Read]:
    pulled: dict[str, Arrived] = {}
    for index, location in enumerate(locate(arrivals.manifest, arrivals.source, arrivals.settings)):
        started = time.monotonic()
        batch = arrivals.batch(location, pulled)
        judged = None if arrivals.is_known(batch) else arrivals.judge(batch, arrivals.folder / str(index))
        yield _Read(batch=batch, judged=judged, seconds=time.monotonic() - started)
