"""A bike share system polled over HTTP: each report once, each station once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mtgpt.ingest.adapters import adapters
from tests.ingest.gbfs_feeds import UPDATED, information, status, vehicle, write
from tests.ingest.http_feed import feed_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.ingest.http_feed import Feed
    from tests.lake.conftest import City


@pytest.fixture
def feed() -> Iterator[Feed]:
    """A web server on loopback."""
    with feed_server() as server:
        yield server


def publish(feed: Feed, folder: Path, minute: int) -> dict[str, str]:
    """All files of a system of two stations and a free bike, as of some minutes later; addresses by role."""
    now = UPDATED + 60 * minute
    stations = [status(name, last_reported=now - 30, num_bikes_available=5 + minute) for name in ("s1", "s2")]
    contents = {
        "gbfs": {"en": {"feeds": [{"name": "station_status", "url": feed.url("/station_status.json")}]}},
        "station_status": {"stations": stations},
        "station_information": {"stations": [information("s1"), information("s2", lat=48.3)]},
        "free_bike_status": {"bikes": [vehicle(lat=48.25)]},
    }
    return {
        name: feed.serve(
            f"/{name}.json",
            write(folder, name, data, updated=now if "status" in name else UPDATED).read_bytes(),
            ETag=f'"{name}-{minute if "status" in name else 0}"',
        )
        for name, data in contents.items()
    }


def test_polls_add_reports_and_repeat_no_station(city: City, feed: Feed) -> None:
    folder = city.write(".")
    folder.mkdir(exist_ok=True)
    urls = publish(feed, folder, 0)
    city.sources.append({"id": "bikes", "kind": "gbfs", "url": urls.pop("gbfs"), "files": urls, "allow_loopback": True})

    def poll() -> tuple[str, int]:
        (result, *_) = city.ingest(kinds=adapters())
        return result.status, city.lake.scan("observation").collect().height

    # Two stations with two counts, three cells.
    assert poll() == ("committed", 7)
    assert poll() == ("replay", 7)
    # Three minutes later everybody still reports within the same five minutes: the first report stays.
    publish(feed, folder, 2)
    assert poll()[1] == 7
    publish(feed, folder, 5)
    assert poll() == ("committed", 14)
    spots = city.lake.scan("spot").collect()
    assert sorted(spots["kind"]) == ["cell"] * 3 + ["dock"] * 2
    assert city.lake.scan("quarantine").collect().height == 0
