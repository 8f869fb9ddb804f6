"""A disk that is full or read-only is one sentence; nothing is lost and nothing is half-written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from mtgpt.errors import LakeError
from mtgpt.lake.disk import refusals
from mtgpt.lake.lake import Lake
from mtgpt.settings import Settings
from tests.lake.conftest import City
from tests.lake.feeds import observations

if TYPE_CHECKING:
    from collections.abc import Iterator

_INGEST = """
import os, resource, signal, sys
from pathlib import Path
from tests.lake.conftest import City
from mtgpt.cli.sentences import as_sentences
from mtgpt.lake.lake import Lake
from mtgpt.settings import Settings
folder, home, limit, user = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
settings = Settings(home=home)
with as_sentences():
    if user:
        os.setgid(user)
        os.setuid(user)
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    city = City(folder=folder, lake=Lake.open(settings.lake), settings=settings)
    city.add("detectors", "*.csv")
    city.ingest()
"""


def _hindered(folder: Path, home: Path, *, limit: int = 0, user: int = 0) -> subprocess.CompletedProcess[str]:
    # Limits and users are of a process: one of its own, so that this one stays as it is.
    return subprocess.run(
        [sys.executable, "-c", _INGEST, str(folder), str(home), str(limit), str(user)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _ingest(folder: Path, home: Path) -> list[str]:
    settings = Settings(home=home)
    city = City(folder=folder, lake=Lake.open(settings.lake), settings=settings)
    city.add("detectors", "*.csv")
    return [result.status for result in city.ingest()]


def _is_one_sentence(run: subprocess.CompletedProcess[str], words: str) -> None:
    assert run.returncode == 1, run.stderr
    assert words in run.stderr
    assert "Traceback" not in run.stderr
    assert len(run.stderr.strip().splitlines()) == 1


def _is_whole(lake: Lake, batches: int) -> None:
    assert lake.ledger().height == batches
    assert lake.scan("observation").collect().height == int(lake.ledger()["rows_good"].sum())
    assert lake.bronze.verify() == []
    assert list(lake.staging.glob("run-*")) == []


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of one megabyte, where this process may mount one."""
    folder = Path(tempfile.mkdtemp(prefix="mtgpt-small-"))
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False, capture_output=True
    ).returncode:
        pytest.skip("this machine does not let tests mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def test_a_full_disk_is_said_and_the_next_run_completes_what_is_missing(city: City, small_disk: Path) -> None:
    observations(city.write("a.csv"))
    assert _ingest(city.folder, small_disk) == ["committed"]
    observations(city.write("b.csv"), steps=50_000, first=500)
    _is_one_sentence(_hindered(city.folder, small_disk), "the disk is full")
    _is_whole(Lake.open(small_disk / "lake"), batches=1)
    city.write("b.csv").unlink()
    observations(city.write("c.csv"), first=500)
    assert _ingest(city.folder, small_disk) == ["replay", "committed"]
    _is_whole(Lake.open(small_disk / "lake"), batches=2)


@pytest.mark.parametrize("limit", [6_000, 40_000])
def test_a_file_that_may_not_grow_stops_the_batch_and_shows_none_of_it(city: City, limit: int) -> None:
    observations(city.write("a.csv"), steps=1_000)
    stopped = _hindered(city.folder, city.settings.home, limit=limit)
    _is_one_sentence(stopped, "grow over the allowed size")
    _is_whole(city.lake, batches=0)
    assert _ingest(city.folder, city.settings.home) == ["committed"]
    _is_whole(city.lake, batches=1)


def test_a_lake_that_may_not_be_written_is_said_in_one_sentence() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become a user that may not write")
    # Outside of pytest's own folder, which no other user may enter.
    folder = Path(tempfile.mkdtemp(prefix="mtgpt-guest-"))
    try:
        folder.chmod(0o755)
        observations(folder / "feeds" / "a.csv")
        home = folder / "home"
        assert _ingest(folder / "feeds", home) == ["committed"]
        observations(folder / "feeds" / "b.csv", first=500)
        _is_one_sentence(_hindered(folder / "feeds", home, user=65534), "permission denied")
        _is_whole(Lake.open(home / "lake"), batches=1)
    finally:
        shutil.rmtree(folder)


def test_there_is_no_lake_where_none_was_made(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="there is no lake"):
        Lake.open(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device"), "the disk is full"),
        (OSError("Generic LocalFileSystem error: No space left on device (os error 28)"), "the disk is full"),
        (OSError(30, "Read-only file system"), "the disk is read-only"),
        (DeltaError("Failed to write: Permission denied (os error 13)"), "permission denied"),
        (CommitFailedError("No space left on device (os error 28)"), "the disk is full"),
        (CommitFailedError("Concurrent transaction failed."), "another process wrote at the same time"),
        (TableNotFoundError("no log files"), "no such table version"),
        (DeltaError("something new\nwith more lines"), "cannot be read or written"),
    ],
)
def test_every_refusal_of_the_disk_becomes_a_sentence(error: Exception, words: str) -> None:
    with pytest.raises(LakeError, match=words) as caught, refusals("trip"):
        raise error
    assert str(caught.value).startswith("trip: ")
    assert "\n" not in str(caught.value)
