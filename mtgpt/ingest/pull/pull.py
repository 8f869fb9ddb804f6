"""Fetch one raw file of a source, from disk or over HTTP, without trusting either."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote, unquote

import httpcore
import tenacity

from mtgpt.errors import FeedError, LakeError, ManifestError, MTGPTError, NotFound, SourceRefused, SourceUnavailable
from mtgpt.ingest.pull.address import WebAddress, parse_url, redacted
from mtgpt.ingest.pull.breaker import Breaker, HostResting
from mtgpt.ingest.pull.download import Download, Request, download
from mtgpt.ingest.pull.keyring import Keyring, quiet_wire
from mtgpt.ingest.pull.network import Deadline, TooSlow, guarded_pool
from mtgpt.settings import secret

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic import SecretStr

    from mtgpt.ingest.manifest import Source

_REFERENCE = re.compile(r"\$\{ENV:([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one pull may take.

    Attributes:
        body_bytes: Of an HTTP body, as sent and as decoded.
        file_bytes: Of a local file.
        seconds: For all tries, redirects and waits together.
        tries: At most.
        first_wait_s: Upper end of the first random wait; doubled for each further one.
        retry_s: After so long no further try begins: a server that hung for half a minute hangs again.
        asked_s: As ``retry_s``, where the server itself says when to come again.
    """

    body_bytes: int = 512 << 20
    file_bytes: int = 4 << 30
    seconds: float = 600.0
    tries: int = 4
    first_wait_s: float = 1.0
    retry_s: float = 25.0
    asked_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """One raw file.

    Attributes:
        path: Where it lies: a new file in the target folder, or the local file itself. None if nothing changed.
        name: The feed's own file name, safe as a name.
        sha256: Of its bytes, 64 hex digits; empty if nothing changed.
        size: Bytes.
        etag: What the server calls this version; pass it to the next pull.
        not_modified: The server says that the version of ``etag`` is still the one.
        last_modified: When the server says that this version was made; pass it to the next pull too.
        fresh_s: For how long the server says that nothing will change.
    """

    path: Path | None
    name: str
    sha256: str
    size: int
    etag: str | None = None
    not_modified: bool = False
    last_modified: str | None = None
    fresh_s: float | None = None


def pull(
    location: str,
    target_folder: Path,
    *,
    source: Source,
    etag: str | None = None,
    modified: str | None = None,
    limits: Limits | None = None,
    breaker: Breaker | None = None,
    measured: bool = False,
    secrets: Callable[[str], SecretStr | None] = secret,
    sleep: Callable[[float], Any] = time.sleep,
    lookup: Callable[..., Sequence[tuple[Any, ...]]] = socket.getaddrinfo,
    stopped: Callable[[], bool] = lambda: False,
) -> Pulled:
    """Fetches ``location``.

    Args:
        location: Absolute path, or http(s) URL in which ``${ENV:NAME}`` may stand in the query.
        target_folder: Where a download is put, complete and on disk, or not at all. Local files are not copied.
        source: Its headers, hosts and whether this very machine may be asked.
        etag: Of the version at hand.
        modified: ``last_modified`` of the version at hand.
        limits: Caps; the defaults where absent.
        breaker: Kept by the caller over many pulls; knows hosts by ``host:port`` and feeds by the source's id.
        measured: Refuse an answer of which nothing says where it ends.
        secrets: Reads a secret by name.
        sleep: Waits between tries.
        lookup: Resolver, as :func:`socket.getaddrinfo`.
        stopped: Asked several times a second while the server is waited for; true ends the pull.

    Raises:
        NotFound: No such local file.
        FeedError: The file is empty.
        SourceRefused: Scheme, host, address, size, or an answer such as 404.
        SourceUnavailable: The server did not answer well in all tries, or took too long.
        ManifestError: A secret that the source names is not set.
        LakeError: The target folder cannot be written.
    """
    limits = limits or Limits()
    if "://" not in location:
        return _pull_file(Path(location), limits)
    request = replace(_request(location, source, limits, secrets), etag=etag, modified=modified, measured=measured)
    deadline = Deadline(limits.seconds, stopped=stopped)

    def fetch() -> Download:
        with guarded_pool(deadline=deadline, allow_loopback=source.allow_loopback, lookup=lookup) as pool:
            return download(request, pool, target_folder)

    keys = Keyring.of(location.partition("?")[2], request.address.query, request.headers)
    quiet_wire()
    once = _watched(fetch, request.address, source.id, deadline, breaker or Breaker())
    try:
        got = _patiently(once, deadline, limits, sleep)
    except MTGPTError as error:
        keys.scrub(error)
        raise
    # A tag goes into the ledger.
    etag, last_modified = (None if keys.holds(tag) else tag for tag in (got.etag, got.modified))
    name = _safe_name(request.address, source)
    if got.path is None:
        return Pulled(
            path=None,
            name=name,
            sha256="",
            size=0,
            not_modified=True,
            etag=etag,
            last_modified=last_modified,
            fresh_s=got.fresh_s,
        )
    _refuse_empty(got.size, request.address)
    path = _settle(got.path, target_folder / f"{got.sha256[:16]}-{name}")
    return Pulled(
        path=path,
        name=name,
        sha256=got.sha256,
        size=got.size,
        etag=etag,
        last_modified=last_modified,
        fresh_s=got.fresh_s,
    )


def _watched(
    fetch: Callable[[], Download], address: WebAddress, feed: str, deadline: Deadline, breaker: Breaker
) -> Callable[[], Download]:
    # A host that cannot be reached rests for all of its feeds; a feed that it answers badly rests alone.
    host = f"{address.host}:{address.port}"

    def once() -> Download:
        breaker.check(host, feed)
        try:
            got = fetch()
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            unreachable = isinstance(error, httpcore.ConnectError | httpcore.ConnectTimeout)
            breaker.failed(*((host, feed) if unreachable else (feed,)))
            _explain(error, address, deadline)
        except SourceUnavailable:
            breaker.failed(feed)
            raise
        breaker.answered(host, feed)
        return got

    return once


def _patiently(
    once: Callable[[], Download], deadline: Deadline, limits: Limits, sleep: Callable[[float], Any]
) -> Download:
    jittered = tenacity.wait_random_exponential(multiplier=limits.first_wait_s, max=30)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_s if isinstance(error, SourceUnavailable) else None
        return jittered(state) if asked is None else asked

    def enough(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        asked = isinstance(error, SourceUnavailable) and error.retry_after_s is not None
        begins_s = (state.seconds_since_start or 0.0) + state.upcoming_sleep
        return (
            state.attempt_number >= limits.tries
            or state.upcoming_sleep >= deadline.remaining_s
            or begins_s > (limits.asked_s if asked else limits.retry_s)
        )

    def may_pass(error: BaseException) -> bool:
        return isinstance(error, SourceUnavailable) and not isinstance(error, HostResting)

    retrying = tenacity.Retrying(
        sleep=sleep, wait=wait, stop=enough, retry=tenacity.retry_if_exception(may_pass), reraise=True
    )
    try:
        return retrying(once)
    except SourceUnavailable as error:
        tries = retrying.statistics["attempt_number"]
        if tries == 1 or isinstance(error, HostResting):
            raise
        raise SourceUnavailable(
            f"{error.what}, {tries} tries",
            where=error.where,
            got=error.got,
            expected=error.expected,
            next_step=error.next_step,
            retry_after_s=error.retry_after_s,
        ) from None


def _explain(error: Exception, address: WebAddress, deadline: Deadline) -> NoReturn:
    # Chained from nothing: a protocol error may quote the header that it could not send.
    if deadline.stopped:
        raise SourceUnavailable("stopped while the server was asked", where=address) from None
    if deadline.passed:
        raise SourceUnavailable("took too long", where=address, expected=f"at most {deadline.seconds:g} s") from None
    if isinstance(error, TooSlow):
        raise SourceUnavailable("the server sends too slowly", where=address, got="a few bytes a second") from None
    if isinstance(error, httpcore.LocalProtocolError):
        raise SourceRefused("a header cannot be sent", where=address) from None
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        raise SourceRefused("the server's certificate is not trusted", where=address) from None
    if isinstance(error, httpcore.TimeoutException):
        raise SourceUnavailable("the server is silent", where=address) from None
    raise SourceUnavailable("the connection failed", where=address, got=str(error)) from None


def _request(location: str, source: Source, limits: Limits, secrets: Callable[[str], SecretStr | None]) -> Request:
    def fill(text: str, where: str, *, quoted: bool) -> str:
        def value(match: re.Match[str]) -> str:
            found = secrets(match[1])
            if found is None:
                raise ManifestError(
                    "a secret is not set", where=f"{source.id}.{where}", expected=f"environment variable {match[1]}"
                )
            plain = found.get_secret_value().strip()
            if not plain.isascii() or not plain.isprintable():
                raise ManifestError(
                    "a secret holds characters that no header may have",
                    where=f"{source.id}.{where}",
                    got=f"environment variable {match[1]}",
                )
            return quote(plain, safe="") if quoted else plain

        return _REFERENCE.sub(value, text)

    before, mark, query = location.partition("?")
    if _REFERENCE.search(before):
        raise ManifestError(
            "a secret may stand in a URL's query only", where=f"{source.id}.url", got=redacted(location)
        )
    address = parse_url(before + mark + fill(query, "url", quoted=True))
    headers = {name: fill(text, f"headers.{name}", quoted=False) for name, text in source.headers.items()}
    return Request(address=address, headers=headers, allow_hosts=source.allow_hosts, max_bytes=limits.body_bytes)


def _pull_file(path: Path, limits: Limits) -> Pulled:
    try:
        # Looked at before it is opened: opening a named pipe waits for a writer, opening a device may do anything.
        if not stat.S_ISREG(path.stat().st_mode):
            raise SourceRefused("not a regular file", where=path, expected="a file; symbolic links to one are fine")
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            if before.st_size > limits.file_bytes:
                expected = f"at most {limits.file_bytes} bytes"
                raise SourceRefused("the file is too large", where=path, got=before.st_size, expected=expected)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
    except FileNotFoundError:
        raise NotFound("no such file", where=path) from None
    except OSError as error:
        raise SourceUnavailable(f"cannot be read: {error.strerror}", where=path) from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise SourceUnavailable("the file changed while it was read", where=path, next_step="pull it again")
    _refuse_empty(after.st_size, path.name)
    return Pulled(path=path, name=path.name, sha256=digest, size=after.st_size)


def _refuse_empty(size: int, where: object) -> None:
    if not size:
        raise FeedError("the file is empty", where=where, next_step="look at what the feed sent")


def _safe_name(address: WebAddress, source: Source) -> str:
    last = unquote(address.path.rsplit("/", 1)[-1])
    return re.sub(r"[^A-Za-z0-9._+-]", "_", last)[-120:].lstrip(".") or source.id


def _settle(path: Path, final: Path) -> Path:
    try:
        path.replace(final)
        folder = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the rename itself must survive a power cut
        finally:
            os.close(folder)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise LakeError(f"cannot write: {error.strerror}", where=final.parent) from error
    return final
