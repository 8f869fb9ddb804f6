"""Leave a host, or one of its feeds, alone that failed again and again."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Literal

from mtgpt.errors import SourceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["closed", "open", "half-open"]


class HostResting(SourceUnavailable):
    """The host or the feed failed too often in a row and is not asked for a while."""


class Breaker:
    """Counts consecutive failures by name. One object serves as many pulls and threads as its owner likes.

    After ``threshold`` failures the name rests for ``rest_s``; then a single try decides whether it rests again.

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
        self._trying: set[str] = set()

    def check(self, *names: str) -> None:
        """Call before each try, with everything that it depends on: host, feed.

        Raises:
            HostResting: One of them rests; ``retry_after_s`` says how long.
        """
        with self._lock:
            for name in names:
                left = self._left(name)
                if left > 0:
                    failures = self._failures[name]
                    break
            else:
                # Half open: this caller tries, the others wait for what it finds.
                for name in names:
                    if self._failures.get(name, 0) >= self._threshold:
                        self._until[name] = self._clock() + self._rest_s
                        self._trying.add(name)
                return
        raise HostResting(
            f"not asked after {failures} failures in a row",
            where=name,
            retry_after_s=left,
            next_step=f"try again in {left:.0f} s",
        )

    def failed(self, *names: str) -> None:
        """They did not answer as they should."""
        with self._lock:
            for name in names:
                self._failures[name] = self._failures.get(name, 0) + 1
                self._until[name] = self._clock() + self._rest_s
                self._trying.discard(name)

    def answered(self, *names: str) -> None:
        """They are well."""
        with self._lock:
            for name in names:
                self._failures.pop(name, None)
                self._until.pop(name, None)
                self._trying.discard(name)

    def state(self, name: str) -> State:
        """``closed`` (is asked), ``open`` (rests), ``half-open`` (is asked once, and that decides)."""
        with self._lock:
            if self._failures.get(name, 0) < self._threshold:
                return "closed"
            return "half-open" if name in self._trying or self._left(name) <= 0 else "open"

    def left_s(self, name: str) -> float:
        """For how long it rests; 0 where it does not."""
        with self._lock:
            return max(0.0, self._left(name))

    def _left(self, name: str) -> float:
        if self._failures.get(name, 0) < self._threshold:
            return 0.0
        return self._until[name] - self._clock()
