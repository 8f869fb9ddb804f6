"""One try of one HTTP download: redirects, caps, encoding, into a file that is complete or absent."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self
from urllib.parse import urljoin

from mtgpt.errors import LakeError, SourceRefused, SourceUnavailable
from mtgpt.ingest.guard.meter import DEFAULT_CAPS, PIECE
from mtgpt.ingest.pull.address import WebAddress, parse_url
from mtgpt.ingest.pull.network import timeouts

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpcore

_REDIRECTS = {301, 302, 303, 307, 308}
_MAX_REDIRECTS = 5
_TRY_LATER = {408, 425, 429}
_MAX_RETRY_AFTER_S = 50.0
_MAX_TAG = 512
_HEAD = 1024
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=([0-9]{1,7})(?:$|[\s,])", re.IGNORECASE)
# Of no feed that is read here; a description in XML comes before the root, as in XHTML.
_WEB_PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)[\s>]",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to ask for.

    Attributes:
        address: Where; its query may hold secrets.
        headers: Sent to the address's own origin only, never to where a redirect leads.
        allow_hosts: ``host`` or ``host:port`` that redirects may lead to besides the address's own host.
        etag: Of the copy that is there already.
        modified: What the server said when that copy was last modified.
        max_bytes: Cap on the body, as sent and as decoded.
        measured: Refuse a body of which nothing says where it ends, because its file reads well without its end.
    """

    address: WebAddress
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow_hosts: tuple[str, ...] = ()
    etag: str | None = None
    modified: str | None = None
    max_bytes: int
    measured: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What came; ``path`` is None where the server says that nothing changed.

    Attributes:
        path: The file.
        sha256: Of its bytes.
        size: Bytes.
        etag: What the server calls this version.
        modified: When the server says that it was last modified, in its own words.
        fresh_s: For how long the server says that it will not change.
    """

    path: Path | None
    sha256: str = ""
    size: int = 0
    etag: str | None = None
    modified: str | None = None
    fresh_s: float | None = None


def download(request: Request, pool: httpcore.ConnectionPool, folder: Path) -> Download:
    """Asks once, following redirects.

    Args:
        request: What to ask for.
        pool: A guarded pool.
        folder: Where the file goes; it appears there under a temporary name once it is complete and on disk.

    Raises:
        SourceRefused: A guard, a cap, or an answer that asking again will not change.
        SourceUnavailable: The answer was cut, or says that the server may answer later.
        LakeError: ``folder`` cannot be written.
        httpcore.TimeoutException: Silence.
        httpcore.NetworkError: Connection refused or lost.
        httpcore.ProtocolError: Not HTTP, or a body shorter than announced.
    """
    address = request.address
    for _ in range(_MAX_REDIRECTS + 1):
        headers = [("User-Agent", "mtgpt"), ("Accept", "*/*"), ("Accept-Encoding", "gzip")]
        if address.origin == request.address.origin:
            headers += request.headers.items()
        if request.etag:
            headers.append(("If-None-Match", request.etag))
        if request.modified:
            headers.append(("If-Modified-Since", request.modified))
        with pool.stream("GET", address.url, headers=_encoded(headers), extensions={"timeout": timeouts()}) as response:
            fields = _fields(response)
            if response.status not in _REDIRECTS:
                return _take(response, fields, request, address, folder)
        address = _follow(request, address, fields.get("location", ""))
    raise SourceRefused("too many redirects", where=request.address, expected=f"at most {_MAX_REDIRECTS}")


def _take(
    response: httpcore.Response, fields: Mapping[str, str], request: Request, address: WebAddress, folder: Path
) -> Download:
    status = response.status
    fresh_s = _fresh_s(fields.get("cache-control", ""))
    if status == HTTPStatus.NOT_MODIFIED and (request.etag or request.modified):
        return Download(path=None, etag=request.etag, modified=request.modified, fresh_s=fresh_s)
    if status in _TRY_LATER or status >= 500:
        wait = _retry_after_s(fields.get("retry-after"))
        raise SourceUnavailable("the server cannot answer now", where=address, got=_name(status), retry_after_s=wait)
    if status != HTTPStatus.OK:
        raise SourceRefused("the server refuses", where=address, got=_name(status), expected="200 OK")
    length = fields.get("content-length", "")
    announced = int(length) if length.isdecimal() and len(length) < 20 else None
    if announced is not None and announced > request.max_bytes:
        raise _too_large(request, address, announced)
    decoder = _decoder(fields.get("content-encoding", ""), address)
    _refuse_endless(request, fields, address)
    with _Landing(folder) as landing:
        received = 0
        for piece in response.iter_stream():
            received += len(piece)
            if received > request.max_bytes:
                raise _too_large(request, address, f"more than {request.max_bytes}")
            if decoder is None:
                landing.write(piece)
            else:
                _decode(decoder, piece, landing, request, address, received=received)
        if announced is not None and received != announced:
            raise SourceUnavailable("the body was cut", where=address, got=received, expected=f"{announced} bytes")
        if decoder is not None and (not decoder.eof or decoder.unused_data):
            raise SourceUnavailable("the gzip-encoded body was cut, or goes on after its end", where=address)
        _refuse_web_page(landing.head, address)
        path = landing.keep()
    return Download(
        path=path,
        sha256=landing.sha256,
        size=landing.size,
        etag=_tag(fields.get("etag")),
        modified=_tag(fields.get("last-modified")),
        fresh_s=fresh_s,
    )


def _refuse_endless(request: Request, fields: Mapping[str, str], address: WebAddress) -> None:
    encoded = fields.get("content-encoding", "identity").lower() != "identity"
    if request.measured and not encoded and fields.keys().isdisjoint(("content-length", "transfer-encoding")):
        raise SourceRefused(
            "the server does not say how long its answer is, so a cut one could not be told from a whole one",
            where=address,
            expected="Content-Length, chunks or gzip",
            next_step="ask its publisher, or put a proxy between that sends a length",
        )


class _Landing:
    """A file that is hashed as it is written and removed unless it is kept."""

    def __init__(self, folder: Path) -> None:
        self._hash = hashlib.sha256()
        self.size = 0
        self.head = b""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=folder, prefix=".pull-")
        except OSError as error:
            raise LakeError(f"cannot write: {error.strerror}", where=folder) from error
        self._file: BinaryIO = os.fdopen(handle, "wb")
        self._path = Path(name)
        self._kept = False

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)
        if len(self.head) < _HEAD:
            self.head += data[: _HEAD - len(self.head)]
        try:
            self._file.write(data)
        except OSError as error:
            raise LakeError(f"cannot write: {error.strerror}", where=self._path.parent) from error

    def keep(self) -> Path:
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise LakeError(f"cannot write: {error.strerror}", where=self._path.parent) from error
        self._kept = True
        return self._path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what could not be flushed was already said, or is thrown away
            self._file.close()
        if not self._kept:
            self._path.unlink(missing_ok=True)


def _decoder(encoding: str, address: WebAddress) -> zlib._Decompress | None:
    if encoding.lower() in {"", "identity"}:
        return None
    if encoding.lower() in {"gzip", "x-gzip"}:
        return zlib.decompressobj(wbits=31)
    raise SourceRefused("a content encoding we did not ask for", where=address, got=encoding, expected="gzip or none")


def _decode(
    decoder: zlib._Decompress, piece: bytes, landing: _Landing, request: Request, address: WebAddress, *, received: int
) -> None:
    """Writes what a piece of the body expands to, a little at a time, up to the caps."""
    times = max(DEFAULT_CAPS.free_bytes, DEFAULT_CAPS.ratio * received)
    while True:
        if decoder.eof and piece:
            raise SourceUnavailable("the gzip-encoded body goes on after its end", where=address)
        try:
            data = decoder.decompress(piece, PIECE)
        except zlib.error:
            raise SourceUnavailable("the gzip-encoded body is damaged", where=address) from None
        piece = decoder.unconsumed_tail
        if landing.size + len(data) > request.max_bytes:
            raise _too_large(request, address, f"more than {request.max_bytes} once decoded")
        if landing.size + len(data) > times:
            raise _too_large(request, address, f"more than {DEFAULT_CAPS.ratio} times itself once decoded")
        landing.write(data)
        if not piece and len(data) < PIECE:
            return


def _follow(request: Request, address: WebAddress, location: str) -> WebAddress:
    target = parse_url(urljoin(address.url, location))
    first = request.address
    if address.scheme == "https" and target.scheme != "https":
        raise SourceRefused("redirect from https to http", where=address, got=str(target))
    same = target.host == first.host and (target.port == first.port or (first.port, target.port) == (80, 443))
    listed = f"{target.host}:{target.port}" in request.allow_hosts or (
        target.host in request.allow_hosts and target.port in {80, 443}
    )
    if not (same or listed):
        raise SourceRefused(
            "redirect to another host",
            where=address,
            got=str(target),
            expected=f"{first.host}:{first.port}",
            next_step="list it under allow_hosts of the source if it is right",
        )
    return target


def _encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes | str, bytes | str]]:
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]


def _fields(response: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1").strip() for name, value in response.headers}


def _retry_after_s(value: str | None) -> float | None:
    # RFC 9110 section 10.2.3: seconds, or a date.
    if not value:
        return None
    if re.fullmatch(r"[0-9]{1,9}", value):
        return min(float(value), _MAX_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), _MAX_RETRY_AFTER_S)


def _fresh_s(cache_control: str) -> float | None:
    # RFC 9111 section 5.2.2.1.
    found = _MAX_AGE.search(cache_control)
    return float(found[1]) if found else None


def _tag(value: str | None) -> str | None:
    # It is kept in the ledger and sent back: nobody's novel.
    return value if value and len(value) <= _MAX_TAG and value.isprintable() else None


def _refuse_web_page(head: bytes, address: WebAddress) -> None:
    if _WEB_PAGE.match(head):
        raise SourceRefused(
            "the server sent a web page",
            where=address,
            got=" ".join(head[:200].decode("utf-8", "replace").split())[:60],
            expected="the feed's own bytes",
            next_step="open the address in a browser: servers often answer errors and log-ins that way",
        )


def _name(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _too_large(request: Request, address: WebAddress, got: object) -> SourceRefused:
    return SourceRefused("the body is too large", where=address, got=got, expected=f"at most {request.max_bytes} bytes")
