"""Watches a city's feeds: one thread asks each source, one lands what they bring, one derives and compacts.

A feed that hangs, drips or fails keeps its own thread busy and no other. Batches wait for the lake in a queue, so that
a lock that another process holds delays no poll.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from mtgpt.errors import LakeError, MTGPTError, UsageError
from mtgpt.ingest.adapters import adapters
from mtgpt.ingest.pull.breaker import Breaker
from mtgpt.lake.derived.derive import derive
from mtgpt.lake.landing import land
from mtgpt.lake.lock import locked
from mtgpt.lake.staging import workspace
from mtgpt.lake.watch.cadence import Cadence
from mtgpt.lake.watch.poller import Job, Poller, Scene

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from mtgpt.ingest.adapter import Adapter
    from mtgpt.ingest.manifest import CityManifest, Source
    from mtgpt.lake.lake import Lake
    from mtgpt.lake.watch.poller import FeedStatus
    from mtgpt.settings import Settings

DERIVE_S = 30.0
"""Derived values are at most so much older than what they are derived from, while the machine keeps up."""

COMPACT_FILES = 200
"""A table is compacted when it has so many more files than after the last time."""

_GRACE_S = 10.0
_REST_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        at: When, UTC.
        event: ``landed``, ``held``, ``unchanged``, ``failed``, ``rests``, ``lake``, ``derived``, ``compacted``.
        source: Whose it is; None for the lake's own.
        facts: What else there is to know; JSON values.
    """

    at: datetime
    event: str
    source: str | None
    facts: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """One flat JSON object."""
        return {"at": self.at.isoformat(timespec="milliseconds"), "event": self.event, "source": self.source} | dict(
            self.facts
        )


def watched_sources(manifest: CityManifest, only: Sequence[str] | None = None) -> list[Source]:
    """The sources that may change: those with an address, a schedule, or a glob that new files may match.

    Args:
        manifest: The city.
        only: Ids of the sources to watch, whatever they are.

    Raises:
        NotFound: A name in ``only`` is no source of the city.
        UsageError: There is nothing to watch.
    """
    if only:
        return [manifest.source(name) for name in dict.fromkeys(only)]
    found = [
        source
        for source in manifest.sources
        if source.url is not None
        or source.schedule is not None
        or source.poll_s is not None
        or any(c in (source.path or "") for c in "*?[")
    ]
    if not found:
        raise UsageError(
            "no source to watch",
            where=manifest.city,
            expected="a source with a url, a schedule, poll_s or a glob",
            next_step=f"bring in what there is: mtgpt ingest {manifest.city}",
        )
    return found


class Watch:
    """A running watch, from ``with`` to its end.

    Args:
        manifest: The city.
        lake: Where to.
        settings: Where files of the manifest lie; the salt of trip keys.
        only: Ids of the sources; those that may change if not given.
        every_s: Ask each source so often, whatever the manifest says.
        once: Ask each source once.
        note: Called with every event, from several threads, one at a time.
        kinds: Adapters by kind; the built-in ones if not given.
        derive_s: Seconds between two derivations.
        compact_files: See :data:`COMPACT_FILES`.
        breaker: Of all feeds.

    Raises:
        MTGPTError: As :func:`watched_sources` and :meth:`mtgpt.lake.watch.cadence.Cadence.of`.
    """

    def __init__(
        self,
        manifest: CityManifest,
        lake: Lake,
        *,
        settings: Settings,
        only: Sequence[str] | None = None,
        every_s: float | None = None,
        once: bool = False,
        note: Callable[[Event], None] | None = None,
        kinds: Mapping[str, Adapter] | None = None,
        derive_s: float = DERIVE_S,
        compact_files: int = COMPACT_FILES,
        breaker: Breaker | None = None,
    ) -> None:
        sources = watched_sources(manifest, only)
        known = adapters() if kinds is None else kinds
        cadences = [Cadence.of(source, manifest, every_s=every_s) for source in sources]
        self._manifest = manifest
        self._lake = lake
        self._once = once
        self._listener = note or (lambda _: None)
        self._derive_s = derive_s
        self._compact_files = compact_files
        self._note_lock = threading.Lock()
        self._stop = threading.Event()
        self._asked = threading.Event()  # once: every source was asked
        self._drained = threading.Event()  # and what they brought has landed
        self._dirty = threading.Event()
        self._dirty.set()  # what an earlier run left underived
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._folder = contextlib.ExitStack()
        self._deadline = float("inf")
        self._scene = Scene(
            manifest=manifest,
            lake=lake,
            settings=settings,
            folder=self._folder.enter_context(workspace(lake.staging)),
            breaker=breaker or Breaker(rest_s=_REST_S),
            stop=self._stop,
            hand_over=self._jobs.put,
            note=self._note,
        )
        self.pollers = [
            Poller(self._scene, source, known[source.kind], cadence, once=once)
            for source, cadence in zip(sources, cadences, strict=True)
        ]
        self._lander = threading.Thread(target=self._land_all, name="watch-lander", daemon=True)
        self._keeper = threading.Thread(target=self._keep, name="watch-keeper", daemon=True)

    def __enter__(self) -> Self:
        for thread in (self._lander, self._keeper, *self.pollers):
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def status(self) -> list[FeedStatus]:
        """How every source is doing now."""
        return [poller.status for poller in self.pollers]

    def is_well(self) -> bool:
        """Whether no source fails now, and no batch was held or could not be read since the watch began."""
        return all(one.fault is None and not one.held and not one.unread for one in self.status())

    def wait(self, seconds: float) -> bool:
        """Waits; true where there is nothing more to wait for (``once``, and everything landed and was derived)."""
        until = time.monotonic() + seconds
        if not self._once:
            self._stop.wait(seconds)
            return self._stop.is_set()
        for thread in self.pollers:
            thread.join(max(0.0, until - time.monotonic()))
            if thread.is_alive():
                return False
        if not self._asked.is_set():
            self._asked.set()
            self._jobs.put(None)
        for thread in (self._lander, self._keeper):
            thread.join(max(0.0, until - time.monotonic()))
        return not (self._lander.is_alive() or self._keeper.is_alive())

    def stop(self, *, grace_s: float = _GRACE_S) -> bool:
        """Ends the watch. What was read lands if the grace allows; the rest is left for the next run.

        Returns:
            Whether every thread has ended; one that waits for a name server may not have, and holds nothing.
        """
        self._deadline = time.monotonic() + grace_s
        self._stop.set()
        self._jobs.put(None)
        self._dirty.set()
        everyone = [*self.pollers, self._lander, self._keeper]
        for thread in everyone:
            if thread.ident is not None:
                thread.join(max(0.05, self._deadline - time.monotonic()))
        self._folder.close()
        return not any(thread.is_alive() for thread in everyone)

    def _land_all(self) -> None:
        while (job := self._jobs.get()) is not None or not (self._asked.is_set() or self._stop.is_set()):
            if job is None:
                continue
            if time.monotonic() < self._deadline:
                self._land(job)
            job.clear()
        self._drained.set()
        self._dirty.set()

    def _land(self, job: Job) -> None:
        source = job.batch.source_id
        try:
            result = land(job.batch, job.judged, self._lake)
        except Exception as error:  # noqa: BLE001 - whatever one batch met, the next ones land
            fault = _as_fault(error, source)
            job.poller.not_landed(job, fault)
            self._note("lake", source, **fault.as_dict(), sentence=fault.sentence())
            return
        job.poller.landed(job, result)
        self._dirty.set()
        self._note(
            "held" if result.status == "held" else "landed",
            source,
            batch_id=result.batch_id,
            rows_in=result.rows_in,
            rows_good=result.rows_good,
            rows_quarantined=result.rows_quarantined,
            rows_duplicate=result.rows_duplicate,
            reason=result.reason,
            waited_s=round(time.monotonic() - job.ready_at, 3),
        )

    def _keep(self) -> None:
        """Derives after landings, not during each; compacts tables that got many small files."""
        files = {}
        while not self._stop.is_set():
            self._dirty.wait()
            last = self._once and self._drained.is_set()
            self._dirty.clear()
            if self._stop.is_set():
                return  # what is not derived yet is derived by the next run
            if not self._once or last:
                with self._lake_faults("derive"):
                    for result in derive(self._lake, self._manifest, progress=self._look):
                        self._note("derived", result.source_id, rows_good=result.rows_good, status=result.status)
                with self._lake_faults("compact"):
                    self._compact(files)
            if last:
                return
            if not self._once:
                self._stop.wait(self._derive_s)

    @contextlib.contextmanager
    def _lake_faults(self, doing: str) -> Any:
        try:
            yield
        except _WatchEndsError:
            pass
        except Exception as error:  # noqa: BLE001 - derived values come with the next landing; feeds are watched on
            fault = _as_fault(error, doing)
            self._note("lake", None, doing=doing, **fault.as_dict(), sentence=fault.sentence())

    def _look(self, _: str) -> None:
        if self._stop.is_set():
            raise _WatchEndsError

    def _compact(self, after_last: dict[str, int]) -> None:
        for name in self._lake.versions():
            table = self._lake.table(name)
            count = table.files(table.open()).height
            if count < after_last.get(name, 0) + self._compact_files:
                continue
            started = time.monotonic()
            with locked(self._lake.lock(name)):
                done = table.compact()
            after_last[name] = done["files_after"]
            self._note("compacted", None, **done, seconds=round(time.monotonic() - started, 3))

    def _note(self, event: str, source: str | None, **facts: Any) -> None:
        with self._note_lock:
            self._listener(Event(at=datetime.now(UTC), event=event, source=source, facts=facts))


def _as_fault(error: Exception, where: str) -> MTGPTError:
    if isinstance(error, MTGPTError):
        return error
    return LakeError(f"could not be done: {type(error).__name__}", where=where, next_step="please report this")


class _WatchEndsError(LakeError):
    """The watch ends while something is derived."""

    def __init__(self) -> None:
        super().__init__("the watch ends")
