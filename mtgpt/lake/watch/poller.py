"""One source, asked again and again in a thread of its own: pulled, read and judged there, landed elsewhere."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal

from mtgpt.errors import FeedError, LakeError, MTGPTError, NotFound, SourceRefused, SourceUnavailable
from mtgpt.ingest.pull.breaker import HostResting
from mtgpt.ingest.pull.locate import is_url, locate
from mtgpt.ingest.pull.pull import Limits, pull
from mtgpt.lake.arrival import Arrivals
from mtgpt.lake.disk import refusals

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mtgpt.ingest.adapter import Adapter
    from mtgpt.ingest.manifest import CityManifest, Source
    from mtgpt.ingest.pull.breaker import Breaker, State
    from mtgpt.ingest.pull.locate import BatchLocation
    from mtgpt.lake.arrival import Arrived
    from mtgpt.lake.batch import Batch, BatchResult
    from mtgpt.lake.lake import Lake
    from mtgpt.lake.reading import Judged
    from mtgpt.lake.watch.cadence import Cadence
    from mtgpt.settings import Settings

Stamp = tuple[tuple[int, int], ...]
Doing = Literal["waits", "pulls", "reads", "waits for the lake"]

BACKLOG = 64
"""Batches of one source that may wait for the lake; its next poll then waits too."""

_SETTLED_S = 2.0
_LONGEST_PULL_S = 600.0
_SHORTEST_PULL_S = 20.0
_LAKE_RETRY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedStatus:
    """How one source is doing.

    Attributes:
        source_id: Its id.
        kind: Its kind.
        doing: What its thread does now.
        polls: Times it was asked.
        unchanged: Polls that brought nothing new.
        landed: Batches that landed since the watch began.
        held: Batches that were held since the watch began.
        unread: Batches that could not be read since the watch began.
        rows: Good rows that landed since the watch began.
        last_rows: Good rows of the last batch that landed.
        last_success: When it was last asked with success, UTC.
        failures: Failures in a row.
        fault: The sentence of the last failure; None while all is well.
        breaker: Whether it is asked (``closed``), rests (``open``) or is tried once (``half-open``).
        next_poll: When it will be asked next, UTC.
        late_s: How much too late it was asked at worst.
        behind_s: How long its last batch waited for the lake.
    """

    source_id: str
    kind: str
    doing: Doing = "waits"
    polls: int = 0
    unchanged: int = 0
    landed: int = 0
    held: int = 0
    unread: int = 0
    rows: int = 0
    last_rows: int | None = None
    last_success: datetime | None = None
    failures: int = 0
    fault: str | None = None
    breaker: State = "closed"
    next_poll: datetime | None = None
    late_s: float = 0.0
    behind_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A judged batch on its way to the lake.

    Attributes:
        poller: Whose it is.
        batch: The batch.
        judged: Its rows.
        folder: Where rows lie that did not fit in memory.
        ready_at: Monotonic seconds.
    """

    poller: Poller
    batch: Batch
    judged: Judged
    folder: Path
    ready_at: float

    def clear(self) -> None:
        """Removes what lies on the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(slots=True, kw_only=True)
class Scene:
    """What all pollers of a watch share.

    Attributes:
        manifest: The city.
        lake: Its lake.
        settings: Where files of the manifest lie; the salt of trip keys.
        folder: A workspace on the lake's disk.
        breaker: Of all feeds.
        stop: Set when the watch ends.
        hand_over: Takes a job to whoever lands it; must not wait.
        note: Called with what happened: name of the event, source, facts.
    """

    manifest: CityManifest
    lake: Lake
    settings: Settings
    folder: Path
    breaker: Breaker
    stop: threading.Event
    hand_over: Callable[[Job], None]
    note: Callable[..., None]


class _Stopped(Exception):  # noqa: N818 - no error: the watch ends
    pass


@dataclass(slots=True, kw_only=True)
class _Memory:
    """What a poller remembers of its batches, so that what did not change costs nothing."""

    arrived: dict[str, Arrived] = field(default_factory=dict)
    files: dict[str, Stamp] = field(default_factory=dict)
    done: deque[str] = field(default_factory=partial(deque, maxlen=4096))
    refused: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, tuple[str, Stamp | None]] = field(default_factory=dict)


class Poller(threading.Thread):
    """Asks one source, on its own cadence, until the watch ends.

    Args:
        scene: What all pollers share.
        source: The source.
        adapter: Reads its kind.
        cadence: How often.
        once: Ask once, then end.
    """

    def __init__(self, scene: Scene, source: Source, adapter: Adapter, cadence: Cadence, *, once: bool) -> None:
        super().__init__(name=f"watch-{source.id}", daemon=True)
        self.source = source
        self._scene = scene
        self._adapter = adapter
        self._cadence = cadence
        self._once = once
        self._memory = _Memory()
        self._lock = threading.Lock()
        self._status = FeedStatus(source_id=source.id, kind=source.kind)
        self._chance = random.Random()  # noqa: S311 - jitter
        self._jobs = 0
        self._fresh_s: float | None = None
        # Not the name that a pull uses: a server that answers at once with rubbish is as bad as one that does not.
        self._name = f"watch of {source.id}"
        # Two sources may pull files of one name at one time.
        self._folder = scene.folder / source.id

    @property
    def status(self) -> FeedStatus:
        """How it is doing now."""
        with self._lock:
            return replace(self._status, breaker=self._scene.breaker.state(self._name))

    def run(self) -> None:
        """Polls until the watch ends."""
        due = time.monotonic()
        while not self._scene.stop.is_set():
            late_s = time.monotonic() - due
            self._set(late_s=max(self._status.late_s, late_s), polls=self._status.polls + 1, next_poll=None)
            failed_for_s = self._poll()
            if self._once or self._scene.stop.is_set():
                break
            wait_s = self._cadence.wait_s(datetime.now(UTC) - timedelta(seconds=late_s), fresh_s=self._fresh_s)
            now = time.monotonic()
            # By the clock, not by how long a poll took; what was missed is not made up for.
            due = now + failed_for_s if failed_for_s is not None else max(due + wait_s, now)
            self._set(doing="waits", next_poll=datetime.now(UTC) + timedelta(seconds=due - now))
            self._scene.stop.wait(due - now)
        self._set(doing="waits", next_poll=None)

    def landed(self, job: Job, result: BatchResult) -> None:
        """Called by whoever lands: the batch is in the ledger."""
        with self._lock:
            self._jobs -= 1
            location = self._memory.waiting.pop(job.batch.batch_id, None)
            self._memory.done.append(job.batch.batch_id)
            if location is not None and location[1] is not None:
                self._memory.files[location[0]] = location[1]
            now = self._status
            good = result.rows_good if result.status == "committed" else 0
            self._status = replace(
                now,
                landed=now.landed + (result.status == "committed"),
                held=now.held + (result.status == "held"),
                rows=now.rows + good,
                last_rows=good if result.status == "committed" else now.last_rows,
                fault=result.reason if result.status == "held" else now.fault,
                behind_s=time.monotonic() - job.ready_at,
            )

    def not_landed(self, job: Job, error: MTGPTError) -> None:
        """Called by whoever lands: the lake refused; the next poll brings the batch again."""
        with self._lock:
            self._jobs -= 1
            self._memory.waiting.pop(job.batch.batch_id, None)
            self._status = replace(self._status, fault=error.sentence())

    def _poll(self) -> float | None:
        """Asks once; returns the seconds to wait where that failed, None where all is well."""
        try:
            self._scene.breaker.check(self._name)
            fresh = self._ask()
        except _Stopped:
            return None
        except HostResting as error:
            self._fail(error, count=False)
            return max(error.retry_after_s or 0.0, 1.0) + self._chance.uniform(0.0, 1.0)
        except LakeError as error:
            # Not the feed's fault: the bytes are asked for again as soon as the disk may have room.
            self._fail(error, count=False)
            return _LAKE_RETRY_S
        except MTGPTError as error:
            return self._refused(error)
        except Exception as error:  # noqa: BLE001 - one source's surprise must not end the others' watch
            what = f"the feed could not be read: {type(error).__name__}"
            return self._refused(FeedError(what, where=self.source.id, next_step="please report this"))
        self._scene.breaker.answered(self._name)
        self._set(
            failures=0,
            fault=self._status.fault if self._status.held and not fresh else None,
            last_success=datetime.now(UTC),
            unchanged=self._status.unchanged + (not fresh),
        )
        if not fresh:
            self._scene.note("unchanged", self.source.id)
        return None

    def _refused(self, error: MTGPTError) -> float | None:
        if self._scene.stop.is_set():
            return None
        self._scene.breaker.failed(self._name)
        self._fail(error, count=True)
        rest_s = self._scene.breaker.left_s(self._name)
        if rest_s:
            self._scene.note("rests", self.source.id, seconds=round(rest_s))
            return rest_s + self._chance.uniform(0.0, 1.0)
        asked_s = error.retry_after_s if isinstance(error, SourceUnavailable) else None
        return max(self._cadence.retry_s(self._status.failures, self._chance), asked_s or 0.0)

    def _fail(self, error: MTGPTError, *, count: bool) -> None:
        self._set(fault=error.sentence(), failures=self._status.failures + count)
        self._scene.note("failed", self.source.id, **error.as_dict(), sentence=error.sentence())

    def _ask(self) -> bool:
        """Pulls what is new; true where there was something."""
        with refusals(self._folder):
            self._folder.mkdir(exist_ok=True)
        arrivals = self._arrivals()
        pulled: dict[str, Arrived] = {}
        fresh = False
        for location in self._locations():
            self._wait_for_room()
            self._set(doing="pulls")
            stamp = _stamp(location)
            batch = arrivals.batch(location, pulled)
            self._fresh_s = min((one.fresh_s for one in pulled.values() if one.fresh_s is not None), default=None)
            if self._is_new(batch, arrivals):
                fresh |= self._read(batch, arrivals, location, stamp)
            elif stamp is not None:
                self._learn(location, stamp)
        return fresh

    def _read(self, batch: Batch, arrivals: Arrivals, location: BatchLocation, stamp: Stamp | None) -> bool:
        """Reads, judges and hands over; false where one file of several could not be read."""
        self._set(doing="reads")
        folder = self._folder / f"rows-{time.monotonic_ns()}"
        try:
            judged = arrivals.judge(batch, folder)
        except (FeedError, SourceRefused) as error:
            shutil.rmtree(folder, ignore_errors=True)
            self._set(unread=self._status.unread + 1)
            if stamp is None:
                # The same bytes will not read better next time.
                self._memory.refused = {batch.batch_id: error.sentence()}
                raise
            # One bad file in a folder keeps no other from landing; it is read again when somebody changed it.
            self._learn(location, stamp)
            self._fail(error, count=False)
            return False
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        with self._lock:
            self._jobs += 1
            self._memory.waiting[batch.batch_id] = (next(iter(location.files.values())), stamp)
        self._scene.hand_over(Job(poller=self, batch=batch, judged=judged, folder=folder, ready_at=time.monotonic()))
        return True

    def _arrivals(self) -> Arrivals:
        scene = self._scene
        seconds = min(_LONGEST_PULL_S, max(_SHORTEST_PULL_S, 2 * self._cadence.every_s))
        return Arrivals(
            manifest=scene.manifest,
            source=self.source,
            adapter=self._adapter,
            lake=scene.lake,
            settings=scene.settings,
            folder=self._folder,
            say=self._say,
            # One try: the next poll is the next try, and it is spread over time.
            pull=partial(
                pull, breaker=scene.breaker, limits=Limits(tries=1, seconds=seconds), stopped=scene.stop.is_set
            ),
            latest=self._memory.arrived,
        )

    def _locations(self) -> list[BatchLocation]:
        try:
            found = locate(self._scene.manifest, self.source, self._scene.settings)
        except NotFound:
            if self.source.path is not None and not self._once:
                return []  # a folder that files have yet to come to
            raise
        return [one for one in found if self._is_changed(one)]

    def _is_changed(self, location: BatchLocation) -> bool:
        stamp = _stamp(location)
        if stamp is None:
            return True
        if not self._once and time.time() - max(one[1] for one in stamp) / 1e9 < _SETTLED_S:
            return False  # perhaps it is still being written
        with self._lock:
            own = next(iter(location.files.values()))
            waits = any(at == own for at, _ in self._memory.waiting.values())
            return not waits and self._memory.files.get(own) != stamp

    def _is_new(self, batch: Batch, arrivals: Arrivals) -> bool:
        with self._lock:
            if batch.batch_id in self._memory.waiting or batch.batch_id in self._memory.done:
                return False
        fault = self._memory.refused.get(batch.batch_id)
        if fault is not None:
            raise FeedError("unchanged since it could not be read", where=self.source.id, got=fault)
        if arrivals.is_known(batch):
            self._memory.done.append(batch.batch_id)
            return False
        return True

    def _learn(self, location: BatchLocation, stamp: Stamp) -> None:
        with self._lock:
            self._memory.files[next(iter(location.files.values()))] = stamp

    def _wait_for_room(self) -> None:
        while self._jobs >= BACKLOG and not self._scene.stop.is_set():
            self._set(doing="waits for the lake")
            self._scene.stop.wait(0.1)
        self._say("")

    def _say(self, _: str) -> None:
        # Reading and judging look in here after every chunk.
        if self._scene.stop.is_set():
            raise _Stopped

    def _set(self, **changes: object) -> None:
        with self._lock:
            self._status = replace(self._status, **changes)  # pyright: ignore[reportArgumentType]


def _stamp(location: BatchLocation) -> Stamp | None:
    """Size and time of a local batch's files; None where one of them comes over the network."""
    if any(is_url(one) for one in location.files.values()):
        return None
    try:
        there = [os.stat(one) for one in location.files.values()]  # noqa: PTH116 - not worth a Path per file and poll
    except OSError:
        return None
    return tuple((one.st_size, one.st_mtime_ns) for one in there)
