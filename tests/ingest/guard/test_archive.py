"""Archives that are sound, broken, and meant to harm."""

from __future__ import annotations

import gzip
import stat
import struct
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtgpt.errors import FeedError, LakeError, SourceRefused
from mtgpt.ingest.guard.archive import Caps, checked_zip, expanded, open_guarded, open_member, zip_members

ROWS = b"".join(b"%d,%d,speed\n" % (i, i * 7919 % 977) for i in range(40_000))


def written(folder, data, name="raw"):
    path = folder / name
    path.write_bytes(data)
    return path


def read(path, **options):
    with open_guarded(path, "feed.csv.gz", **options) as stream:
        return stream.read()


def zipped(folder, members, *, method=zipfile.ZIP_DEFLATED):
    path = folder / "raw.zip"
    with zipfile.ZipFile(path, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of the duplicates that a test wants
        for name, data in members:
            archive.writestr(name, data)
    return path


def patched(path, offset_in_entry, fmt, value):
    """Overwrites one field of the first directory entry and of its local header, as an attacker would."""
    data = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x01\x02", offset_in_entry), (b"PK\x03\x04", offset_in_entry - 2)):
        struct.pack_into(fmt, data, data.index(magic) + offset, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_plain_and_gzipped_files_read_the_same_whatever_their_name(tmp_path, pack):
    assert read(written(tmp_path, pack(ROWS), "no_suffix")) == ROWS


def test_a_zip_with_one_file_reads_like_that_file_without_the_clutter_of_desktops(tmp_path):
    path = zipped(tmp_path, [("__MACOSX/._a.csv", b"x"), ("data/", b""), ("data/a.csv", ROWS), (".DS_Store", b"x")])
    assert read(path) == ROWS
    assert zip_members(path, "a.zip") == ["data/a.csv"]
    with open_member(path, "a.zip", "data/a.csv") as stream:
        assert stream.readline() == b"0,0,speed\n"
    with pytest.raises(FeedError, match=r"expected b\.csv"):
        open_member(path, "a.zip", "b.csv")


def test_an_empty_file_is_empty_and_an_empty_gzip_too(tmp_path):
    assert read(written(tmp_path, b"")) == b""
    assert read(written(tmp_path, gzip.compress(b""))) == b""


def test_lines_can_be_read_one_by_one(tmp_path):
    with open_guarded(written(tmp_path, gzip.compress(ROWS)), "a.csv.gz") as stream:
        assert sum(1 for _ in stream) == 40_000


@settings(deadline=None)  # a shared machine may pause
@given(
    parts=st.lists(st.binary(max_size=3000), min_size=1, max_size=5),
    padding=st.integers(0, 3),
    step=st.integers(1, 700),
)
def test_gzip_members_one_after_another_are_one_file_in_steps_of_any_size(parts, padding, step):
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(gzip.compress(part) for part in parts) + bytes(padding))
        file.flush()
        with open_guarded(Path(file.name), "a.gz") as stream:
            pieces = []
            while piece := stream.read(step):
                pieces.append(piece)
        assert b"".join(pieces) == b"".join(parts)


@pytest.mark.parametrize("keep", [3, 12, 1000, -9, -8, -1])
def test_a_truncated_gzip_is_refused_with_one_sentence(tmp_path, keep):
    path = written(tmp_path, gzip.compress(ROWS)[:keep])
    with pytest.raises(FeedError) as caught:
        read(path)
    assert caught.value.sentence() == "feed.csv.gz: the gzip file is truncated. Pull it again."


def test_a_gzip_whose_checksum_is_wrong_is_refused(tmp_path):
    packed = bytearray(gzip.compress(ROWS))
    packed[-8] ^= 1
    with pytest.raises(FeedError, match="damaged gzip"):
        read(written(tmp_path, packed))


def test_bytes_after_the_end_of_a_gzip_are_refused(tmp_path):
    with pytest.raises(FeedError, match="after its end"):
        read(written(tmp_path, gzip.compress(ROWS) + b"#!/bin/sh"))


def bomb(size):
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()


def test_a_gzip_bomb_stops_at_two_hundred_times_its_size(tmp_path):
    path = written(tmp_path, bomb(64 << 20))
    pieces = []
    with open_guarded(path, "bomb.gz") as stream, pytest.raises(SourceRefused, match="200 times"):
        pieces.extend(iter(lambda: stream.read(1 << 16), b""))
    assert 0 < sum(map(len, pieces)) <= 200 * path.stat().st_size
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(SourceRefused, match="200 times"):
        expanded(path, tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_small_file_full_of_zeros_is_no_bomb(tmp_path):
    assert read(written(tmp_path, gzip.compress(bytes(1_000_000)))) == bytes(1_000_000)


def test_the_caps_on_bytes_hold_to_the_byte(tmp_path):
    path = written(tmp_path, gzip.compress(ROWS))
    assert read(path, caps=Caps(expanded_bytes=len(ROWS))) == ROWS
    with pytest.raises(SourceRefused, match="expands too far"):
        read(path, caps=Caps(expanded_bytes=len(ROWS) - 1))
    with pytest.raises(SourceRefused, match="too large"):
        read(path, caps=Caps(packed_bytes=100))
    with pytest.raises(SourceRefused, match="too large"):
        read(written(tmp_path, ROWS), caps=Caps(expanded_bytes=100))


def test_a_zip_that_lies_about_its_size_gives_no_byte_more_than_it_says(tmp_path):
    path = patched(zipped(tmp_path, [("a.csv", ROWS)]), 24, "<L", 10)
    with pytest.raises(FeedError, match="damaged zip"):
        read(path)


def test_a_zip_bomb_is_refused_over_all_its_members_together(tmp_path):
    path = zipped(tmp_path, [(f"{i}.csv", bytes(4 << 20)) for i in range(8)])
    with pytest.raises(SourceRefused, match="expands too far"):
        checked_zip(path, "a.zip")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("../a.csv", "climbs"),
        ("/etc/passwd", "absolute"),
        ("a/../../b", "climbs"),
        ("a//b", "climbs"),
        ("./a", "climbs"),
        ("..", "climbs"),
        ("C:\\a", "odd"),
        ("C:a", "odd"),
        ("a\\..\\b", "odd"),
        ("a\nb", "odd"),
        ("a\u202eb", "odd"),
        ("-rf", "odd"),
        ("$(id)", "odd"),
        ("x" * 300, "too long"),
    ],
)
def test_member_names_that_lead_elsewhere_are_refused(tmp_path, name, word):
    with pytest.raises(SourceRefused, match=word):
        zip_members(zipped(tmp_path, [("a.csv", b""), (name, b"x")]), "a.zip")


def test_a_name_cut_by_nul_is_refused(tmp_path):
    path = zipped(tmp_path, [("a.csvX.exe", b"x")])
    path.write_bytes(path.read_bytes().replace(b"a.csvX", b"a.csv\0"))
    with pytest.raises(SourceRefused, match="odd"):
        zip_members(path, "a.zip")


@pytest.mark.parametrize("twice", [["a.csv", "a.csv"], ["a.csv", "A.CSV"], ["a", "a/"]])
def test_a_member_twice_is_refused(tmp_path, twice):
    with pytest.raises(SourceRefused, match="twice"):
        zip_members(zipped(tmp_path, [(name, b"") for name in twice]), "a.zip")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, mode):
    info = zipfile.ZipInfo("a.csv")
    info.external_attr = (mode | 0o777) << 16
    with pytest.raises(SourceRefused, match="link"):
        zip_members(zipped(tmp_path, [(info, b"/etc/passwd")]), "a.zip")


def test_an_encrypted_member_is_refused(tmp_path):
    with pytest.raises(SourceRefused, match="encrypted"):
        zip_members(patched(zipped(tmp_path, [("a.csv", b"x")]), 8, "<H", 1), "a.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_other_than_deflate_are_refused(tmp_path, method):
    with pytest.raises(SourceRefused, match="deflate"):
        zip_members(zipped(tmp_path, [("a.csv", ROWS)], method=method), "a.zip")


def test_more_members_than_the_cap_are_refused(tmp_path):
    names = [(f"{i}.csv", b"") for i in range(65)]
    with pytest.raises(SourceRefused, match="at most 64"):
        zip_members(zipped(tmp_path, names), "a.zip")
    assert len(zip_members(zipped(tmp_path, names[1:]), "a.zip")) == 64


def test_a_zip_with_a_huge_directory_is_refused_before_it_is_read(tmp_path):
    path = zipped(tmp_path, [(f"{i:05d}" + "x" * 200, b"") for i in range(6000)])
    with pytest.raises(FeedError, match="directory"):
        zip_members(path, "a.zip")


@pytest.mark.parametrize("keep", [5, 100, -1, -30])
def test_a_truncated_zip_is_refused(tmp_path, keep):
    path = zipped(tmp_path, [("a.csv", ROWS)])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FeedError, match="damaged zip"):
        read(path)


def test_a_zip_with_a_flipped_bit_is_refused(tmp_path):
    path = zipped(tmp_path, [("a.csv", ROWS)])
    data = bytearray(path.read_bytes())
    data[1000] ^= 4
    path.write_bytes(data)
    with pytest.raises(FeedError, match="damaged zip"):
        read(path)
    with pytest.raises(FeedError, match=r"a\.csv"):
        checked_zip(path, "a.zip")


def test_a_zip_with_several_files_says_how_many(tmp_path):
    with pytest.raises(FeedError, match="got 2 files"):
        read(zipped(tmp_path, [("a.csv", b""), ("b.csv", b"")]))


def test_expanding_gives_the_file_itself_or_a_new_one(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    plain = written(tmp_path, ROWS)
    assert expanded(plain, out) == plain
    for packed in (written(tmp_path, gzip.compress(ROWS), "a.gz"), zipped(tmp_path, [("a.csv", ROWS)])):
        made = expanded(packed, out)
        assert made.parent == out
        assert made.read_bytes() == ROWS


def test_expanding_something_damaged_or_into_no_folder_leaves_nothing(tmp_path):
    out = tmp_path / "out"
    path = written(tmp_path, gzip.compress(ROWS)[:-1])
    with pytest.raises(LakeError, match="cannot write"):
        expanded(path, out)
    out.mkdir()
    with pytest.raises(FeedError, match="truncated"):
        expanded(path, out)
    assert list(out.iterdir()) == []


def test_a_file_that_is_gone_is_said_in_one_sentence(tmp_path):
    for use in (open_guarded, zip_members, checked_zip):
        with pytest.raises(FeedError, match="No such file"):
            use(tmp_path / "none", "none")


@settings(deadline=None)  # a shared machine may pause
@given(data=st.binary(max_size=400))
def test_noise_that_begins_like_a_zip_is_a_feed_error_or_refused(data):
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"PK\x05\x06" + data)
        file.flush()
        with pytest.raises((FeedError, SourceRefused)):
            read(Path(file.name))


@pytest.mark.real_data
def test_the_published_archives_pass(real_data, tmp_path):
    archives = [path for suffix in ("zip", "npz", "xlsx") for path in real_data.rglob(f"*.{suffix}")]
    assert archives
    for path in archives:
        assert checked_zip(path, path.name) == path
    gz = min(real_data.rglob("*.csv.gz"))
    with open_guarded(gz, gz.name) as stream:
        assert stream.read() == gzip.decompress(gz.read_bytes())
