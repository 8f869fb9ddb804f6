"""Kills an ingest again and again, at random moments, and looks at what is left.

The parent has every import done but never calls Polars or Delta, whose threads do not survive a fork. Each child is a
fork: it ingests small batches in random order, with today's contracts or with mended ones, judges refused rows again
now and then, and writes a line, with fsync, after each call that returned. The parent kills it with SIGKILL after a
random time. In the end a last child works undisturbed, and the lake is compared with the feeds and with the lines:
nothing acknowledged is lost, every batch is visible exactly once, every file can be read.

``python -m tests.crash.killing FOLDER KILLS [SEED]`` prints the outcome as JSON.
"""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.ingest.manifest import CityManifest
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.lake.replay import replay_many
from mtgpt.settings import Settings
from tests.lake.feeds import KINDS, START, observations, spots, trips

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FILES = 4
SPOTS = 4
STEPS = 25
BAD = 2
TRIPS = 30
UNDISTURBED_S = 120.0
_STEPS_APART = 1000
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG, prctl(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a series of kills left.

    Attributes:
        kills: Children that were killed while they worked.
        undisturbed: Children that were done before their time came.
        acknowledged: Batches whose landing was acknowledged before a kill.
        batches: Rows of the ledger in the end.
        faults: What is wrong, in words; empty if nothing is.
        seconds: Wall-clock time.
    """

    kills: int
    undisturbed: int
    acknowledged: int
    batches: int
    faults: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """The folder of one series: feeds, two sets of contracts, the lake, the lines."""

    folder: Path

    @property
    def feeds(self) -> Path:
        """The city's files."""
        return self.folder / "feeds"

    @property
    def acks(self) -> Path:
        """One line of JSON per acknowledged batch."""
        return self.folder / "acks.jsonl"

    @property
    def settings(self) -> Settings:
        """Those of the workspace."""
        return Settings(home=self.folder / "home")

    def lake(self, *, mended: bool) -> Lake:
        """The lake, as someone with the one or the other contracts opens it."""
        folder = self.folder / "mended" if mended else None
        return Lake.open(self.settings.lake, contracts_folder=folder)

    def manifest(self, source: str) -> CityManifest:
        """The city with one of its sources: ``w<wave>_detectors`` or ``w<wave>_bikes``."""
        return self.city([source])

    def city(self, sources: Iterable[str]) -> CityManifest:
        """The city with several of them."""
        entries = tuple(self._entry(source) for source in sources)
        manifest = CityManifest.model_validate(
            {"city": "testville", "name": "Testville", "time_zone": "UTC", "sources": entries}
        )
        manifest._file = self.feeds / "testville.yaml"
        return manifest

    def _entry(self, source: str) -> dict[str, Any]:
        wave, kind = source.split("_")
        entry: dict[str, Any] = {"id": source, "kind": "rows", "path": f"{wave}_{kind}_*.csv"}
        if kind == "detectors":
            entry |= {"files": {"spots": f"{wave}_spots.csv"}, "options": {"table": "observation", "chunk": 60}}
        else:
            entry |= {"options": {"table": "trip"}}
        return entry

    def prepare(self) -> None:
        """Contracts that allow any speed up to 10000 km/h, so that refused rows can land by a replay."""
        shutil.copytree(Settings().contracts, self.folder / "mended")
        file = self.folder / "mended" / "variables.yaml"
        text = file.read_text("utf-8")
        at = text.index("250", text.index("speed"))
        file.write_text(text[:at] + "10000" + text[at + 3 :], "utf-8")

    def write(self, wave: int) -> list[str]:
        """New files; returns the ids of their sources."""
        for number in range(FILES):
            # Every second file repeats the last steps of the one before.
            first = wave * _STEPS_APART + number * STEPS - (5 if number % 2 else 0)
            bad = BAD if number < FILES - 1 else 20
            observations(self.feeds / f"w{wave}_detectors_{number}.csv", spots=SPOTS, steps=STEPS, first=first, bad=bad)
        spots(self.feeds / f"w{wave}_spots.csv", {f"s{spot}": f"Gate {spot} of {wave}" for spot in range(SPOTS)})
        for number in range(2):
            start = wave * _STEPS_APART + number * (TRIPS - 10)
            trips(self.feeds / f"w{wave}_bikes_{number}.csv", range(start, start + TRIPS))
        return [f"w{wave}_detectors", f"w{wave}_bikes"]


def kill_ingest(folder: Path, *, kills: int, seed: int = 0) -> Outcome:
    """Ingests into a new lake until ``kills`` ingests were killed, then checks everything.

    Call it in a process that has not used Polars or Delta yet.

    Args:
        folder: Empty folder.
        kills: How often.
        seed: Of the moments and orders.
    """
    started = time.monotonic()
    chance = random.Random(seed)
    scene = Scene(folder=folder)
    scene.prepare()
    # Read before the first fork, so that children start to work at once.
    scene.lake(mended=False)
    scene.lake(mended=True)
    waves = [scene.write(0)]
    killed = undisturbed = 0
    while killed < kills:
        older = [source for wave in waves[:-1] for source in wave]
        sources = chance.sample(waves[-1], 2) + chance.sample(older, min(1, len(older)))
        job = _Job(scene=scene, sources=sources, mended=chance.random() < 0.5, replays=chance.random() < 0.4)
        if job.killed_after(chance.uniform(0.005, 0.4)):
            killed += 1
        else:
            undisturbed += 1
            waves.append(scene.write(len(waves)))
    everything = [source for wave in waves for source in wave]
    last = _Job(scene=scene, sources=everything, mended=True, replays=True)
    if last.killed_after(UNDISTURBED_S):
        raise RuntimeError(f"an ingest that nobody disturbed still worked after {UNDISTURBED_S:g} s")
    return outcome(scene, len(waves), killed, undisturbed, started)


def outcome(scene: Scene, waves: int, killed: int, undisturbed: int, started: float) -> Outcome:
    """Compares the lake with the feeds and with what was acknowledged."""
    lines = [json.loads(line) for line in scene.acks.read_text("utf-8").splitlines()]
    faults, batches = _faults(scene, waves, lines)
    return Outcome(
        kills=killed,
        undisturbed=undisturbed,
        acknowledged=len({line["batch_id"] for line in lines}),
        batches=batches,
        faults=tuple(faults),
        seconds=round(time.monotonic() - started, 1),
    )


class Child:
    """A fork that works until it is done or killed, and never outlives its parent.

    Args:
        work: What it does.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            try:
                # The parent may be killed itself, by the time limit of a test: nobody would end a child that hangs.
                ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
                work()
                status = 0
            except BaseException:  # noqa: BLE001 - a fork must never return into the parent's code
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)

    def killed_after(self, seconds: float) -> bool:
        """Waits; true if it had to be killed, false if it was done before.

        Raises:
            RuntimeError: It failed; its traceback is on standard error.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            done, status = os.waitpid(self._pid, os.WNOHANG)
            if done:
                if status:
                    raise RuntimeError(f"a child failed with status {status}")
                return False
            time.sleep(0.001)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What one child does."""

    scene: Scene
    sources: list[str]
    mended: bool
    replays: bool

    def killed_after(self, seconds: float) -> bool:
        """Runs it in a child; true if that had to be killed."""
        return Child(self.work).killed_after(seconds)

    def work(self) -> None:
        """Ingests, judges again, and writes a line for each call that returned."""
        scene = self.scene
        lake = scene.lake(mended=self.mended)
        with scene.acks.open("a", encoding="utf-8") as lines:
            for source in self.sources:
                results = ingest_city(scene.manifest(source), lake, settings=scene.settings, kinds=KINDS)
                if self.replays:
                    again = replay_many(lake, settings=scene.settings, held=True, quarantined=True, kinds=KINDS)
                    # A replay that is still held wrote nothing, so it acknowledges nothing.
                    results += [result for result in again if result.status != "held"]
                for result in results:
                    lines.write(json.dumps({"batch_id": result.batch_id, "status": result.status}) + "\n")
                lines.flush()
                os.fsync(lines.fileno())


def _faults(scene: Scene, waves: int, lines: list[dict[str, Any]]) -> tuple[list[str], int]:
    lake = scene.lake(mended=True)
    ledger = lake.ledger()
    faults = []
    known = Counter(ledger["batch_id"].to_list())
    faults += [f"batch {name} stands {times} times in the ledger" for name, times in known.items() if times > 1]
    lost = {line["batch_id"] for line in lines} - known.keys()
    faults += [f"batch {name} was acknowledged and is lost" for name in sorted(lost)]
    unbalanced = ledger.filter(
        pl.col("rows_in") != pl.col("rows_good") + pl.col("rows_quarantined") + pl.col("rows_duplicate")
    )
    faults += [f"batch {name} does not balance" for name in unbalanced["batch_id"]]
    faults += [
        f"a count of batch {row[0]} is negative"
        for row in ledger.select("batch_id", "rows_duplicate").iter_rows()
        if row[1] < 0
    ]
    faults += [f"batch {name} is still held" for name in ledger.filter(pl.col("status") == "held")["batch_id"]]
    faults += _booked(lake, ledger)
    faults += _observations(lake, waves)
    faults += _trips(lake, waves)
    faults += _spots(lake, waves)
    faults += [f"bronze object {name} is not its hash" for name in lake.bronze.verify()]
    faults += [f"left behind: {path.name}" for path in lake.staging.glob("run-*")]
    for name, version in lake.versions().items():
        for earlier in range(0, version + 1, max(1, version // 20)):
            lake.scan(name, version=earlier).collect()
    return faults, ledger.height


def _booked(lake: Lake, ledger: pl.DataFrame) -> list[str]:
    """The ledger's good rows are those that carry the batch's id."""
    there: Counter[str] = Counter()
    for name in ("observation", "trip"):
        there.update(dict(lake.scan(name).group_by("batch_id").len().collect().iter_rows()))
    faults = []
    for row in ledger.filter(pl.col("kind") == "rows").iter_rows(named=True):
        tables = json.loads(row["tables"])
        good = sum(
            tables[name]["good"] for name in ("observation", "trip") if name in tables and row["status"] != "held"
        )
        # Rows that landed with mended contracts before a kill and are refused by the others after it are booked as such.
        if row["reason"] is None and not good <= there[row["batch_id"]] <= good + row["rows_quarantined"]:
            faults.append(f"batch {row['batch_id']} booked {good} rows, {there[row['batch_id']]} are there")
    return faults


def _observations(lake: Lake, waves: int) -> list[str]:
    expected = {
        (f"s{spot}", START + timedelta(minutes=5 * (wave * _STEPS_APART + step)))
        for wave in range(waves)
        for number in range(FILES)
        for step in range(number * STEPS - (5 if number % 2 else 0), (number + 1) * STEPS - (5 if number % 2 else 0))
        for spot in range(SPOTS)
    }
    rows = lake.scan("observation").filter(pl.col("variable") == "speed").select("spot_id", "time_start").collect()
    return _compared("observation", Counter(rows.iter_rows()), expected)


def _trips(lake: Lake, waves: int) -> list[str]:
    keys = {
        f"{key:016x}"
        for wave in range(waves)
        for number in range(2)
        for key in range(
            wave * _STEPS_APART + number * (TRIPS - 10), wave * _STEPS_APART + number * (TRIPS - 10) + TRIPS
        )
    }
    rows = lake.scan("trip").select("trip_key").collect()
    counted = (
        lake.scan("observation").filter(pl.col("variable") == "departures").select(pl.col("value").sum()).collect()
    )
    faults = _compared("trip", Counter(rows["trip_key"].to_list()), keys)
    if counted.item() != len(keys):
        faults.append(f"{counted.item()} departures were counted, {len(keys)} trips are there")
    return faults


def _spots(lake: Lake, waves: int) -> list[str]:
    rows = lake.scan("spot").select("spot_id", "name", "valid_from").collect()
    faults = [] if rows.select("spot_id", "valid_from").is_unique().all() else ["a spot has two versions of one time"]
    names = {f"Gate {spot} of {wave}" for wave in range(waves) for spot in range(SPOTS)}
    return faults + [f"spot {name} is lost" for name in sorted(names - set(rows["name"].to_list()))]


def _compared(table: str, found: Counter[Any], expected: set[Any]) -> list[str]:
    faults = []
    if lost := expected - found.keys():
        faults.append(f"{len(lost)} rows of {table} are lost, such as {min(lost)}")
    if made_up := found.keys() - expected:
        faults.append(f"{len(made_up)} rows of {table} were never in a feed, such as {min(made_up)}")
    if twice := [key for key, times in found.items() if times > 1]:
        faults.append(f"{len(twice)} rows of {table} are there more than once, such as {min(twice)}")
    return faults


if __name__ == "__main__":
    found = kill_ingest(Path(sys.argv[1]), kills=int(sys.argv[2]), seed=int((sys.argv[3:] or ["0"])[0]))
    sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n")
