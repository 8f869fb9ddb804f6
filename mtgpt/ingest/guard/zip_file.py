"""Zips from strangers: one directory, checked as a whole before a byte of any member is read, and members as streams.

``zipfile`` parses the directory; everything else is done here, because a reader that believes the directory stops
where the directory says, and two readers of one archive then see two feeds. A member is refused where its own header
says something else than the directory, where it lies over another one, and where it expands to more or to less than
both say.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from mtgpt.errors import FeedError, SourceRefused
from mtgpt.ingest.guard.meter import DEFAULT_CAPS, PIECE, Caps, Counted, Meter, buffered

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

_DIRECTORY_BYTES = 1 << 20
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, NotImplementedError, RuntimeError, ValueError)
_LOCAL = struct.Struct("<4s5H3L2H")  # APPNOTE 4.3.7
_UTF8, _SIZES_FOLLOW, _ENCRYPTED = 0x800, 0x8, 0x1
_IN_EXTRA = 0xFFFFFFFF
_PART = re.compile(r"[\w(\[.][\w ()\[\]+,&@=#'.-]*")
_JUNK = re.compile(r"(?:.*/)?(?:__MACOSX(?:/.*)?|\._[^/]*|\.DS_Store|Thumbs\.db)")


class GuardedZip:
    """A zip whose directory passed every check.

    Args:
        path: Where it lies.
        name: The feed's own name for it, for errors.
        caps: How much may come out of it, over all members and all reads.

    Attributes:
        members: Names of the files, in the archive's order; folders and the clutter of desktops left out.

    Raises:
        SourceRefused: Too large or too many members; a name that is absolute, climbs, repeats (upper and lower case
            alike), is no UTF-8 or has odd characters; a link; an encrypted member; a method other than stored and
            deflated; members that overlap; a member whose header and directory differ.
        FeedError: Not a zip, or a damaged one.
    """

    def __init__(self, path: Path, name: str, *, caps: Caps = DEFAULT_CAPS) -> None:
        self._name = name
        self._raw = _open(path, name)
        try:
            self._new_meter = partial(Meter, name, caps, os.fstat(self._raw.fileno()).st_size)
            self._meter = self._new_meter()
            with zip_faults(name), zipfile.ZipFile(self._raw) as directory:
                infos, end = directory.infolist(), directory.start_dir
            self._raw.opening = False
            sound = _sound_members(infos, name, caps)
            with zip_faults(name):
                starts = _starts(self._raw, infos, end, name)
            self._opened: set[str] = set()
            self._files = {info.filename: _Place.of(info, starts[info.header_offset]) for info in sound}
            self._meter.expect(sum(place.size for place in self._files.values()))
        except BaseException:
            self._raw.close()
            raise
        self.members = tuple(self._files)

    def open(self, member: str, *, owned: bool = False) -> BinaryIO:
        """One member as a buffered stream; further ones may be open at the same time.

        Args:
            member: One of ``members``.
            owned: Close the zip with the stream.

        Raises:
            KeyError: No such member.
            FeedError: While it is read: damaged, or not as long as its directory says.
            SourceRefused: While it is read: a cap.
        """
        place = self._files[member]
        # What is read a second time was counted the first time.
        meter = self._new_meter() if member in self._opened else self._meter
        self._opened.add(member)
        return buffered(_Member(self._raw, place, f"{self._name}: {member}", meter, owned=owned))

    def close(self) -> None:
        """Closes the file."""
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipFolder:
    """The files of a zip that a reader wants, by their plain names.

    Attributes:
        zip: The archive.
        files: Wanted name → name in the archive, for those that are there.
    """

    zip: GuardedZip
    files: Mapping[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def open(self, name: str) -> BinaryIO:
        """One of ``files`` as a buffered stream.

        Raises:
            KeyError: It is not there.
            FeedError: While it is read: damaged, or not as long as its directory says.
            SourceRefused: While it is read: a cap over all members together.
        """
        return self.zip.open(self.files[name])


@contextmanager
def zip_folder(path: Path, name: str, wanted: Collection[str], *, caps: Caps = DEFAULT_CAPS) -> Iterator[ZipFolder]:
    """Opens a zip of several files, of which only those of an allow-list are ever read.

    Publishers put their files at the top or in one folder; other members may lie around and are not opened.

    Args:
        path: Where the zip lies.
        name: The feed's own name for it, for errors.
        wanted: Plain file names, such as ``stops.txt``.
        caps: How much may come out over all members together.

    Yields:
        The wanted files that are there; valid inside the ``with`` block.

    Raises:
        SourceRefused: As :class:`GuardedZip`, or wanted files lie in several folders, so that it is a guess which
            are meant.
        FeedError: As :class:`GuardedZip`, or the zip has none of the wanted files.
    """
    with GuardedZip(path, name, caps=caps) as archive:
        found = [one for one in archive.members if one.rpartition("/")[2] in wanted]
        folders = sorted({one.rpartition("/")[0] for one in found})
        if not found:
            raise FeedError(
                "the zip has none of the files that are looked for",
                where=name,
                got=", ".join(archive.members[:8]) or "an empty zip",
                expected=", ".join(sorted(wanted)[:8]),
            )
        if len(folders) > 1:
            raise SourceRefused(
                "the zip has the files that are looked for in several folders",
                where=name,
                got=", ".join(folder or "(top)" for folder in folders),
                expected="one folder",
            )
        yield ZipFolder(zip=archive, files={one.rpartition("/")[2]: one for one in found})


@contextmanager
def zip_faults(where: str) -> Iterator[None]:
    """Turns what zip readers raise into a feed error."""
    try:
        yield
    except UnicodeDecodeError:
        raise SourceRefused("the zip has a member whose name is not UTF-8", where=where) from None
    except _DAMAGE as error:
        raise FeedError(f"damaged zip: {str(error) or 'truncated'}", where=where) from None


class _DirectoryReader(io.FileIO):
    """A file from which zipfile cannot be made to read a directory of hundreds of megabytes."""

    opening = True

    def read(self, size: int | None = -1, /) -> bytes:
        if self.opening and size is not None and size > _DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its directory is larger than 1 MB")
        return super().read(size)  # pyright: ignore[reportReturnType] - a blocking file never answers None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a member's bytes lie, and what they must expand to."""

    start: int
    packed: int
    size: int
    crc: int
    deflated: bool

    @classmethod
    def of(cls, info: zipfile.ZipInfo, start: int) -> _Place:
        return cls(
            start=start,
            packed=info.compress_size,
            size=info.file_size,
            crc=info.CRC,
            deflated=info.compress_type == zipfile.ZIP_DEFLATED,
        )


class _Member(Counted):
    """One member of a zip, read at its own position of a file that others read too."""

    def __init__(self, raw: io.FileIO, place: _Place, name: str, meter: Meter, *, owned: bool) -> None:
        super().__init__(meter)
        self._owned = owned
        self._raw = raw
        self._place = place
        self._name = name
        self._decoder = zlib.decompressobj(wbits=-15) if place.deflated else None
        self._pending = b""
        self._read = 0
        self._out = 0
        self._crc = 0

    def close(self) -> None:
        if self._owned:
            self._raw.close()
        super().close()

    def _produce(self, limit: int) -> bytes:
        with zip_faults(self._name):
            data = self._stored(limit) if self._decoder is None else self._deflated(self._decoder, limit)
            self._out += len(data)
            self._crc = zlib.crc32(data, self._crc)
            if self._out > self._place.size:
                raise zipfile.BadZipFile(f"it expands to more than the {self._place.size} bytes that it says")
            if not data:
                self._refuse_unfinished()
        return data

    def _stored(self, limit: int) -> bytes:
        return self._packed(limit)

    def _deflated(self, decoder: Any, limit: int) -> bytes:
        while not decoder.eof:
            piece = self._pending or self._packed(PIECE)
            data = decoder.decompress(piece, limit)
            self._pending = decoder.unconsumed_tail
            if data:
                return data
            if not piece:
                raise zipfile.BadZipFile("its compressed data is cut off")
        return b""

    def _packed(self, limit: int) -> bytes:
        left = min(limit, self._place.packed - self._read)
        data = os.pread(self._raw.fileno(), left, self._place.start + self._read) if left > 0 else b""
        if left > 0 and not data:
            raise zipfile.BadZipFile("the file is cut off")
        self._read += len(data)
        return data

    def _refuse_unfinished(self) -> None:
        unused = len(self._decoder.unused_data) if self._decoder is not None else 0
        if self._out != self._place.size:
            raise zipfile.BadZipFile(f"it expands to {self._out} bytes and says {self._place.size}")
        if self._read - unused != self._place.packed:
            raise zipfile.BadZipFile("other bytes follow its end")
        if self._crc != self._place.crc:
            raise zipfile.BadZipFile("its checksum is wrong")


def _open(path: Path, name: str) -> _DirectoryReader:
    try:
        return _DirectoryReader(path)
    except OSError as error:
        raise FeedError(f"cannot be read: {error.strerror}", where=name) from error


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
        seen.add(_folded(info))
        if not info.is_dir() and not _JUNK.fullmatch(info.filename):
            members.append(info)
    return members


def _folded(info: zipfile.ZipInfo) -> str:
    # What disks of other systems take for one and the same name.
    return unicodedata.normalize("NFKC", info.filename.rstrip("/")).casefold()


def _fault_of(info: zipfile.ZipInfo, seen: set[str]) -> str | None:
    # orig_filename: zipfile cuts a name at its first NUL, other readers do not.
    name = info.orig_filename
    parts = name.rstrip("/").split("/")
    sound = _JUNK.fullmatch(name) or all(_PART.fullmatch(part) for part in parts)
    kind = stat.S_IFMT(info.external_attr >> 16)
    method = info.compress_type
    tests = (
        (not name.isascii() and not info.flag_bits & _UTF8, "name is not UTF-8"),
        (any(part in {"", ".", ".."} for part in parts), "name is absolute or climbs out of its folder"),
        (len(name) > 255 or not sound, "name holds odd characters or is too long"),
        (_folded(info) in seen, "name stands twice"),
        (kind not in {0, stat.S_IFREG, stat.S_IFDIR}, "kind is a link or a device"),
        (bool(info.flag_bits & _ENCRYPTED), "content is encrypted"),
        (method not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}, "method is another than deflate"),
    )
    return next((what for broken, what in tests if broken), None)


def _starts(raw: io.FileIO, infos: list[zipfile.ZipInfo], end: int, name: str) -> dict[int, int]:
    """Position of each member's data by that of its header; members may not touch each other or the directory."""
    starts: dict[int, int] = {}
    free = 0
    for info in sorted(infos, key=lambda one: one.header_offset):
        if info.header_offset < free:
            raise SourceRefused("the zip has members that overlap", where=name, got=info.orig_filename)
        head = os.pread(raw.fileno(), _LOCAL.size, info.header_offset)
        magic, _, flags, method, _, _, crc, packed, size, name_length, extra_length = _LOCAL.unpack(head)
        own_name = os.pread(raw.fileno(), name_length, info.header_offset + _LOCAL.size)
        if magic != b"PK\x03\x04":
            raise zipfile.BadZipFile(f"no member begins where {info.orig_filename} should")
        wanted = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")
        claims = ((own_name, wanted), (method, info.compress_type), (flags & _ENCRYPTED, info.flag_bits & _ENCRYPTED))
        sizes = ((crc, info.CRC), (packed, info.compress_size), (size, info.file_size))
        if not flags & _SIZES_FOLLOW:
            claims += tuple((own, said) for own, said in sizes if own != _IN_EXTRA)
        if any(own != said for own, said in claims):
            raise SourceRefused(
                "the zip has a member whose header and directory differ", where=name, got=info.orig_filename
            )
        starts[info.header_offset] = info.header_offset + _LOCAL.size + name_length + extra_length
        free = starts[info.header_offset] + info.compress_size
    if free > end:
        raise SourceRefused("the zip has members that overlap", where=name, got="one that lies over the directory")
    return starts
