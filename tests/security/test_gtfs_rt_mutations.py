"""GTFS-Realtime messages that were cut or changed on the way: none of them is taken for a whole one."""

from __future__ import annotations

import random
import resource
import time
from typing import TYPE_CHECKING

import polars as pl
import pytest

from mtgpt.contracts.registry import contract
from mtgpt.contracts.verdict import judge
from mtgpt.errors import FeedError, SourceRefused, SourceUnavailable
from mtgpt.ingest.feeds.gtfs_rt.message import read_message
from mtgpt.ingest.manifest import CityManifest
from mtgpt.ingest.pull.pull import Limits
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.lake.replay import replay
from mtgpt.settings import Settings
from tests.ingest.gtfs_rt_feed import NOW, STAMP, a_city, file, read
from tests.ingest.http_feed import feed_server, fetch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CASES = 300
CITY = a_city(24, 8)
WHOLE = CITY.SerializeToString()


def boundaries(data: bytes, folder: Path) -> list[int]:
    """Where each entity begins, its key included, and the end of the last one: any cut there reads well."""
    spans = read_message(file(folder, data), received_at=NOW).spans
    ends = [end for _, end in spans]
    return [len(data) - sum(len(b"\x12") + _prefix(end - start) + end - start for start, end in spans), *ends]


def _prefix(size: int) -> int:
    return 1 if size < 128 else 2


def keeps_the_contract(tables: dict[str, pl.DataFrame]) -> int:
    """Judges every row; good ones must be what the contract says, and none may be lost."""
    good = 0
    for name, frame in tables.items():
        known = {"city_id": "testville", "source_id": "live", "batch_id": "b"}
        wanted = {key: pl.lit(value) for key, value in known.items() if key in contract(name).polars_schema.names()}
        verdict = judge(frame.with_columns(**wanted), contract(name), received_at=NOW)
        assert verdict.good.height + verdict.bad.height + verdict.duplicates == frame.height
        for column in verdict.good.select(pl.col(pl.String)).iter_columns():
            for text in column.drop_nulls():
                assert text.encode("utf-8").decode("utf-8") == text
        if name == "stop_visit":
            seconds = verdict.good["time"].dt.epoch("s") - STAMP
            assert verdict.good.height == 0 or (seconds.abs() <= 2 * 86_400).all()
            assert verdict.good["delay_s"].drop_nulls().abs().le(86_400).all()
        good += verdict.good.height
    return good


def flip(data: bytes, draw: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
    return bytes(out)


def delete(data: bytes, draw: random.Random) -> bytes:
    at, size = draw.randrange(len(data)), draw.randint(1, 12)
    return data[:at] + data[at + size :]


def insert(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.randbytes(draw.randint(1, 12)) + data[at:]


def replace(data: bytes, draw: random.Random) -> bytes:
    at, size = draw.randrange(len(data)), draw.randint(1, 40)
    return data[:at] + draw.randbytes(size) + data[at + size :]


def swap(data: bytes, draw: random.Random) -> bytes:
    one, two = sorted(draw.randrange(len(data)) for _ in range(2))
    return data[two:] + data[one:two] + data[:one]


@pytest.mark.parametrize("change", [flip, delete, insert, replace, swap])
def test_a_changed_message_is_refused_or_every_row_keeps_the_contract(
    tmp_path, change: Callable[[bytes, random.Random], bytes]
):
    draw, sentences, rows = random.Random(change.__name__), [], 0
    for _ in range(CASES // 5):
        try:
            tables = read(tmp_path, change(WHOLE, draw))
        except (FeedError, SourceRefused) as error:
            sentences.append(error.sentence())
        else:
            rows += keeps_the_contract(tables)
    assert sentences
    assert all(one.startswith("feed.pb") and "\n" not in one for one in sentences)
    # Where lengths no longer fit, hardly anything is readable; where bits turned in a number, most is.
    assert rows > 0 or change not in {flip, replace}


def test_a_message_cut_anywhere_but_between_entities_is_refused(tmp_path):
    draw, allowed = random.Random(0), set(boundaries(WHOLE, tmp_path))
    assert len(allowed) == len(CITY.entity) + 1
    tried = draw.sample(sorted(set(range(1, len(WHOLE))) - allowed), CASES)
    for at in tried:
        with pytest.raises(FeedError):
            read(tmp_path, WHOLE[:at])


def sized(number: int, content: bytes) -> bytes:
    size, length = bytearray(), len(content)
    while length >= 0x80:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((number << 3 | 2, *size, length)) + content


def of_trips(content: bytes, count: int) -> bytes:
    return sized(2, sized(1, b"e") + sized(3, sized(1, b"") + content)) * count


@pytest.mark.parametrize(
    ("entities", "said"),
    [
        (lambda: b"\x12\x00" * 10_000_000, "too many entities"),
        (lambda: b"\xca\x3e\x00" * 5_000_000, "too many entities"),
        (lambda: of_trips(b"\x12\x00" * 19_000, 100), "more stop updates"),
        (lambda: of_trips(b"\x12\x00" * 900_000, 3), "too many fields"),
        (lambda: sized(2, sized(1, b"e") + sized(5, b"\x2a\x00" * 900_000)) * 3, "alerts with too many parts"),
        (lambda: of_trips(sized(2, b"\x3b\x3c" * 5000), 100), "cut or damaged"),
        (lambda: sized(2, sized(1, b"e" * 2_000_001)), "too large"),
    ],
    ids=["entities", "extensions", "stops", "stops of one trip", "concerned", "groups", "one entity"],
)
def test_a_small_message_that_would_be_a_large_one_in_memory_is_refused_at_once(tmp_path, entities, said):
    data = sized(1, CITY.header.SerializeToString()) + entities()
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises((FeedError, SourceRefused), match=said):
        read(tmp_path, data)
    assert time.perf_counter() - started < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kilobytes


def serve_cut(at: int, *, framing: str) -> Callable:
    """An answer that begins as if it would be whole and ends after ``at`` bytes."""

    def give(request) -> None:
        request.close_connection = True
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        if framing == "length":
            request.send_header("Content-Length", str(len(WHOLE)))
        elif framing == "chunked":
            request.send_header("Transfer-Encoding", "chunked")
        request.send_header("Connection", "close")
        request.end_headers()
        if framing == "chunked":
            request.wfile.write(b"%x\r\n%b\r\n" % (at, WHOLE[:at]) if at else b"")
        else:
            request.wfile.write(WHOLE[:at])

    return give


@pytest.mark.parametrize("framing", ["length", "chunked", "nothing"])
def test_an_answer_cut_at_any_boundary_between_entities_is_refused(tmp_path, framing):
    cuts = boundaries(WHOLE, tmp_path)[:-1]
    with feed_server() as feed:
        for at in cuts:
            feed.answers["/feed.pb"] = serve_cut(at, framing=framing)
            kind = SourceRefused if framing == "nothing" else SourceUnavailable
            with pytest.raises(kind):
                fetch(feed.url("/feed.pb"), tmp_path / "in", limits=Limits(tries=1), measured=True)
        assert len(feed.requests) == len(cuts) == len(CITY.entity)
    left = tmp_path / "in"
    assert not left.exists() or list(left.iterdir()) == []


def test_a_whole_answer_is_taken_however_its_end_is_said(tmp_path):
    with feed_server() as feed:
        feed.serve("/length", WHOLE)

        def chunks(request) -> None:
            request.close_connection = True
            request.protocol_version = "HTTP/1.1"
            request.send_response(200)
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            request.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(WHOLE), WHOLE))

        feed.answers["/chunks"] = chunks
        for path in ("/length", "/chunks"):
            assert fetch(feed.url(path), tmp_path / "in", measured=True).size == len(WHOLE)


def the_city(folder: Path, path: str, **options: object) -> tuple[CityManifest, Lake, Settings]:
    settings = Settings(home=folder / "home")
    source = {"id": "live", "kind": "gtfs_rt", "path": path, "options": options}
    manifest = CityManifest.model_validate(
        {"city": "testville", "name": "Testville", "time_zone": "America/New_York", "sources": (source,)}
    )
    manifest._file = folder / "testville.yaml"
    return manifest, Lake.open(settings.lake), settings


def snapshots(folder: Path, shares: list[float], *, every_s: int = 30) -> None:
    """Messages half a minute apart, each cut between two entities after a share of its entities."""
    for number, share in enumerate(shares):
        made = a_city(40, 4)
        made.header.timestamp = STAMP - 7200 + every_s * number
        del made.entity[round(len(made.entity) * share) :]
        (folder / f"{number:02d}.pb").write_bytes(made.SerializeToString())


def test_a_file_that_lost_half_of_its_entities_is_held_and_nothing_of_it_is_shown(tmp_path):
    snapshots(tmp_path, [1, 1, 1, 0.4, 0.0, 0.8, 1])
    manifest, lake, settings = the_city(tmp_path, "*.pb")
    results = [one for one in ingest_city(manifest, lake, settings=settings) if one.source_id == "live"]
    assert [one.status for one in results] == ["committed"] * 3 + ["held"] * 2 + ["committed"] * 2
    assert results[3].reason.startswith("entity_drop: 22 trips and vehicles where the last 3 messages had 54")
    held = [one.batch_id for one in results if one.status == "held"]
    assert not set(held) & set(lake.scan("stop_visit").select("batch_id").collect()["batch_id"])
    assert replay(held[0], lake, settings=settings).status == "held"
    accepted = replay(held[0], lake, settings=settings, accept=True)
    assert (accepted.status, accepted.rows_in) == ("committed", results[3].rows_in)


def test_a_drop_that_lasts_half_an_hour_is_what_the_feed_has_now(tmp_path):
    snapshots(tmp_path, [1, 1, 1, *[0.4] * 12], every_s=180)
    manifest, lake, settings = the_city(tmp_path, "*.pb")
    statuses = [one.status for one in ingest_city(manifest, lake, settings=settings) if one.source_id == "live"]
    assert statuses == ["committed"] * 3 + ["held"] * 8 + ["committed"] * 4


@pytest.mark.parametrize(("shares", "options"), [([1, 1, 0.1], {}), ([1, 1, 1, 0.1], {"min_share": 0.0})])
def test_a_drop_without_a_past_or_with_the_rule_switched_off_is_taken(tmp_path, shares, options):
    snapshots(tmp_path, shares)
    manifest, lake, settings = the_city(tmp_path, "*.pb", **options)
    assert {one.status for one in ingest_city(manifest, lake, settings=settings)} == {"committed"}
