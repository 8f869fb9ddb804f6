"""Raw bytes are stored whole, once, by their hash."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from mtgpt.errors import LakeError, NotFound
from mtgpt.lake.bronze import Bronze

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bronze(tmp_path: Path) -> Bronze:
    return Bronze(root=tmp_path / "bronze")


def _file(path: Path, content: bytes = b"a,b\n1,2\n") -> Path:
    path.write_bytes(content)
    return path


def test_a_file_lies_under_the_hash_of_its_bytes(bronze: Bronze, tmp_path: Path) -> None:
    sha256 = bronze.put(_file(tmp_path / "feed.csv"))
    assert sha256 == hashlib.sha256(b"a,b\n1,2\n").hexdigest()
    assert bronze.path(sha256).read_bytes() == b"a,b\n1,2\n"
    assert bronze.path(sha256).parent.name == sha256[:2]


def test_an_object_cannot_be_written_to(bronze: Bronze, tmp_path: Path) -> None:
    path = bronze.path(bronze.put(_file(tmp_path / "feed.csv")))
    assert path.stat().st_mode & 0o222 == 0


def test_the_same_bytes_under_another_name_are_one_object(bronze: Bronze, tmp_path: Path) -> None:
    first = bronze.put(_file(tmp_path / "a.csv"))
    before = bronze.path(first).stat()
    second = bronze.put(_file(tmp_path / "b.csv"), sha256=first)
    assert (first, 1) == (second, len(list(bronze.objects())))
    assert bronze.path(first).stat().st_ino == before.st_ino


def test_a_moved_file_is_gone_from_where_it_was_even_if_the_bytes_were_there(bronze: Bronze, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        file = _file(tmp_path / name)
        bronze.put(file, sha256=hashlib.sha256(file.read_bytes()).hexdigest(), move=True)
        assert not file.exists()
    assert len(list(bronze.objects())) == 1


def test_a_copy_is_named_by_what_was_copied_not_by_what_was_promised(bronze: Bronze, tmp_path: Path) -> None:
    promised = hashlib.sha256(b"before").hexdigest()
    stored = bronze.put(_file(tmp_path / "feed.csv", b"after"), sha256=promised)
    assert stored == hashlib.sha256(b"after").hexdigest()
    assert bronze.verify() == []


def test_verify_finds_the_one_object_whose_bytes_changed(bronze: Bronze, tmp_path: Path) -> None:
    kept = bronze.put(_file(tmp_path / "a.csv", b"1"))
    spoilt = bronze.put(_file(tmp_path / "b.csv", b"2"))
    bronze.path(spoilt).chmod(0o644)
    bronze.path(spoilt).write_bytes(b"3")
    assert bronze.verify() == [spoilt]
    assert bronze.verify(kept) == []


def test_a_name_that_is_no_hash_never_leaves_the_folder(bronze: Bronze) -> None:
    for name in ("../../etc/passwd", "g" * 64, "a" * 63, ""):
        with pytest.raises(LakeError, match="not the name of a raw object"):
            bronze.path(name)


def test_a_missing_object_is_not_found(bronze: Bronze) -> None:
    with pytest.raises(NotFound, match="no such raw object"):
        bronze.path("0" * 64)


def test_nothing_is_left_of_a_copy_that_failed(bronze: Bronze, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    file = _file(tmp_path / "feed.csv")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LakeError, match="the disk is full"):
        bronze.put(file)
    monkeypatch.undo()
    assert [path for path in bronze.root.rglob("*") if path.is_file()] == []
    assert file.exists()
