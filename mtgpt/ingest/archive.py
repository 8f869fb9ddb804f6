"""Archives from strangers: gzip and zip opened behind caps that are counted on the bytes read.

A zip of 2.4 MB can expand to 1 GB, and what its directory says of sizes is a claim. Three ways in:

* :func:`open_guarded` streams a plain, gzipped or single-member zipped file;
* :func:`expanded` writes the same to a file, for readers that want a path;
* :func:`checked_zip` inspects a container that another reader opens itself (``.xlsx``, ``.npz``).
"""

from __future__ import annotations

import io
import os
import re
import stat
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from mtgpt.errors import FeedError, LakeError, SourceRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import WriteableBuffer

_PIECE = 1 << 18
_DIRECTORY_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_PART = re.compile(r"[\w(\[.][\w ()\[\]+,&@=#'.-]*")
_JUNK = re.compile(r"(?:.*/)?(?:__MACOSX(?:/.*)?|\._[^/]*|\.DS_Store|Thumbs\.db)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How much an archive may hold.

    Attributes:
        packed_bytes: Size of the archive itself.
        expanded_bytes: Everything that comes out, over all members.
        ratio: Expanded over packed, looked at once more than ``free_bytes`` came out.
        free_bytes: Small files full of zeros expand a thousandfold and do no harm.
        members: Files and folders in a zip.
    """

    packed_bytes: int = 512 << 20
    expanded_bytes: int = 4 << 30
    ratio: int = 200
    free_bytes: int = 1 << 20
    members: int = 64


DEFAULT_CAPS = Caps()


class _Meter:
    """Counts what came out of one archive, and refuses the byte too many."""

    def __init__(self, name: str, caps: Caps, packed: int) -> None:
        self._name = name
        self._caps = caps
        self._out = 0
        self._limit = min(caps.expanded_bytes, max(caps.free_bytes, caps.ratio * packed))
        _refuse_large(name, packed, caps.packed_bytes)

    @property
    def room(self) -> int:
        return self._limit - self._out

    def count(self, size: int) -> None:
        self._out += size
        if self._out > self._limit:
            caps = self._caps
            raise SourceRefused(
                "the archive expands too far",
                where=self._name,
                got=f"more than {self._limit} bytes",
                expected=f"at most {caps.expanded_bytes} bytes and {caps.ratio} times its own size",
            )


class _Counted(io.RawIOBase):
    """A stream that is counted as it is read; ``_produce(limit)`` gives the next bytes, empty at the end."""

    def __init__(self, meter: _Meter) -> None:
        self._meter = meter

    def _produce(self, limit: int) -> bytes:
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        # One byte more than there is room for is enough to know, and 0 would mean no limit to zlib.
        data = self._produce(min(len(view), self._meter.room + 1)) if len(view) else b""
        self._meter.count(len(data))
        view[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        # The base class goes in steps of 8 KB.
        pieces = io.BytesIO()
        while data := self.read(_PIECE):
            pieces.write(data)
        return pieces.getvalue()


class _Gunzip(_Counted):
    """A gzip file, several members after one another included."""

    def __init__(self, raw: BinaryIO, name: str, meter: _Meter) -> None:
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
            piece = self._pending or self._raw.read(_PIECE)
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
        while len(rest) < len(_GZIP) and (more := self._raw.read(_PIECE)):
            rest = (rest + more).lstrip(b"\0")
        if not rest:
            self._ended = True
        elif not rest.startswith(_GZIP):
            raise FeedError("the gzip file has other bytes after its end", where=self._name)
        else:
            self._decoder = zlib.decompressobj(wbits=31)
            self._pending = rest


class _Member(_Counted):
    """One member of a zip."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, meter: _Meter) -> None:
        super().__init__(meter)
        self._archive = archive
        self._name = f"{name}: {info.filename}"
        with _zip_faults(self._name):
            self._stream = archive.open(info)

    def close(self) -> None:
        self._stream.close()
        self._archive.close()
        super().close()

    def _produce(self, limit: int) -> bytes:
        with _zip_faults(self._name):
            return self._stream.read(limit)


class _DirectoryReader(io.FileIO):
    """A file from which zipfile cannot be made to read a directory of hundreds of megabytes."""

    opening = True

    def read(self, size: int | None = -1, /) -> bytes:
        if self.opening and size is not None and size > _DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its directory is larger than 1 MB")
        return super().read(size)  # pyright: ignore[reportReturnType] - a blocking file never answers None


class _GuardedZip(zipfile.ZipFile):
    """A zip whose file is closed with it."""

    def __init__(self, path: Path) -> None:
        self._raw = _DirectoryReader(path)
        try:
            super().__init__(self._raw)
        except BaseException:
            self._raw.close()
            raise
        self._raw.opening = False

    def close(self) -> None:
        super().close()
        self._raw.close()


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
            return _buffered(_Gunzip(raw, name, _Meter(name, caps, size)))
        if head not in _ZIP:
            _refuse_large(name, size, caps.expanded_bytes)
            return raw
    except BaseException:
        raw.close()
        raise
    raw.close()
    archive, members = _open_zip(path, name, caps)
    if len(members) != 1:
        archive.close()
        raise FeedError("the zip holds not one file", where=name, got=f"{len(members)} files", expected="exactly one")
    return _buffered(_Member(archive, members[0], name, _Meter(name, caps, size)))


def open_member(path: Path, name: str, member: str, *, caps: Caps = DEFAULT_CAPS) -> BinaryIO:
    """Opens one named file of a zip for reading.

    Raises:
        SourceRefused: As :func:`open_guarded`.
        FeedError: As :func:`open_guarded`, or no such member.
    """
    archive, members = _open_zip(path, name, caps)
    info = next((one for one in members if one.filename == member), None)
    if info is None:
        archive.close()
        there = ", ".join(one.filename for one in members)
        raise FeedError("the zip lacks a file", where=name, got=there or "none", expected=member)
    return _buffered(_Member(archive, info, name, _Meter(name, caps, path.stat().st_size)))


def zip_members(path: Path, name: str, *, caps: Caps = DEFAULT_CAPS) -> list[str]:
    """Names of the files in a zip, in its order, folders and the clutter of desktops left out.

    Raises:
        SourceRefused: Too many members; a name that is absolute, climbs, repeats or has odd characters; a link;
            an encrypted member; a method other than stored and deflated.
        FeedError: Not a zip, or a damaged one.
    """
    archive, members = _open_zip(path, name, caps)
    archive.close()
    return [info.filename for info in members]


def checked_zip(path: Path, name: str, *, caps: Caps = DEFAULT_CAPS) -> Path:
    """Reads every member of a zip once, checksums included, before another reader opens it (``.xlsx``, ``.npz``).

    Returns:
        ``path``.

    Raises:
        SourceRefused: As :func:`zip_members`, or more comes out than ``caps`` allow over all members.
        FeedError: Not a zip, or a damaged or truncated one.
    """
    archive, members = _open_zip(path, name, caps)
    meter = _Meter(name, caps, path.stat().st_size)
    with archive:
        for info in members:
            with _zip_faults(f"{name}: {info.filename}"), archive.open(info) as stream:
                while data := stream.read(min(_PIECE, meter.room + 1)):
                    meter.count(len(data))
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
        if not isinstance(getattr(stream, "raw", None), _Counted):
            return path
        try:
            handle, made = tempfile.mkstemp(dir=folder, prefix="expanded-")
        except OSError as error:
            raise LakeError(f"cannot write: {error.strerror}", where=folder) from error
        try:
            with os.fdopen(handle, "wb") as out:
                while data := stream.read(_PIECE):
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
        return io.BufferedReader(io.FileIO(path), _PIECE)
    except OSError as error:
        raise FeedError(f"cannot be read: {error.strerror}", where=name) from error


def _refuse_large(name: str, size: int, limit: int) -> None:
    if size > limit:
        raise SourceRefused("the file is too large", where=name, got=size, expected=f"at most {limit} bytes")


def _buffered(stream: _Counted) -> BinaryIO:
    return cast("BinaryIO", io.BufferedReader(stream, _PIECE))


@contextmanager
def _zip_faults(where: str) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise FeedError(f"damaged zip: {str(error) or 'truncated'}", where=where) from None


def _open_zip(path: Path, name: str, caps: Caps) -> tuple[_GuardedZip, list[zipfile.ZipInfo]]:
    with _open(path, name) as raw:
        _Meter(name, caps, os.fstat(raw.fileno()).st_size)
    with _zip_faults(name):
        archive = _GuardedZip(path)
    try:
        return archive, _sound_members(archive.infolist(), name, caps)
    except BaseException:
        archive.close()
        raise


def _sound_members(infos: list[zipfile.ZipInfo], name: str, caps: Caps) -> list[zipfile.ZipInfo]:
    if len(infos) > caps.members:
        raise SourceRefused(
            "the zip has too many members", where=name, got=len(infos), expected=f"at most {caps.members}"
        )
    seen: set[str] = set()
    members: list[zipfile.ZipInfo] = []
    for info in infos:
        what = _fault_of(info, seen)
        if what:
            raise SourceRefused(f"the zip has a member whose {what}", where=name, got=info.orig_filename)
        seen.add(info.filename.rstrip("/").casefold())
        if not info.is_dir() and not _JUNK.fullmatch(info.filename):
            members.append(info)
    return members


def _fault_of(info: zipfile.ZipInfo, seen: set[str]) -> str | None:
    # orig_filename: zipfile cuts a name at its first NUL, other readers do not.
    name = info.orig_filename
    parts = name.rstrip("/").split("/")
    sound = _JUNK.fullmatch(name) or all(_PART.fullmatch(part) for part in parts)
    kind = stat.S_IFMT(info.external_attr >> 16)
    method = info.compress_type
    tests = (
        (any(part in {"", ".", ".."} for part in parts), "name is absolute or climbs out of its folder"),
        (len(name) > 255 or not sound, "name holds odd characters or is too long"),
        (info.filename.rstrip("/").casefold() in seen, "name stands twice"),
        (kind not in {0, stat.S_IFREG, stat.S_IFDIR}, "kind is a link or a device"),
        (bool(info.flag_bits & 0x1), "content is encrypted"),
        (method not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}, "method is another than deflate"),
    )
    return next((what for broken, what in tests if broken), None)
