"""Leave a host alone that failed again and again."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from mtgpt.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable


class HostResting(SourceUnavailable):
    """The host failed too often in a row and is not asked for a while."""


class Breaker:
    """Counts consecutive failures per host. One object serves as many pulls and threads as its owner likes.

    After ``threshold`` failures the host rests for ``rest_s``; then a single try decides whether it rests again.

    Args:
        threshold: Failures in a row.
        rest_s: Seconds.
        clock: Monotonic, in seconds.
    """

    def __init__(
        self, *, threshold: int = 5, rest_s: float = 300.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._threshold = threshold
        self._rest_s = rest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def check(self, host: str) -> None:
        """Call before each try.

        Raises:
            HostResting: The host rests; ``retry_after_s`` says how long.
        """
        with self._lock:
            if self._failures.get(host, 0) < self._threshold:
                return
            left = self._until[host] - self._clock()
            if left <= 0:
                # Half open: this caller tries, the others wait for what it finds.
                self._until[host] = self._clock() + self._rest_s
                return
            failures = self._failures[host]
        raise HostResting(
            f"not asked after {failures} failures in a row",
            where=host,
            retry_after_s=left,
            next_step=f"try again in {left:.0f} s",
        )

    def failed(self, host: str) -> None:
        """The host did not answer as it should."""
        with self._lock:
            self._failures[host] = self._failures.get(host, 0) + 1
            self._until[host] = self._clock() + self._rest_s

    def answered(self, host: str) -> None:
        """The host is well."""
        with self._lock:
            self._failures.pop(host, None)
            self._until.pop(host, None)
