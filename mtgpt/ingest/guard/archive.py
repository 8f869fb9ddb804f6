"""Archives from strangers: gzip and zip opened behind caps that are counted on the bytes read.

A zip of 2.4 MB can expand to 1 GB, and what its directory says of sizes is a claim. Four ways in:

* :func:`open_guarded` streams a plain, gzipped or single-member zipped file;
* :func:`expanded` writes the same to a file, for readers that want a path;
* :func:`checked_zip` inspects a container that another reader opens itself (``.xlsx``, ``.npz``);
* :func:`mtgpt.ingest.guard.zip_file.zip_folder` streams the files of a zip that stand on an allow-list (GTFS).
"""

from __future__ import annotations

import io
import os
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mtgpt.errors import FeedError, LakeError
from mtgpt.ingest.guard.meter import DEFAULT_CAPS, PIECE, Caps, Counted, Meter, buffered, refuse_large
from mtgpt.ingest.guard.zip_file import GuardedZip, ZipFolder, zip_folder

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DEFAULT_CAPS",
    "Caps",
    "ZipFolder",
    "checked_zip",
    "expanded",
    "open_guarded",
    "open_member",
    "zip_folder",
    "zip_members",
]

_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


class _Gunzip(Counted):
    """A gzip file, several members after one another included."""

    def __init__(self, raw: BinaryIO, name: str, meter: Meter) -> None:
        super().__init__(meter)
        self._raw = raw
        self._name = name
        self._decoder = zlib.decompressobj(wbits=31)
        self._pending = b""
        self._ended = False

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _produce(self, limit: int) -> bytes:
        while not self._ended:
            piece = self._pending or self._raw.read(PIECE)
            try:
                data = self._decoder.decompress(piece, limit)
            except zlib.error as error:
                raise FeedError(f"damaged gzip data: {error}", where=self._name) from None
            self._pending = self._decoder.unconsumed_tail
            if self._decoder.eof:
                self._next_member()
            elif not piece and not data:
                raise FeedError("the gzip file is truncated", where=self._name, next_step="pull it again")
            if data:
                return data
        return b""

    def _next_member(self) -> None:
        # RFC 1952 section 2.2: members may follow each other; tapes pad with zeros.
        rest = self._decoder.unused_data.lstrip(b"\0")
        while len(rest) < len(_GZIP) and (more := self._raw.read(PIECE)):
            rest = (rest + more).lstrip(b"\0")
        if not rest:
            self._ended = True
        elif not rest.startswith(_GZIP):
            raise FeedError("the gzip file has other bytes after its end", where=self._name)
        else:
            self._decoder = zlib.decompressobj(wbits=31)
            self._pending = rest


def open_guarded(path: Path, name: str, *, caps: Caps = DEFAULT_CAPS) -> BinaryIO:
    """Opens a raw file for reading: as it is, or decompressed when its first bytes say gzip or zip.

    Args:
        path: Where the bytes lie; may be named by a hash.
        name: The feed's own name for it, for errors.
        caps: How much may come out.

    Returns:
        A buffered binary stream; the caller closes it.

    Raises:
        SourceRefused: A cap, or a zip that :func:`zip_members` refuses.
        FeedError: Truncated or damaged (possibly only when read to that point), or a zip with several files.
    """
    raw = _open(path, name)
    try:
        head = raw.peek(4)[:4]
        size = os.fstat(raw.fileno()).st_size
        if head.startswith(_GZIP):
            return buffered(_Gunzip(raw, name, Meter(name, caps, size)))
        if head not in _ZIP:
            refuse_large(name, size, caps.expanded_bytes)
            return raw
    except BaseException:
        raw.close()
        raise
    raw.close()
    return _member(path, name, caps, _only)


def open_member(path: Path, name: str, member: str, *, caps: Caps = DEFAULT_CAPS) -> BinaryIO:
    """Opens one named file of a zip for reading.

    Raises:
        SourceRefused: As :func:`open_guarded`.
        FeedError: As :func:`open_guarded`, or no such member.
    """

    def choose(members: tuple[str, ...], where: str) -> str:
        if member not in members:
            raise FeedError("the zip lacks a file", where=where, got=", ".join(members) or "none", expected=member)
        return member

    return _member(path, name, caps, choose)


def zip_members(path: Path, name: str, *, caps: Caps = DEFAULT_CAPS) -> list[str]:
    """Names of the files in a zip, in its order, folders and the clutter of desktops left out.

    Raises:
        SourceRefused: As :class:`mtgpt.ingest.guard.zip_file.GuardedZip`.
        FeedError: Not a zip, or a damaged one.
    """
    with GuardedZip(path, name, caps=caps) as archive:
        return list(archive.members)


def checked_zip(path: Path, name: str, *, caps: Caps = DEFAULT_CAPS) -> Path:
    """Reads every member of a zip once, checksums included, before another reader opens it (``.xlsx``, ``.npz``).

    Returns:
        ``path``.

    Raises:
        SourceRefused: As :func:`zip_members`, or more comes out than ``caps`` allow over all members.
        FeedError: Not a zip, or a damaged or truncated one.
    """
    with GuardedZip(path, name, caps=caps) as archive:
        for member in archive.members:
            with archive.open(member) as stream:
                while stream.read(PIECE):
                    pass
    return path


def expanded(path: Path, folder: Path, *, name: str | None = None, caps: Caps = DEFAULT_CAPS) -> Path:
    """The decompressed file, for readers that want a path: ``path`` itself where nothing is compressed.

    Args:
        path: Raw file: plain, gzip, or a zip with one file.
        folder: Where a new file is made; the caller removes it.
        name: The feed's own name, for errors.
        caps: How much may come out.

    Raises:
        SourceRefused: As :func:`open_guarded`.
        FeedError: As :func:`open_guarded`.
        LakeError: ``folder`` cannot be written.
    """
    name = name or path.name
    with open_guarded(path, name, caps=caps) as stream:
        if not isinstance(getattr(stream, "raw", None), Counted):
            return path
        try:
            handle, made = tempfile.mkstemp(dir=folder, prefix="expanded-")
        except OSError as error:
            raise LakeError(f"cannot write: {error.strerror}", where=folder) from error
        try:
            with os.fdopen(handle, "wb") as out:
                while data := stream.read(PIECE):
                    out.write(data)
        except OSError as error:
            Path(made).unlink(missing_ok=True)
            raise LakeError(f"cannot write: {error.strerror}", where=folder) from error
        except BaseException:
            Path(made).unlink(missing_ok=True)
            raise
        return Path(made)


def _open(path: Path, name: str) -> io.BufferedReader:
    try:
        return io.BufferedReader(io.FileIO(path), PIECE)
    except OSError as error:
        raise FeedError(f"cannot be read: {error.strerror}", where=name) from error


def _only(members: tuple[str, ...], where: str) -> str:
    if len(members) != 1:
        raise FeedError("the zip holds not one file", where=where, got=f"{len(members)} files", expected="exactly one")
    return members[0]


def _member(path: Path, name: str, caps: Caps, choose: Callable[[tuple[str, ...], str], str]) -> BinaryIO:
    archive = GuardedZip(path, name, caps=caps)
    try:
        return archive.open(choose(archive.members, name), owned=True)
    except BaseException:
        archive.close()
        raise
