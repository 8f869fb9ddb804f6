"""Bronze: the raw bytes of every feed, named by their SHA-256, written once and never changed."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mtgpt.errors import LakeError, NotFound
from mtgpt.lake.disk import refusals, sync_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEX = frozenset("0123456789abcdef")
_TEMPORARY = ".tmp-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bronze:
    """A content-addressed store of raw files: ``<root>/<first two digits>/<sha256>``.

    Attributes:
        root: Folder of the objects.
    """

    root: Path

    def path(self, sha256: str) -> Path:
        """Where the object lies.

        Raises:
            NotFound: There is no such object.
        """
        path = self._place(sha256)
        if not path.is_file():
            raise NotFound("no such raw object", where=self.root, got=sha256, next_step="ingest the feed again")
        return path

    def __contains__(self, sha256: str) -> bool:
        return self._place(sha256).is_file()

    def put(self, file: Path, *, sha256: str | None = None, move: bool = False, scratch: Path | None = None) -> str:
        """Stores a file; an object that is there already is left as it is.

        Args:
            file: The bytes.
            sha256: Their hash where it is known already (a pull hashes what passes through it).
            move: Take the file itself instead of a copy; it must lie on the lake's disk.
            scratch: Folder on the lake's disk for the unfinished copy; the store's own if not given.

        Returns:
            The SHA-256 of the bytes stored.

        Raises:
            LakeError: The disk is full, read-only or forbidden; no partial object stays.
        """
        with refusals(f"bronze, {file.name}"):
            if sha256 is not None and sha256 in self:
                if move:
                    file.unlink()
                return sha256
            self._folder(self.root)
            if sha256 is None or not move:
                file, sha256 = _copy(file, scratch or self.root)
            place = self._place(sha256)
            try:
                self._folder(place.parent)
                file.chmod(0o444)
                sync_file(file)
                file.replace(place)
            except OSError:
                file.unlink(missing_ok=True)
                raise
            sync_folder(place.parent)
        return sha256

    def objects(self) -> Iterator[Path]:
        """Every object, in the order of their names."""
        if self.root.is_dir():
            yield from sorted(path for path in self.root.glob("[0-9a-f][0-9a-f]/*") if _is_sha256(path.name))

    def verify(self, sha256: str | None = None) -> list[str]:
        """Reads one object, or all of them, again.

        Returns:
            Names of the objects whose bytes no longer have their hash.
        """
        paths = self.objects() if sha256 is None else iter([self.path(sha256)])
        broken = []
        for path in paths:
            with refusals(path), path.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != path.name:
                    broken.append(path.name)
        return broken

    def _place(self, sha256: str) -> Path:
        # The name may come from a ledger that someone edited: never let it leave the folder.
        if not _is_sha256(sha256):
            raise LakeError("not the name of a raw object", where=self.root, got=sha256, expected="64 hex digits")
        return self.root / sha256[:2] / sha256

    def _folder(self, folder: Path) -> None:
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            sync_folder(folder.parent)


def _copy(file: Path, folder: Path) -> tuple[Path, str]:
    # Hashed while it is copied: the name must be that of the bytes stored, even if someone writes to the file now.
    digest = hashlib.sha256()
    handle, name = tempfile.mkstemp(dir=folder, prefix=_TEMPORARY)
    try:
        with os.fdopen(handle, "wb") as target, file.open("rb") as source:
            while block := source.read(1 << 20):
                digest.update(block)
                target.write(block)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name), digest.hexdigest()


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and _HEX.issuperset(text)
