"""From a city's manifest to its rows in the lake: pull, keep the bytes, read, judge, land. Each batch once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.errors import LakeError, MTGPTError
from mtgpt.ingest.adapter import FeedContext, FeedFile
from mtgpt.ingest.adapters import adapters
from mtgpt.ingest.address import redacted
from mtgpt.ingest.breaker import Breaker
from mtgpt.ingest.locate import is_url, locate
from mtgpt.ingest.manifest import source_options
from mtgpt.ingest.pull import pull
from mtgpt.lake.ahead import one_ahead
from mtgpt.lake.batch import SOURCE_ROLE, Batch, batch_id
from mtgpt.lake.derive import derive
from mtgpt.lake.disk import refusals
from mtgpt.lake.lake import BATCH
from mtgpt.lake.landing import known_result, land
from mtgpt.lake.reading import read_batch
from mtgpt.lake.staging import Staging, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic import BaseModel

    from mtgpt.ingest.adapter import Adapter
    from mtgpt.ingest.locate import BatchLocation
    from mtgpt.ingest.manifest import CityManifest, Source
    from mtgpt.lake.batch import BatchResult
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
                intake = _Intake(
                    manifest=manifest,
                    source=source,
                    adapter=known[source.kind],
                    lake=lake,
                    settings=settings,
                    folder=folder,
                    breaker=breaker,
                    say=say,
                )
                for result in intake.batches():
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
class _Arrived:
    """A raw file that is safe in bronze."""

    file: FeedFile
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """A batch that was read and judged; ``judged`` is None where the ledger has it already."""

    batch: Batch
    judged: Judged | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Intake:
    """One source's intake."""

    manifest: CityManifest
    source: Source
    adapter: Adapter
    lake: Lake
    settings: Settings
    folder: Path
    breaker: Breaker
    say: Callable[[str], None]
    pulled: dict[str, _Arrived] = field(default_factory=dict)

    def batches(self) -> Iterator[BatchResult]:
        """Ingests the source's batches one by one; the next one is read while one is written."""
        with closing(one_ahead(self._read())) as read:
            for one in read:
                started = time.monotonic()
                if one.judged is None:
                    result = known_result(one.batch.batch_id, self.lake)
                else:
                    self.say(f"{self.source.id}: {one.batch.files[0].name}: writing {one.judged.rows:,} rows")
                    result = land(one.batch, one.judged, self.lake)
                yield dataclasses.replace(result, seconds=one.seconds + time.monotonic() - started)

    def _read(self) -> Iterator[_Read]:
        options = source_options(self.source, self.adapter)
        recipe = self._recipe(options)
        for index, location in enumerate(locate(self.manifest, self.source, self.settings)):
            started = time.monotonic()
            batch = self._batch(location, options, recipe)
            judged = None
            if not self._is_known(batch):
                folder = self.folder / str(index)
                with refusals(folder):
                    folder.mkdir()
                judged = self._judge(batch, options, folder)
            yield _Read(batch=batch, judged=judged, seconds=time.monotonic() - started)

    def _batch(self, location: BatchLocation, options: BaseModel, recipe: FeedFile) -> Batch:
        arrived = [self._fetch(role, at) for role, at in location.files.items()]
        return Batch(
            batch_id=batch_id(
                city_id=self.manifest.city,
                source_id=self.source.id,
                kind=self.adapter.kind,
                adapter_version=self.adapter.version,
                options=options.model_dump(mode="json"),
                files=[(one.file.role, one.file.sha256) for one in arrived],
            ),
            city_id=self.manifest.city,
            source_id=self.source.id,
            kind=self.adapter.kind,
            adapter_version=self.adapter.version,
            received_at=datetime.now(UTC),
            files=(*(one.file for one in arrived), recipe),
            facts={one.file.role: one.facts for one in arrived},
        )

    def _is_known(self, batch: Batch) -> bool:
        ledger = self.lake.table(BATCH)
        return ledger.exists and ledger.appended(ledger.open(), batch.batch_id) is not None

    def _judge(self, batch: Batch, options: BaseModel, folder: Path) -> Judged:
        context = FeedContext(
            city_id=batch.city_id,
            time_zone=self.manifest.time_zone,
            source_id=batch.source_id,
            received_at=batch.received_at,
            salt=self.settings.salt.get_secret_value().encode(),
        )
        staged = Staging(folder=folder)
        return read_batch(self.adapter, options, batch, self.lake, context=context, staged=staged, progress=self.say)

    def _fetch(self, role: str, location: str) -> _Arrived:
        # A further file that belongs to every batch of the source is pulled once.
        if location in self.pulled:
            return self.pulled[location]
        web = is_url(location)
        shown = redacted(location) if web else location
        self.say(f"{self.source.id}: pulling {shown.rsplit('/', 1)[-1]}")
        before = _last(self.lake, self.manifest.city, self.source.id, location) if web else None
        got = pull(
            location,
            self.folder,
            source=self.source,
            etag=None if before is None else before["etag"],
            breaker=self.breaker,
        )
        if got.path is None and before is not None:
            name, sha256, size = before["name"], before["sha256"], before["size"]
        else:
            assert got.path is not None
            name, size = got.name, got.size
            sha256 = self.lake.bronze.put(got.path, sha256=got.sha256, move=web, scratch=self.folder)
        file = FeedFile(role=role, path=self.lake.bronze.path(sha256), name=name, sha256=sha256, size=size)
        # A query may hold a key: the ledger keeps what it takes to know the address again, not the address.
        facts = {"location": shown, "location_sha256": _digest(location), "etag": got.etag} if web and got.etag else {}
        self.pulled[location] = _Arrived(file=file, facts=facts)
        return self.pulled[location]

    def _recipe(self, options: BaseModel) -> FeedFile:
        """What a replay has to know, as a raw file of its own: the manifest may have changed or gone by then."""
        text = json.dumps(
            {
                "city": self.manifest.city,
                "source": self.source.id,
                "kind": self.adapter.kind,
                "time_zone": self.manifest.time_zone,
                "options": options.model_dump(mode="json"),
            },
            sort_keys=True,
        )
        path = self.folder / "source.json"
        with refusals(path):
            path.write_text(text, "utf-8")
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        self.lake.bronze.put(path, sha256=sha256, move=True)
        return FeedFile(
            role=SOURCE_ROLE, path=self.lake.bronze.path(sha256), name=path.name, sha256=sha256, size=len(text.encode())
        )


def _digest(location: str) -> str:
    return hashlib.sha256(location.encode()).hexdigest()


def _last(lake: Lake, city_id: str, source_id: str, location: str) -> dict[str, Any] | None:
    """What the ledger knows of the last pull of a URL, if its bytes are still in bronze."""
    wanted = _digest(location)
    rows = lake.scan(BATCH, city_id=city_id).filter(pl.col("source_id") == source_id).sort("received_at")
    for files in reversed(rows.select("files").collect()["files"].to_list()):
        for file in json.loads(files):
            if file.get("location_sha256") == wanted and file.get("etag") and file["sha256"] in lake.bronze:
                return file
    return None
