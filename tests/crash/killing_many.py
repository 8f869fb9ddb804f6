"""Kills a watch, and ingests that work side by side, again and again, and looks at what is left.

As :mod:`tests.crash.killing`; here each child is a watch of all sources, each of which is asked by a thread of its own,
or one of two ingests of different sources at the same time, both of which are killed.

``python -m tests.crash.killing_many watch|beside FOLDER KILLS [SEED]`` prints the outcome as JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mtgpt.lake.intake import ingest_city
from mtgpt.lake.watch.watch import Watch
from tests.crash.killing import UNDISTURBED_S, Child, Outcome, Scene, outcome
from tests.lake.feeds import KINDS

if TYPE_CHECKING:
    from mtgpt.lake.watch.watch import Event

_OLD = 1_700_000_000


def kill_watch(folder: Path, *, kills: int, seed: int = 0) -> Outcome:
    """Watches until ``kills`` watches were killed while new files came, then checks everything."""
    started = time.monotonic()
    chance = random.Random(seed)
    scene = _scene(folder)
    waves = [_write(scene, 0)]
    for kill in range(kills):
        if kill % 4 == 3:
            waves.append(_write(scene, len(waves)))
        sources = [source for wave in waves for source in wave]
        Child(lambda sources=sources: _watch(scene, sources, once=False)).killed_after(chance.uniform(0.05, 0.9))
    everything = [source for wave in waves for source in wave]
    if Child(lambda: _watch(scene, everything, once=True)).killed_after(UNDISTURBED_S):
        raise RuntimeError("a watch that nobody disturbed hung")
    return outcome(scene, len(waves), kills, 0, started)


def kill_beside(folder: Path, *, kills: int, seed: int = 0) -> Outcome:
    """Two ingests at a time, of different sources into the same tables; both are killed at moments of their own."""
    started = time.monotonic()
    chance = random.Random(seed)
    scene = _scene(folder)
    waves = [_write(scene, 0), _write(scene, 1)]
    killed = undisturbed = 0
    while killed < kills:
        sources = chance.sample([source for wave in waves[-2:] for source in wave], 4)
        pair = [Child(lambda half=half: _ingest(scene, half)) for half in (sources[:2], sources[2:])]
        ended = [child.killed_after(chance.uniform(0.02, 0.5)) for child in pair]
        killed += sum(ended)
        undisturbed += len(ended) - sum(ended)
        if not all(ended):
            waves.append(_write(scene, len(waves)))
    everything = [source for wave in waves for source in wave]
    if Child(lambda: _ingest(scene, everything)).killed_after(UNDISTURBED_S):
        raise RuntimeError("an ingest that nobody disturbed hung")
    return outcome(scene, len(waves), killed, undisturbed, started)


def _scene(folder: Path) -> Scene:
    scene = Scene(folder=folder)
    scene.prepare()
    scene.lake(mended=True)  # read before the first fork, so that children start to work at once
    scene.acks.touch()
    return scene


def _write(scene: Scene, wave: int) -> list[str]:
    sources = scene.write(wave)
    for file in scene.feeds.glob(f"w{wave}_*"):
        os.utime(file, (_OLD, _OLD))  # a watch leaves files alone that may still be written to
    return sources


def _watch(scene: Scene, sources: list[str], *, once: bool) -> None:
    with scene.acks.open("a", encoding="utf-8") as lines:

        def note(event: Event) -> None:
            if event.event in {"landed", "held"}:
                _acknowledge(lines, event.facts["batch_id"], event.event)
            elif event.event in {"failed", "lake"}:
                raise RuntimeError(event.facts["sentence"])

        lake = scene.lake(mended=True)
        city = scene.city(sources)
        watch = Watch(
            city, lake, settings=scene.settings, kinds=KINDS, every_s=0.1, once=once, note=note,
            derive_s=0.05, compact_files=6,
        )  # fmt: skip
        with watch:
            while not watch.wait(1.0):
                pass
            if not watch.is_well():
                raise RuntimeError(str([one.fault for one in watch.status()]))


def _ingest(scene: Scene, sources: list[str]) -> None:
    lake = scene.lake(mended=True)
    with scene.acks.open("a", encoding="utf-8") as lines:
        for source in sources:
            for one in ingest_city(scene.manifest(source), lake, settings=scene.settings, kinds=KINDS):
                _acknowledge(lines, one.batch_id, one.status)


def _acknowledge(lines: object, batch_id: str, status: str) -> None:
    # One write of a short line to a file opened for appending is whole, whoever else writes.
    text = json.dumps({"batch_id": batch_id, "status": status}) + "\n"
    os.write(lines.fileno(), text.encode())  # pyright: ignore[reportAttributeAccessIssue]
    os.fsync(lines.fileno())  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    kill = {"watch": kill_watch, "beside": kill_beside}[sys.argv[1]]
    found = kill(Path(sys.argv[2]), kills=int(sys.argv[3]), seed=int((sys.argv[4:] or ["0"])[0]))
    sys.stdout.write(json.dumps(dataclasses.asdict(found)) + "\n")
