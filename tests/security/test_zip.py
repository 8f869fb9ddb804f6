"""Fourteen zips that are meant to harm, against every way in: refused, or stopped at the caps, in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.security.zips import CASES

MOST_GROWTH = 50 << 20
MOST_SECONDS = 5.0
WAYS = ("open_guarded", "open_member", "zip_members", "expanded", "checked_zip", "zip_folder", "ingest")
WORDS = {
    "a gigabyte in a megabyte": "expands too far",
    "a gigabyte that says it is small": "expands to more than the 500 bytes that it says",
    "members that overlap": "overlap",
    "twenty thousand members": "directory is larger than 1 MB",
    "a name that climbs": "climbs",
    "an absolute name": "absolute",
    "a symbolic link": "link",
    "a name twice": "stands twice",
    "names that differ by case": "stands twice",
    "an encrypted member": "encrypted",
    "a wrong checksum": "its checksum is wrong",
    "a size too large": "and says 201",
    "a name that is not UTF-8": "not UTF-8",
}
# What is wrong inside a member is seen when that member is read.
UNSEEN = {
    "a gigabyte that says it is small": {"zip_members"},
    "a wrong checksum": {"zip_members", "open_member"},
    "a size too large": {"zip_members", "open_member"},
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, repo: Any) -> dict[str, Any]:
    """What was said, how long it took, and how much a process of its own grew."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.zips", str(tmp_path_factory.mktemp("zips"))],
        cwd=repo, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_there_are_fourteen_and_a_sound_one_comes_in(found: dict[str, Any]) -> None:
    assert len(CASES) == 14
    assert set(WORDS) | {"zips in zips"} == set(CASES)
    assert {
        way: said for way, said in found["sound"].items() if way not in {"open_guarded", "expanded"}
    } == dict.fromkeys(("open_member", "zip_members", "checked_zip", "zip_folder", "ingest"))
    assert found["sizes"]["a gigabyte in a megabyte"] < 3e6


@pytest.mark.parametrize("case", [name for name in CASES if name in WORDS])
def test_each_is_refused_by_every_way_in_with_one_sentence(found: dict[str, Any], case: str) -> None:
    for way in WAYS:
        said = found["cases"][case][way]["said"]
        if way in UNSEEN.get(case, ()):
            assert said is None
        else:
            assert said is not None, way
            assert WORDS[case] in said, way
            assert "\n" not in said


def test_a_zip_in_a_zip_is_a_file_like_any_other(found: dict[str, Any]) -> None:
    said = {way: one["said"] for way, one in found["cases"]["zips in zips"].items()}
    assert "none of the files that are looked for" in said["ingest"]
    assert "none of the files that are looked for" in said["zip_folder"]
    # The one level that was asked for, and nothing below it.
    assert len(found["expanded"]) == 1
    assert found["expanded"][0] < 100_000


def test_no_way_in_takes_long_or_grows_by_over_fifty_megabytes(found: dict[str, Any]) -> None:
    assert found["growth"] <= MOST_GROWTH
    assert max(one["seconds"] for ways in found["cases"].values() for one in ways.values()) <= MOST_SECONDS


def test_the_lake_is_as_it_was_and_nothing_is_left_behind(found: dict[str, Any]) -> None:
    assert found["untouched"]
    assert found["left"] == []
    assert found["damaged"] == []
