"""Zips of several files: what is wanted is read under caps over all members, and no reader sees another feed."""

from __future__ import annotations

import struct
import warnings
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtgpt.errors import FeedError, SourceRefused
from mtgpt.ingest.guard.meter import Caps
from mtgpt.ingest.guard.zip_file import GuardedZip, zip_folder

WANTED = frozenset({"a.txt", "b.txt", "c.txt"})
LINES = b"".join(b"%d,%d\n" % (i, i * 7919 % 977) for i in range(20_000))


def zipped(folder, members, *, method=zipfile.ZIP_DEFLATED):
    path = folder / "feed.zip"
    with zipfile.ZipFile(path, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in members:
            archive.writestr(name, data)
    return path


def read_all(path, **options):
    with zip_folder(path, "feed.zip", WANTED, **options) as folder:
        found = {}
        for name in folder.files:
            with folder.open(name) as stream:
                found[name] = stream.read()
        return found


def patch(path, position, fmt, value):
    data = bytearray(path.read_bytes())
    struct.pack_into(fmt, data, position, value)
    path.write_bytes(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_wanted_files_are_read_by_their_plain_names_and_others_are_not(tmp_path, method):
    members = [("feed/", b""), ("feed/a.txt", LINES), ("feed/b.txt", b""), ("feed/run.sh", b"x"), ("feed/in.zip", b"x")]
    assert read_all(zipped(tmp_path, members, method=method)) == {"a.txt": LINES, "b.txt": b""}


def test_two_members_may_be_read_at_the_same_time_and_one_twice(tmp_path):
    path = zipped(tmp_path, [("a.txt", LINES), ("b.txt", LINES[::-1])])
    with zip_folder(path, "feed.zip", WANTED) as folder, folder.open("a.txt") as one, folder.open("b.txt") as two:
        halves = one.read(50_000), two.read(50_000)
        assert (halves[0] + one.read(), halves[1] + two.read()) == (LINES, LINES[::-1])
        with folder.open("a.txt") as again:
            assert again.read() == LINES


def test_reading_one_member_twice_does_not_count_twice(tmp_path):
    path = zipped(tmp_path, [("a.txt", LINES)])
    with zip_folder(path, "feed.zip", WANTED, caps=Caps(expanded_bytes=len(LINES))) as folder:
        for _ in range(3):
            with folder.open("a.txt") as stream:
                assert stream.read() == LINES


def test_a_zip_without_any_wanted_file_says_what_it_has(tmp_path):
    with pytest.raises(FeedError, match=r"got x\.csv, expected a\.txt"):
        read_all(zipped(tmp_path, [("x.csv", b"")]))


def test_wanted_files_in_two_folders_are_a_guess_and_refused(tmp_path):
    with pytest.raises(SourceRefused, match=r"\(top\), old"):
        read_all(zipped(tmp_path, [("a.txt", b""), ("old/b.txt", b"")]))


def test_the_caps_hold_over_all_members_together_before_anything_is_read(tmp_path):
    path = zipped(tmp_path, [("a.txt", LINES), ("b.txt", LINES), ("other.bin", LINES)])
    assert len(read_all(path, caps=Caps(expanded_bytes=3 * len(LINES)))) == 2
    with pytest.raises(SourceRefused, match="expands too far"):
        read_all(path, caps=Caps(expanded_bytes=3 * len(LINES) - 1))


@pytest.mark.parametrize(("local", "central"), [(22, None), (None, 24), (18, None), (14, None), (8, None)])
def test_a_header_that_contradicts_its_directory_is_refused(tmp_path, local, central):
    path = zipped(tmp_path, [("a.txt", LINES)])
    position = local if local is not None else path.read_bytes().index(b"PK\x01\x02") + central
    patch(path, position, "<H", 9)
    with pytest.raises(SourceRefused, match="header and directory differ"):
        read_all(path)


def test_another_name_in_the_header_than_in_the_directory_is_refused(tmp_path):
    path = zipped(tmp_path, [("a.txt", LINES)])
    patch(path, 30, "<c", b"b")
    with pytest.raises(SourceRefused, match="header and directory differ"):
        read_all(path)


@pytest.mark.parametrize("size", [10, len(LINES) - 1, len(LINES) + 1])
def test_a_member_that_expands_to_another_length_than_both_say_is_refused(tmp_path, size):
    path = zipped(tmp_path, [("a.txt", LINES)])
    patch(path, 22, "<L", size)
    patch(path, path.read_bytes().index(b"PK\x01\x02") + 24, "<L", size)
    with pytest.raises(FeedError, match="expands to"):
        read_all(path)


def test_a_wrong_checksum_is_refused_at_the_end_of_the_member(tmp_path):
    path = zipped(tmp_path, [("a.txt", LINES)])
    for position in (14, path.read_bytes().index(b"PK\x01\x02") + 16):
        patch(path, position, "<L", 1)
    with pytest.raises(FeedError, match="checksum"):
        read_all(path)


def test_bytes_after_the_end_of_the_compressed_data_are_refused(tmp_path):
    path = zipped(tmp_path, [("a.txt", LINES)])
    with zipfile.ZipFile(path) as archive:
        packed = archive.getinfo("a.txt").compress_size
    data = path.read_bytes()
    directory = data.index(b"PK\x01\x02")
    path.write_bytes(data[:directory] + b"hidden" + data[directory:])
    patch(path, 18, "<L", packed + 6)
    patch(path, path.read_bytes().index(b"PK\x01\x02") + 20, "<L", packed + 6)
    patch(path, path.read_bytes().index(b"PK\x05\x06") + 16, "<L", directory + 6)
    with pytest.raises(FeedError, match="follow its end"):
        read_all(path)


def test_members_that_lie_over_each_other_are_refused(tmp_path):
    path = zipped(tmp_path, [("a.txt", LINES), ("b.txt", LINES)])
    data = path.read_bytes()
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    patch(path, second + 42, "<L", 0)
    with pytest.raises((SourceRefused, FeedError), match=r"overlap|differ"):
        read_all(path)


def test_names_that_one_disk_takes_for_the_same_are_refused(tmp_path):
    for twice in (["a.txt", "A.TXT"], ["é.txt", "É.txt"], ["ﬁ.txt", "fi.txt"]):
        with pytest.raises(SourceRefused, match="twice"):
            read_all(zipped(tmp_path, [(name, b"") for name in twice]))


def test_names_that_are_not_utf_8_are_refused(tmp_path):
    path = zipped(tmp_path, [("a.txt", LINES), ("xéx.txt", b"")])
    path.write_bytes(path.read_bytes().replace("xéx".encode(), b"x\xff\xfex"))
    with pytest.raises(SourceRefused, match="UTF-8"):
        read_all(path)
    path = zipped(tmp_path, [("a.txt", LINES), ("xax.txt", b"")])
    path.write_bytes(path.read_bytes().replace(b"xax", b"x\x82x"))
    with pytest.raises(SourceRefused, match="UTF-8"):
        read_all(path)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_any_flipped_byte_is_noticed_or_changes_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("zip")
    path = zipped(folder, [("a.txt", LINES[:3000]), ("b.txt", b"x" * 50)])
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    try:
        found = read_all(path)
    except (FeedError, SourceRefused):
        return
    assert found == {"a.txt": LINES[:3000], "b.txt": b"x" * 50}


@pytest.mark.real_data
def test_published_timetables_pass(real_data):
    archives = sorted(real_data.glob("gtfs*/*.zip"))
    assert archives
    for path in archives:
        with GuardedZip(path, path.name) as archive:
            assert any(name.endswith("stop_times.txt") for name in archive.members)
