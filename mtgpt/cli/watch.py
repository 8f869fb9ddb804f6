"""``mtgpt watch``: a city's live feeds into the lake, for as long as one wishes."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from mtgpt.cli.show import as_json_text, console, fail
from mtgpt.cli.watch_view import feeds_table, line_of
from mtgpt.errors import UsageError
from mtgpt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mtgpt.lake.watch.watch import Event, Watch

_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)?")
_UNIT_S = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LEAST_S = 0.1
_LOOK_S = 0.5
_INTERRUPTED = 130


def command(
    city: Annotated[str, typer.Argument(help="Name of a city (mtgpt city list), or the path of its manifest.")],
    source: Annotated[list[str] | None, typer.Option(help="Only this source; may be given again.")] = None,
    every: Annotated[str | None, typer.Option(help="Ask every source so often, such as 30s or 5m.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Ask every source once, then end.")] = False,
    for_time: Annotated[str | None, typer.Option("--for", help="End after so long, such as 10m or 8h.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every event as one line of JSON.")] = False,
) -> None:
    """Asks a city's feeds again and again, each on its own cadence, and lands what they bring.

    Sources with an address, a schedule or a glob are watched, as often as poll_s or schedule of the source say, else
    every minute (gtfs_rt, gbfs, local folders) or every hour (others).

    A feed that fails is asked less and less often, and after five failures it rests for five minutes; no other feed
    waits for it. Ctrl-C or SIGTERM end the watch: what was read lands first.

    The exit code is 1 where --once or --for end the watch while a source fails or after a batch was held.

    Example: mtgpt watch demo --every 30s --for 10m
    """
    from mtgpt.ingest.manifest import load_manifest
    from mtgpt.lake.lake import Lake
    from mtgpt.lake.watch.watch import Watch, watched_sources

    every_s, for_s = _seconds("--every", every), _seconds("--for", for_time)
    now = settings()
    manifest = load_manifest(city, settings=now)
    watched_sources(manifest, source)  # a slip is a sentence before a lake is made
    out = _Lines() if as_json else _Screen()
    with _signals() as asked:
        watch = Watch(
            manifest,
            Lake.open(now.lake),
            settings=now,
            only=source,
            every_s=every_s,
            once=once,
            note=out.note,
        )
        until = time.monotonic() + (float("inf") if for_s is None else for_s)
        with out.shown(watch), watch:
            while not asked and (left_s := until - time.monotonic()) > 0 and not watch.wait(min(_LOOK_S, left_s)):
                out.look(watch)
            well = watch.is_well()
            ended = watch.stop()
        out.end(watch)
    _exit(asked, code=0 if well else 1, ended=ended)


def _exit(asked: list[int], *, code: int, ended: bool) -> None:
    if asked:
        # What a service manager asks for and gets is no failure; Ctrl-C ends as it does everywhere.
        code = _INTERRUPTED if asked[0] == signal.SIGINT else 0
    if not ended:
        # A thread still waits for a name server. It holds nothing, but the interpreter would wait for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise typer.Exit(code)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Notes the first Ctrl-C or SIGTERM; the second one ends the program at once."""
    asked: list[int] = []

    def hear(number: int, _: Any) -> None:
        if asked:
            os._exit(128 + number)
        asked.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Lines:
    """For programs: one JSON object per line."""

    def note(self, event: Event) -> None:
        self._write(event.as_dict())

    def shown(self, _: Watch) -> nullcontext[None]:
        return nullcontext()

    def look(self, _: Watch) -> None:
        pass

    def end(self, watch: Watch) -> None:
        self._write({"event": "ended", "sources": watch.status()})

    def _write(self, data: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(json.loads(as_json_text(data)), ensure_ascii=False) + "\n")
        sys.stdout.flush()


class _Screen:
    """For people: a live table on a terminal, a line per event elsewhere, the table in the end."""

    def __init__(self) -> None:
        self._out = console(stderr=True)
        self._live: Any = None

    def note(self, event: Event) -> None:
        line = line_of(event)
        if line is not None and not self._out.is_terminal:
            self._out.print(Text(line), soft_wrap=True)

    @contextmanager
    def shown(self, watch: Watch) -> Iterator[None]:
        if not self._out.is_terminal:
            yield
            return
        from rich.live import Live

        with Live(feeds_table(watch.status()), console=self._out, auto_refresh=False, transient=True) as self._live:
            yield

    def look(self, watch: Watch) -> None:
        if self._live is not None:
            self._live.update(feeds_table(watch.status()), refresh=True)

    def end(self, watch: Watch) -> None:
        console().print(feeds_table(watch.status()))
        for one in watch.status():
            if one.fault is not None:
                fail(f"{one.source_id}: {one.fault}")


def _seconds(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    found = _TIME.fullmatch(text.strip())
    seconds = float(found[1]) * _UNIT_S[found[2]] if found else 0.0
    if not _LEAST_S <= seconds <= 366 * _UNIT_S["d"]:
        raise UsageError("not a length of time", where=option, got=text, expected="such as 30s, 5m, 8h or 2d")
    return seconds
