"""The departments' server and the manifest that reads from it."""

import gzip
import http.client
import json
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from mtgpt.errors import ManifestError, NotFound
from mtgpt.sim.departments import demo_manifest, serve_departments, snapshots, write_demo_manifest


@pytest.fixture
def city(tmp_path: Path) -> Path:
    folder = tmp_path / "town"
    (folder / "roads").mkdir(parents=True)
    for week in ("w1", "w2"):
        (folder / "roads" / f"speed_{week}.csv.gz").write_bytes(gzip.compress(f"time,a\n{week},1\n".encode(), mtime=0))
    (folder / "roads" / "places.csv").write_text("id,lat,lon\na,1,2\n")
    (folder / "weather").mkdir()
    (folder / "weather" / "hourly.csv").write_text("time,rain\n")
    (tmp_path / "secret.txt").write_text("no")
    manifest = tmp_path / "town.yaml"
    sources = [
        {
            "id": "roads",
            "kind": "matrix",
            "path": "town/roads/speed_*.csv.gz",
            "files": {"locations": "town/roads/places.csv"},
        },
        {"id": "weather", "kind": "weather_table", "path": "town/weather/hourly.csv"},
    ]
    manifest.write_text(yaml.safe_dump({"city": "town", "sources": sources}))
    return manifest


def ask(base_url: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(base_url)
    with closing(http.client.HTTPConnection(parts.hostname, parts.port, timeout=5)) as connection:
        connection.request(method, path, headers={key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def test_a_gzip_file_is_sent_as_it_lies_with_its_length_and_an_etag(city):
    file = city.parent / "town" / "roads" / "speed_w1.csv.gz"
    with serve_departments(city.parent / "town") as base_url:
        status, headers, body = ask(base_url, "/roads/speed_w1.csv.gz")
    assert status == 200
    assert body == file.read_bytes()
    assert int(headers["Content-Length"]) == len(body)
    assert headers["ETag"].startswith('"')
    assert "Content-Encoding" not in headers


def test_who_has_the_file_already_gets_304_and_no_bytes(city):
    with serve_departments(city.parent / "town") as base_url:
        etag = ask(base_url, "/weather/hourly.csv")[1]["ETag"]
        status, _, body = ask(base_url, "/weather/hourly.csv", If_None_Match=etag)
    assert (status, body) == (304, b"")


def test_head_tells_the_length_without_the_bytes(city):
    with serve_departments(city.parent / "town") as base_url:
        status, headers, body = ask(base_url, "/weather/hourly.csv", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "10", b"")


def test_a_department_lists_its_files(city):
    with serve_departments(city.parent / "town") as base_url:
        listed = json.loads(ask(base_url, "/roads")[2])["files"]
    assert [file["name"] for file in listed] == ["places.csv", "speed_w1.csv.gz", "speed_w2.csv.gz"]


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/%2e%2e/secret.txt", "/roads/../../secret.txt", "//secret.txt", "/nothing"]
)
def test_there_is_no_way_out_of_the_served_folder(city, path):
    with serve_departments(city.parent / "town") as base_url:
        status, _, body = ask(base_url, path)
    assert status == 404
    assert b"no such feed" in body


def test_the_server_is_gone_when_the_context_is_left(city):
    with serve_departments(city.parent / "town") as base_url:
        pass
    with pytest.raises(ConnectionRefusedError):
        ask(base_url, "/weather/hourly.csv")


def test_an_empty_folder_is_not_worth_a_server(tmp_path):
    with pytest.raises(NotFound, match="no feeds to serve"), serve_departments(tmp_path):
        pass


def test_a_glob_becomes_one_source_per_file_and_files_become_urls(city):
    sources = demo_manifest(city, "http://127.0.0.1:9")["sources"]
    assert [source["id"] for source in sources] == ["roads_w1", "roads_w2", "weather"]
    assert sources[0]["url"] == "http://127.0.0.1:9/roads/speed_w1.csv.gz"
    assert sources[0]["files"] == {"locations": "http://127.0.0.1:9/roads/places.csv"}
    assert all(source["allow_loopback"] and "path" not in source for source in sources)


def test_a_path_that_matches_nothing_is_named(city):
    (city.parent / "town" / "weather" / "hourly.csv").unlink()
    with pytest.raises(ManifestError, match="weather: no file matches"):
        demo_manifest(city, "http://127.0.0.1:9")


def test_a_file_outside_the_served_folder_is_refused(city):
    document = yaml.safe_load(city.read_text())
    document["sources"][1]["path"] = "secret.txt"
    city.write_text(yaml.safe_dump(document))
    with pytest.raises(ManifestError, match="not in the folder that is served"):
        demo_manifest(city, "http://127.0.0.1:9")


def test_the_written_manifest_reads_back_as_the_same_values(city, tmp_path):
    target = write_demo_manifest(city, "http://127.0.0.1:9", tmp_path / "new" / "town.yaml")
    assert yaml.safe_load(target.read_text()) == demo_manifest(city, "http://127.0.0.1:9")


@pytest.fixture
def live_city(city: Path) -> Path:
    for minute in (10, 0, 20):
        (city.parent / "town" / "roads" / f"now_20240405T05{minute:02d}Z.json").write_text(str(minute))
    document = yaml.safe_load(city.read_text())
    document["sources"].append({"id": "roads_now", "kind": "gbfs", "path": "town/roads/now_*.json"})
    city.write_text(yaml.safe_dump(document))
    return city


def test_a_live_feed_has_one_address_where_every_request_gets_the_next_snapshot_and_the_last_one_stays(live_city):
    with serve_departments(live_city.parent / "town") as base_url:
        source = demo_manifest(live_city, base_url)["sources"][-1]
        assert source["id"] == "roads_now"
        path = urlsplit(source["url"]).path
        assert path == "/roads/now.json"
        answers = [ask(base_url, path) for _ in range(4)]
    assert [body for _, _, body in answers] == [b"0", b"10", b"20", b"20"]
    assert answers[2][1]["ETag"] == answers[3][1]["ETag"] != answers[1][1]["ETag"]


def test_looking_at_the_head_of_a_live_feed_uses_no_snapshot_up(live_city):
    with serve_departments(live_city.parent / "town") as base_url:
        assert ask(base_url, "/roads/now.json", "HEAD")[0] == 200
        assert ask(base_url, "/roads/now.json")[2] == b"0"


def test_who_has_the_last_snapshot_of_a_live_feed_gets_304(live_city):
    with serve_departments(live_city.parent / "town") as base_url:
        etag = [ask(base_url, "/roads/now.json") for _ in range(3)][-1][1]["ETag"]
        assert ask(base_url, "/roads/now.json", If_None_Match=etag)[0] == 304


def test_snapshots_are_counted_by_source_and_other_globs_are_not(live_city):
    assert snapshots(live_city) == {"roads_now": 3}
