"""The simulated city's departments on the web: a loopback server, and the manifest that reads from it.

Each department has its own prefix (``/roads``, ``/bikes``, ``/weather``, ``/transit``) and a catalogue of its files.
Answers carry an ETag and a Content-Length, and files are sent as they lie (``.gz`` stays ``.gz``), as an open-data
portal does.

Files that differ in nothing but a time in their names (``realtime_20240405T0500Z.pb``, …) are snapshots of a live feed,
which has an address of its own without that time: whoever asks there gets the next one, as if minutes had passed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml

from mtgpt.errors import ManifestError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".gz": "application/gzip",
    ".json": "application/json",
    ".pb": "application/x-protobuf",
    ".zip": "application/zip",
}
_SNAPSHOT = re.compile(r"(?P<feed>.+)_\d{8}T\d{4}Z(?P<suffix>\.[a-z]+)")


@contextmanager
def serve_departments(folder: Path, *, port: int = 0) -> Iterator[str]:
    """Serves every file under a folder on 127.0.0.1 while the context lasts.

    Args:
        folder: Its sub-folders are the departments. What is not there when the context begins is not served.
        port: 0 picks a free one.

    Yields:
        Base URL without a trailing slash, such as ``http://127.0.0.1:43211``.

    Raises:
        NotFound: The folder holds no files.
    """
    files = _catalogue(folder)
    if not files:
        raise NotFound("no feeds to serve", where=folder, next_step="remake them with python -m mtgpt.sim.demo_city")
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(files))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="departments")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def demo_manifest(manifest: Path, base_url: str) -> dict[str, Any]:
    """The demo city's manifest with the departments' URLs in place of its files.

    A glob becomes one source per file, since a web server does not know globs; what the star stood for is added to
    the source's id (``roads_speed`` → ``roads_speed_2024_w11``). A glob of snapshots becomes the address of the live
    feed that they were taken of; :func:`snapshots` says how often to ask there.

    Args:
        manifest: The city's YAML, whose paths lead into one folder that the server serves.
        base_url: From :func:`serve_departments`.

    Returns:
        The manifest as plain values, ready for YAML.

    Raises:
        ManifestError: A path matches no file, or leads outside the served folder.
    """
    document = yaml.safe_load(manifest.read_text(encoding="utf-8"))
    sources = []
    for source in document["sources"]:
        matches = sorted(manifest.parent.glob(source["path"]))
        if not matches:
            raise ManifestError("no file matches", where=f"{manifest}: {source['id']}", got=source["path"])
        one = {key: value for key, value in source.items() if key != "path"} | {"allow_loopback": True}
        if "files" in source:
            one["files"] = {
                role: _url(base_url, manifest.parent / location, manifest) for role, location in source["files"].items()
            }
        live = {_live_name(match) for match in matches}
        if len(live) == 1 and None not in live:
            sources.append({**one, "url": _url(base_url, matches[0].with_name(str(live.pop())), manifest)})
            continue
        for match in matches:
            name = f"{source['id']}_{_star(source['path'], match)}" if len(matches) > 1 else source["id"]
            sources.append({**one, "id": name, "url": _url(base_url, match, manifest)})
    return {**document, "sources": sources}


def snapshots(manifest: Path) -> dict[str, int]:
    """How many snapshots each live source of a manifest has, by the source's id."""
    found = {}
    for source in yaml.safe_load(manifest.read_text(encoding="utf-8"))["sources"]:
        taken = [_live_name(match) for match in manifest.parent.glob(source["path"])]
        if taken and None not in taken:
            found[source["id"]] = len(taken)
    return found


def write_demo_manifest(manifest: Path, base_url: str, target: Path) -> Path:
    """Writes :func:`demo_manifest` as YAML and returns where it lies."""
    target.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(demo_manifest(manifest, base_url), sort_keys=False, allow_unicode=True)
    target.write_text(text, encoding="utf-8")
    return target


class _File:
    __slots__ = ("etag", "path", "size", "type")

    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        self.path = path
        self.size = len(content)
        self.etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        self.type = _TYPES.get(path.suffix, "application/octet-stream")


def _catalogue(folder: Path) -> dict[str, _File]:
    # Requests are looked up here and never turned into paths, so there is no way out of the folder.
    return {
        f"/{file.relative_to(folder).as_posix()}": _File(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.is_symlink()
    }


class _LiveFeeds:
    """Addresses whose content moves on by a snapshot with every request, until the last."""

    def __init__(self, files: Mapping[str, _File]) -> None:
        self._lock = threading.Lock()
        self._asked: dict[str, int] = {}
        self._snapshots: dict[str, list[_File]] = {}
        for name, file in files.items():
            address = PurePosixPath(name)
            live = _live_name(address)
            if live is not None:
                self._snapshots.setdefault(address.with_name(live).as_posix(), []).append(file)

    def now(self, path: str, *, moves_on: bool) -> _File | None:
        """What lies at an address now; None where there is no such feed."""
        with self._lock:
            taken = self._snapshots.get(path)
            if taken is None:
                return None
            at = min(self._asked.get(path, 0), len(taken) - 1)
            if moves_on:
                self._asked[path] = at + 1
            return taken[at]


def _handler(files: Mapping[str, _File]) -> type[BaseHTTPRequestHandler]:
    live = _LiveFeeds(files)

    class Departments(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "departments"
        sys_version = ""

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Says nothing: the reader's own log tells what was pulled."""

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            file = files.get(path) or live.now(path, moves_on=body)
            if file is None:
                self._answer_listing(path, body=body)
                return
            if self.headers.get("If-None-Match") == file.etag:
                self.send_response(HTTPStatus.NOT_MODIFIED)
                self.send_header("ETag", file.etag)
                self.end_headers()
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("ETag", file.etag)
            self.send_header("Content-Type", file.type)
            self.send_header("Content-Length", str(file.size))
            self.end_headers()
            if body:
                with file.path.open("rb") as source:
                    shutil.copyfileobj(source, self.wfile)

        def _answer_listing(self, path: str, *, body: bool) -> None:
            prefix = path if path.endswith("/") else f"{path}/"
            listed = [
                {"name": PurePosixPath(name).name, "url": name, "bytes": file.size}
                for name, file in files.items()
                if name.startswith(prefix)
            ]
            status = HTTPStatus.OK if listed else HTTPStatus.NOT_FOUND
            content = json.dumps({"files": listed} if listed else {"error": "no such feed"}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

    return Departments


def _url(base_url: str, file: Path, manifest: Path) -> str:
    served = (manifest.parent / manifest.stem).resolve()
    if not file.resolve().is_relative_to(served):
        raise ManifestError("the file is not in the folder that is served", where=manifest, got=file, expected=served)
    return f"{base_url}/{file.resolve().relative_to(served).as_posix()}"


def _live_name(snapshot: PurePath) -> str | None:
    """``realtime.pb`` for ``realtime_20240405T0500Z.pb``; None for what is no snapshot."""
    found = _SNAPSHOT.fullmatch(snapshot.name)
    return None if found is None else f"{found['feed']}{found['suffix']}"


def _star(pattern: str, match: Path) -> str:
    name = PurePosixPath(pattern).name
    before, _, after = name.partition("*")
    stood_for = match.name.removeprefix(before).removesuffix(after)
    return re.sub(r"[^a-z0-9]+", "_", stood_for.lower()).strip("_")
