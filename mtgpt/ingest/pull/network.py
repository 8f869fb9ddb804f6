"""The way to the network: connects only to addresses that were checked, and to no one past the deadline."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import httpcore

from mtgpt.ingest.pull.address import resolve

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Sequence

_CONNECT_S = 10.0
_SILENCE_S = 30.0
_LOOK_UP_S = 0.25
_PACE_S = 20.0
_PACE_BYTES = 10_240
_PACE_READS = 5


class Deadline:
    """A moment after which a pull is over, however many tries and redirects it took.

    Args:
        seconds: From now.
        clock: Monotonic, in seconds.
        stopped: Whether the pull is not wanted any more, which ends it too.
    """

    def __init__(
        self,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clock = clock
        self._stopped = stopped
        self._end = clock() + seconds
        self.seconds = seconds

    @property
    def remaining_s(self) -> float:
        """What is left, never negative."""
        return 0.0 if self.stopped else max(0.0, self._end - self._clock())

    @property
    def stopped(self) -> bool:
        """Whether nobody waits for the pull any more."""
        return self._stopped()

    @property
    def passed(self) -> bool:
        """Whether nothing is left."""
        return self.remaining_s <= 0


class TooSlow(httpcore.ReadTimeout):
    """The server sends a few bytes now and then, as one does that wants to keep us."""


class _Pace:
    # A server that thinks before it answers is silent; one that drips is not, and would never meet a read timeout.
    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._since = time.monotonic()
        self._reads = self._bytes = 0

    def count(self, size: int) -> None:
        self._reads += 1
        self._bytes += size
        if time.monotonic() - self._since < _PACE_S:
            return
        if self._bytes < _PACE_BYTES and self._reads >= _PACE_READS:
            raise TooSlow
        self._begin()


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline, pace: _Pace | None = None) -> None:
        self._stream = stream
        self._deadline = deadline
        self._pace = pace or _Pace()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        silence = Deadline(_SILENCE_S if timeout is None else timeout)
        while True:
            try:
                data = self._stream.read(max_bytes, min(_LOOK_UP_S, _left(self._deadline, silence.remaining_s)))
            except httpcore.ReadTimeout:
                if silence.passed or self._deadline.passed:
                    raise
            else:
                self._pace.count(len(data))
                return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline, timeout))
        return _Stream(stream, self._deadline, self._pace)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(
        self, *, deadline: Deadline, allow_loopback: bool, lookup: Callable[..., Sequence[tuple[Any, ...]]]
    ) -> None:
        self._inner = httpcore.SyncBackend()
        self._deadline = deadline
        self._allow_loopback = allow_loopback
        self._lookup = lookup

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        # Resolved once, checked, and dialled as checked: a name that answers otherwise a moment later gains nothing.
        addresses = resolve(host, port, allow_loopback=self._allow_loopback, lookup=self._lookup)
        for last, address in enumerate(addresses, start=1 - len(addresses)):
            try:
                stream = self._inner.connect_tcp(
                    address, port, _left(self._deadline, timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not last:
                    raise
            else:
                return _Stream(stream, self._deadline)
        raise httpcore.ConnectError("no address")


def guarded_pool(
    *,
    deadline: Deadline,
    allow_loopback: bool,
    lookup: Callable[..., Sequence[tuple[Any, ...]]] = socket.getaddrinfo,
) -> httpcore.ConnectionPool:
    """A connection pool that resolves and checks names itself and knows no proxy, whatever the environment says.

    The URL's host stays in the Host header and in TLS (SNI and certificate), while the connection goes to the
    address that :func:`~mtgpt.ingest.pull.address.resolve` approved.

    Args:
        deadline: End of everything that is done with the pool.
        allow_loopback: Allow this very machine.
        lookup: Resolver, as :func:`socket.getaddrinfo`.
    """
    backend = _Backend(deadline=deadline, allow_loopback=allow_loopback, lookup=lookup)
    return httpcore.ConnectionPool(network_backend=backend, max_connections=1, max_keepalive_connections=0)


def timeouts() -> dict[str, float]:
    """The request extension ``timeout``: seconds to connect and of silence."""
    return {"connect": _CONNECT_S, "read": _SILENCE_S, "write": _SILENCE_S, "pool": _CONNECT_S}


def _left(deadline: Deadline, timeout: float | None) -> float:
    if deadline.passed:
        raise httpcore.ReadTimeout("deadline")
    return deadline.remaining_s if timeout is None else min(timeout, deadline.remaining_s)
