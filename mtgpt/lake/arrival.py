"""What one source offers, as batches: pulled, safe in bronze, named by their bytes, then read and judged.

Nothing here touches a table; whoever lands the batches decides when, and how many at a time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.errors import NotFound
from mtgpt.ingest.adapter import FeedContext, FeedFile
from mtgpt.ingest.manifest import source_options
from mtgpt.ingest.pull.address import redacted
from mtgpt.ingest.pull.locate import is_url
from mtgpt.ingest.pull.pull import pull
from mtgpt.lake.batch import SOURCE_ROLE, Batch, batch_id
from mtgpt.lake.disk import refusals
from mtgpt.lake.lake import BATCH
from mtgpt.lake.reading import read_batch
from mtgpt.lake.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mtgpt.ingest.adapter import Adapter
    from mtgpt.ingest.manifest import CityManifest, Source
    from mtgpt.ingest.pull.locate import BatchLocation
    from mtgpt.ingest.pull.pull import Pulled
    from mtgpt.lake.lake import Lake
    from mtgpt.lake.reading import Judged
    from mtgpt.settings import Settings

# A watch of many feeds judges a batch every second: what is lost of the past in a crash is a minute of it.
_PAST_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A raw file that is safe in bronze.

    Attributes:
        file: The file.
        facts: What the ledger keeps of its pull: where from, and what the server calls this version.
        fresh_s: For how long the server says that it will not change.
    """

    file: FeedFile
    facts: Mapping[str, Any] = field(default_factory=dict)
    fresh_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Where one source's batches arrive.

    Attributes:
        manifest: The city.
        source: One of its sources.
        adapter: Reads its kind.
        lake: Its bronze takes the bytes; its ledger knows what came before.
        settings: The salt of trip keys.
        folder: A workspace on the lake's disk that nobody else writes to.
        say: Called with what is going on, in a few words.
        pull: Fetches one file, as :func:`mtgpt.ingest.pull.pull.pull`.
        latest: What came last from an address, for callers that ask again; the ledger is asked where it is not here.
    """

    manifest: CityManifest
    source: Source
    adapter: Adapter
    lake: Lake
    settings: Settings
    folder: Path
    say: Callable[[str], None]
    pull: Callable[..., Pulled] = pull
    latest: dict[str, Arrived] = field(default_factory=dict)

    def batch(self, location: BatchLocation, pulled: dict[str, Arrived]) -> Batch:
        """Pulls the files of one batch into bronze and names the batch.

        Args:
            location: Where they lie.
            pulled: Files that were pulled a moment ago, by location; those of this batch are added.

        Raises:
            MTGPTError: As :func:`mtgpt.ingest.pull.pull.pull`.
            LakeError: Bronze cannot be written.
        """
        options = source_options(self.source, self.adapter).model_dump(mode="json")
        arrived = [self._fetch(role, at, pulled) for role, at in location.files.items()]
        return Batch(
            batch_id=batch_id(
                city_id=self.manifest.city,
                source_id=self.source.id,
                kind=self.adapter.kind,
                adapter_version=self.adapter.version,
                options=options,
                files=[(one.file.role, one.file.sha256) for one in arrived],
            ),
            city_id=self.manifest.city,
            source_id=self.source.id,
            kind=self.adapter.kind,
            adapter_version=self.adapter.version,
            received_at=datetime.now(UTC),
            files=(*(one.file for one in arrived), self._recipe(options)),
            facts={one.file.role: one.facts for one in arrived},
        )

    def is_known(self, batch: Batch) -> bool:
        """Whether the ledger has the batch."""
        ledger = self.lake.table(BATCH)
        return ledger.exists and ledger.appended(ledger.open(), batch.batch_id) is not None

    def judge(self, batch: Batch, folder: Path) -> Judged:
        """Reads and judges a batch.

        Args:
            batch: The batch.
            folder: Where rows go that do not fit in memory; made here.

        Raises:
            FeedError: The bytes are not what their kind says.
            LakeError: The disk refuses.
        """
        with refusals(folder):
            folder.mkdir()
        context = FeedContext(
            city_id=batch.city_id,
            time_zone=self.manifest.time_zone,
            source_id=batch.source_id,
            received_at=batch.received_at,
            salt=self.settings.salt.get_secret_value().encode(),
        )
        options = source_options(self.source, self.adapter)
        past = self.lake.past(batch.city_id, batch.source_id)
        judged = read_batch(
            self.adapter,
            options,
            batch,
            self.lake,
            context=context,
            staged=Staging(folder=folder),
            progress=self.say,
            past=past,
        )
        past.save(every_s=_PAST_EVERY_S)
        return judged

    def _fetch(self, role: str, location: str, pulled: dict[str, Arrived]) -> Arrived:
        # A further file that belongs to every batch of the source is pulled once.
        if location not in pulled:
            pulled[location] = self._pull(role, location, self._before(location) if is_url(location) else None)
        return pulled[location]

    def _pull(self, role: str, location: str, before: Arrived | None) -> Arrived:
        web = is_url(location)
        shown = redacted(location) if web else location
        self.say(f"{self.source.id}: pulling {shown.rsplit('/', 1)[-1]}")
        known = {} if before is None else before.facts
        got = self.pull(
            location,
            self.folder,
            source=self.source,
            etag=known.get("etag"),
            modified=known.get("last_modified"),
            measured=role in self.adapter.roles.measured,
        )
        if got.path is None:
            assert before is not None
            try:
                path = self.lake.bronze.path(before.file.sha256)
            except NotFound:
                # The server vouches for bytes that somebody removed while it was asked.
                return self._pull(role, location, None)
            name, sha256, size = before.file.name, before.file.sha256, before.file.size
        else:
            name, size = got.name, got.size
            sha256 = self.lake.bronze.put(got.path, sha256=got.sha256, move=web, scratch=self.folder)
            path = self.lake.bronze.path(sha256)
        file = FeedFile(role=role, path=path, name=name, sha256=sha256, size=size)
        # A query may hold a key: the ledger keeps what it takes to know the address again, not the address.
        tags = {name: tag for name, tag in (("etag", got.etag), ("last_modified", got.last_modified)) if tag}
        facts = {"location": shown, "location_sha256": _digest(location), **tags} if tags else {}
        arrived = Arrived(file=file, facts=facts, fresh_s=got.fresh_s)
        if web:
            self.latest[location] = arrived
        return arrived

    def _before(self, location: str) -> Arrived | None:
        """What is known of the last pull of a URL, if its bytes are still in bronze."""
        known = self.latest.get(location)
        if known is not None:
            return known if known.facts and known.file.sha256 in self.lake.bronze else None
        wanted = _digest(location)
        rows = self.lake.scan(BATCH, city_id=self.manifest.city).filter(pl.col("source_id") == self.source.id)
        with refusals(BATCH):
            written = rows.sort("received_at").select("files").collect()["files"].to_list()
        for files in reversed(written):
            for file in json.loads(files):
                if file.get("location_sha256") == wanted and file["sha256"] in self.lake.bronze:
                    path = self.lake.bronze.path(file["sha256"])
                    facts = {key: file[key] for key in ("etag", "last_modified") if file.get(key)}
                    there = FeedFile(
                        role=file["role"], path=path, name=file["name"], sha256=file["sha256"], size=file["size"]
                    )
                    return Arrived(file=there, facts=facts)
        return None

    def _recipe(self, options: Any) -> FeedFile:
        """What a replay has to know, as a raw file of its own: the manifest may have changed or gone by then."""
        text = json.dumps(
            {
                "city": self.manifest.city,
                "source": self.source.id,
                "kind": self.adapter.kind,
                "time_zone": self.manifest.time_zone,
                "options": options,
            },
            sort_keys=True,
        )
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        if sha256 not in self.lake.bronze:
            path = self.folder / "source.json"
            with refusals(path):
                path.write_text(text, "utf-8")
            self.lake.bronze.put(path, sha256=sha256, move=True)
        return FeedFile(
            role=SOURCE_ROLE,
            path=self.lake.bronze.path(sha256),
            name="source.json",
            sha256=sha256,
            size=len(text.encode()),
        )


def _digest(location: str) -> str:
    return hashlib.sha256(location.encode()).hexdigest()
