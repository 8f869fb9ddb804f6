"""What a feed adapter is: raw files of one batch in, chunks of contract tables out.

An adapter knows one family of feeds and nothing of lakes, panels or HTTP. It reads files that were already pulled,
converts units and local times, and yields bounded frames; whatever it cannot read row by row it marks with
:data:`FAULT` instead of dropping it, so that every row of a feed is accounted for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    import polars as pl
    from pydantic import BaseModel

DATA = "data"
"""Role of a source's own ``path`` or ``url``; the further files of a batch have the roles of its ``files``."""

ROW = "__row"
"""Optional UInt64 column of a chunk: position of the row in the raw file, from 0, header not counted."""

FAULT = "__fault"
"""Optional Utf8 column of a chunk: id of the rule that the adapter already found broken, null for a sound row."""

RAW = "__raw"
"""Optional Utf8 column of a chunk: JSON of the raw row, at least where :data:`FAULT` is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedFile:
    """One raw file of a batch, pulled and hashed.

    Attributes:
        role: :data:`DATA`, or the key under ``files`` in the manifest.
        path: Where the bytes lie now; its name may be a hash.
        name: The file's own name, with its suffixes (``green_2020-03.csv.gz``).
        sha256: Of the raw bytes, 64 hex digits.
        size: Bytes.
    """

    role: str
    path: Path
    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedContext:
    """What an adapter may know of where a batch comes from.

    Attributes:
        city_id: The manifest's ``city``.
        time_zone: IANA name; naive local times of the feed are in it.
        source_id: The source's ``id``.
        received_at: UTC, when the bytes arrived.
        salt: Key of the hash that makes trip keys; never shown.
    """

    city_id: str
    time_zone: str
    source_id: str
    received_at: datetime
    salt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Rows for one table.

    Attributes:
        table: Contract name (``observation``, ``trip``, ``spot``, …).
        frame: That contract's columns without ``city_id``, ``source_id`` and ``batch_id``, which the lake adds;
            optional columns may be left out; :data:`ROW`, :data:`FAULT` and :data:`RAW` may be added. At most about a
            million rows.
        facts: What the ledger should know of the batch's data file: ``entities`` (0 says that a feed without rows is
            sound), and for live feeds ``feed_time`` (ISO), ``watched`` and ``min_share``, by which
            :mod:`mtgpt.lake.shrinkage` sees a message that lost its end.
    """

    table: str
    frame: pl.DataFrame
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roles:
    """The files that an adapter wants in a batch.

    Attributes:
        required: Without these a batch cannot be read.
        optional: Used where the manifest names them.
        measured: A file that reads well when its end is missing: over HTTP the server must say how long it is.
    """

    required: frozenset[str] = frozenset({DATA})
    optional: frozenset[str] = frozenset()
    measured: frozenset[str] = frozenset()

    @property
    def known(self) -> frozenset[str]:
        """Every role that a manifest may name."""
        return self.required | self.optional


class Adapter(Protocol):
    """One family of feeds."""

    @property
    def kind(self) -> str:
        """The ``kind`` that a manifest's source names."""
        ...

    @property
    def version(self) -> int:
        """Raised whenever the same bytes would give other rows."""
        ...

    @property
    def roles(self) -> Roles:
        """Files of a batch."""
        ...

    @property
    def Options(self) -> type[BaseModel]:  # noqa: N802 - it is a class
        """Pydantic model of the source's ``options``; unknown keys must be forbidden."""
        ...

    def read(self, files: Mapping[str, FeedFile], options: Any, context: FeedContext) -> Iterator[Chunk]:
        """Reads one batch, streaming.

        Args:
            files: By role; every required role is there.
            options: An instance of :attr:`Options`.
            context: City, zone, source, time of arrival.

        Yields:
            Chunks in any order of tables. Reading the same bytes twice gives the same rows.

        Raises:
            FeedError: The bytes are not what this kind says.
        """
        ...
