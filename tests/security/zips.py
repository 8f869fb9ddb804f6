"""Fourteen zips that are meant to harm, each a timetable but for one thing, written byte by byte.

``python -m tests.security.zips FOLDER`` makes them one after the other, sends each through every way in, and prints as
JSON what was said, how long it took and how much the process grew.
"""

from __future__ import annotations

import io
import json
import resource
import stat
import struct
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtgpt.errors import MTGPTError
from mtgpt.ingest.guard.archive import checked_zip, expanded, open_guarded, open_member, zip_folder, zip_members
from mtgpt.ingest.manifest import CityManifest
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.settings import Settings
from tests.ingest.gtfs_files import BASE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

GIGABYTE = 1 << 30
_BLOCK = 1 << 20
_UTF8, _ENCRYPTED = 0x800, 0x1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A member as its directory and its own header describe it, true or not.

    Attributes:
        name: As in both headers.
        data: Deflated bytes.
        crc: Claimed checksum.
        size: Claimed size.
        flags: General purpose bits.
        attributes: External attributes; Unix's mode is in the upper half.
        at: Header that the directory points to, where it is not its own.
    """

    name: bytes
    data: bytes
    crc: int
    size: int
    flags: int = 0
    attributes: int = 0
    at: int | None = None


def entry(name: str, text: bytes | str, **lies: Any) -> Entry:
    """A sound member, but for ``lies``."""
    raw = text.encode() if isinstance(text, str) else text
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packer.compress(raw) + packer.flush()
    return replace(Entry(name=name.encode(), data=data, crc=zlib.crc32(raw), size=len(raw)), **lies)


def sound() -> list[Entry]:
    """A small timetable."""
    return [entry(name, text) for name, text in BASE.items()]


def write(path: Path, entries: Iterable[Entry]) -> Path:
    """Writes what the entries say."""
    directory = io.BytesIO()
    count = 0
    with path.open("wb") as out:
        for one in entries:
            offset = out.tell()
            common = struct.pack(
                "<4H3L2H", one.flags, 8, 0, 0x21, one.crc, len(one.data), one.size, len(one.name), 0
            )  # flags, method, time, date, then checksum and sizes
            if one.at is None:
                out.write(b"PK\x03\x04" + struct.pack("<H", 20) + common + one.name + one.data)
            directory.write(b"PK\x01\x02" + struct.pack("<2H", 20 | 3 << 8, 20) + common)
            directory.write(
                struct.pack("<3H2L", 0, 0, 0, one.attributes, offset if one.at is None else one.at) + one.name
            )
            count += 1
        start = out.tell()
        out.write(directory.getvalue())
        out.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory.getvalue()), start, 0))
    return path


def bomb(name: str, size: int = GIGABYTE) -> Entry:
    """A member of a gigabyte of sound rows in about a megabyte, made without ever holding it."""
    head = b"trip_id,arrival_time,departure_time,stop_id,stop_sequence\n"
    line = b"t1,08:00:00,08:00:00,s1,1\n"
    block = line * (_BLOCK // len(line))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush the same block is the same bytes again.
    again = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    times = size // len(block)
    crc = zlib.crc32(head)
    for _ in range(times):
        crc = zlib.crc32(block, crc)
    data = first + again * times + packer.flush()
    return Entry(name=name.encode(), data=data, crc=crc, size=len(head) + times * len(block))


def _instead(*entries: Entry) -> list[Entry]:
    """The timetable with these members in the place of those of the same name, or beside them."""
    names = {one.name for one in entries}
    return [*(one for one in sound() if one.name not in names), *entries]


def _nested() -> list[Entry]:
    inner = bomb("stop_times.txt", 64 << 20)
    for depth in range(3):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{depth}.zip" if depth else "stop_times.txt", inner.data)
        inner = entry(f"{depth}.zip", buffer.getvalue())
    return [replace(inner, name=b"feed.zip")]


def _overlapping() -> list[Entry]:
    first, *others = sound()
    # Every name leads to the same bytes: a small file that expands once per name.
    return [first, *others, *(replace(first, name=b"%d.txt" % number, at=0) for number in range(40))]


CASES: dict[str, Callable[[], Iterable[Entry]]] = {
    "a gigabyte in a megabyte": lambda: _instead(bomb("stop_times.txt")),
    "a gigabyte that says it is small": lambda: _instead(replace(bomb("stop_times.txt"), size=500)),
    "zips in zips": _nested,
    "members that overlap": _overlapping,
    "twenty thousand members": lambda: [*sound(), *(entry(f"{number}.txt", b"") for number in range(20_000))],
    "a name that climbs": lambda: _instead(entry("../../stops.txt", "x")),
    "an absolute name": lambda: _instead(entry("/etc/stops.txt", "x")),
    "a symbolic link": lambda: _instead(entry("stops.txt", "/etc/passwd", attributes=(stat.S_IFLNK | 0o777) << 16)),
    "a name twice": lambda: [*sound(), entry("stops.txt", "stop_id\nx\n")],
    "names that differ by case": lambda: [*sound(), entry("STOPS.TXT", "stop_id\nx\n")],
    "an encrypted member": lambda: _instead(entry("stops.txt", BASE["stops.txt"], flags=_ENCRYPTED)),
    "a wrong checksum": lambda: _instead(entry("stops.txt", BASE["stops.txt"], crc=1)),
    "a size too large": lambda: _instead(entry("stops.txt", BASE["stops.txt"], size=len(BASE["stops.txt"]) + 1)),
    "a name that is not UTF-8": lambda: [*sound(), replace(entry("x", b"x"), name=b"stops_\xe9.txt")],
}


ALONE = ("a gigabyte in a megabyte", "a gigabyte that says it is small", "a wrong checksum", "a size too large")
"""Cases whose last member makes a zip of its own, for the ways in that take a zip of one file."""


def _drain(stream: Any) -> None:
    with stream:
        while stream.read(1 << 18):
            pass


def _folder(path: Path) -> None:
    with zip_folder(path, "feed.zip", list(BASE)) as folder:
        for name in folder.files:
            _drain(folder.open(name))


def ways(out: Path) -> dict[str, Callable[[Path], object]]:
    """Every way in: a zip goes in, its bytes or an error come out."""
    return {
        "open_guarded": lambda path: _drain(open_guarded(path, "feed.zip")),
        "open_member": lambda path: _drain(open_member(path, "feed.zip", "stop_times.txt")),
        "zip_members": lambda path: zip_members(path, "feed.zip"),
        "expanded": lambda path: expanded(path, out, name="feed.zip"),
        "checked_zip": lambda path: checked_zip(path, "feed.zip"),
        "zip_folder": _folder,
        "ingest": lambda path: _ingest(path, out),
    }


def _ingest(path: Path, out: Path) -> list[Any]:
    """The whole road of a gtfs source."""
    settings = Settings(home=out / "home")
    manifest = CityManifest.model_validate(
        {
            "city": "town",
            "name": "Town",
            "time_zone": "America/New_York",
            "sources": ({"id": "timetable", "kind": "gtfs", "path": str(path)},),
        }
    )
    return [one.status for one in ingest_city(manifest, Lake.open(settings.lake), settings=settings)]


def peak() -> int:
    """Most bytes that this process ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def probe(folder: Path) -> dict[str, Any]:
    """Sends every zip through every way in."""
    made = {name: list(make()) for name, make in CASES.items()}
    files = {name: write(folder / f"{number}.zip", made[name]) for number, name in enumerate(made)}
    alone = {name: write(folder / f"alone-{number}.zip", made[name][-1:]) for number, name in enumerate(ALONE)}
    del made
    good = write(folder / "good.zip", sound())
    out = folder / "out"
    out.mkdir()
    # What a sound feed takes is no growth: libraries are loaded, pools are started.
    well = {way: _said(go, good)[0] for way, go in ways(out).items()}
    lake = Lake.open(out / "home" / "lake")
    before = lake.versions()
    baseline = peak()
    said: dict[str, Any] = {}
    for name, path in files.items():
        said[name] = {}
        for way, go in ways(out).items():
            single = way in {"open_guarded", "expanded"}
            sentence, seconds = _said(go, alone.get(name, path) if single else path)
            said[name][way] = {"said": sentence, "seconds": seconds}
    return {
        "sound": well,
        "cases": said,
        "sizes": {name: path.stat().st_size for name, path in files.items()},
        "growth": peak() - baseline,
        "untouched": lake.versions() == before,
        "expanded": [path.stat().st_size for path in out.glob("expanded-*")],
        "left": [path.name for path in lake.staging.glob("run-*")],
        "damaged": lake.bronze.verify(),
    }


def _said(go: Callable[[Path], object], path: Path) -> tuple[str | None, float]:
    started = time.monotonic()
    try:
        go(path)
    except MTGPTError as error:
        return f"{type(error).__name__}: {error.sentence()}", time.monotonic() - started
    return None, time.monotonic() - started


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probe(Path(sys.argv[1]))) + "\n")
