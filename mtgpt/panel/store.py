"""A panel as a folder of uncompressed Arrow IPC files, opened by memory map without a copy.

::

    <folder>/<id>/values.arrow       one record batch: time, covariates, values as fixed_size_list<float32>[S]
    <folder>/<id>/series.arrow       the series table
    <folder>/<id>/graph.arrow        edges: from, to, weight
    <folder>/<id>/aggregation.arrow  edges: aggregate, spot, weight
    <folder>/<id>/transfers.arrow    where travellers change modes, if anywhere: from_spot, to_spot, distance_m
    <folder>/<id>/future.arrow       covariates of the steps after the last one, where some are known ahead
    <folder>/latest                  the id that was built last

The schema metadata of ``values.arrow`` carries provenance and calendar rules. A panel's folder is written beside its
place and renamed, so it is there as a whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa
from scipy.sparse import csr_array

from mtgpt.errors import NotFound, PanelError
from mtgpt.panel.calendar import ServiceRules, calendar_of
from mtgpt.panel.panel import SERIES_SCHEMA, TRANSFER_SCHEMA, Covariates, Panel, PanelMeta

if TYPE_CHECKING:
    from mtgpt.settings import Settings

_FORMAT = "mtgpt-panel/1"
_KEEP = 3
_ABANDONED_S = 12 * 3600
_VALUES, _SERIES, _GRAPH, _AGGREGATION = "values.arrow", "series.arrow", "graph.arrow", "aggregation.arrow"
_TRANSFERS, _FUTURE = "transfers.arrow", "future.arrow"


def save_panel(panel: Panel, folder: Path) -> Path:
    """Stores a panel under ``folder/<first 16 letters of its id>`` and makes it the latest there.

    The values are handed to the writer as they lie (memory maps included). The newest three panels of the folder are
    kept; older ones can be rebuilt from the table versions that forecasts name.

    Args:
        panel: With ``meta.panel_id`` set.
        folder: One per city, usually ``settings.panels / city``; made if absent.

    Returns:
        The panel's own folder.

    Raises:
        PanelError: If the disk is full or read-only, or the panel has no id.
    """
    name = panel.meta.panel_id[:16]
    if not name:
        raise PanelError("a panel without an id cannot be stored", where=folder, expected="meta.panel_id")
    place = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            scratch = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".tmp", dir=folder))
            try:
                _write(panel, scratch)
                scratch.chmod(0o755)
                _publish(scratch, place)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        _point(folder, name)
        _prune(folder, keep=name)
    except OSError as error:
        raise PanelError(
            "the panel could not be written",
            where=folder,
            got=error.strerror or str(error),
            expected=f"about {panel.values.nbytes / 1e6:,.0f} MB of free, writable disk",
            next_step="free space or set MTGPT_HOME to another disk, then build again",
        ) from error
    return place


def open_panel(folder: Path) -> Panel:
    """Opens a panel by memory map; the values are not read until touched.

    Args:
        folder: A panel's own folder, or a folder of panels (the latest one is opened).

    Raises:
        NotFound: If there is no panel.
        PanelError: If the files are not those of a panel.
    """
    place = folder
    if not (place / _VALUES).is_file():
        try:
            place = folder / (folder / "latest").read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise NotFound(
                "there is no panel here", where=folder, next_step="build one with `mtgpt panel build CITY`"
            ) from error
    try:
        return _read(place)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise PanelError(
            "the panel cannot be read",
            where=place,
            got=str(error),
            next_step="build it again: `mtgpt panel build CITY`",
        ) from error


def latest_panel(settings: Settings, city: str) -> Panel:
    """The panel of a city that was built last.

    Args:
        settings: Says where panels lie.
        city: City id.

    Raises:
        NotFound: If none was built; ``expected`` lists the cities that have one.
    """
    folder = settings.panels / city
    if not (folder / "latest").is_file():
        there = sorted(p.parent.name for p in settings.panels.glob("*/latest"))
        raise NotFound(
            "this city has no panel yet",
            where=settings.panels,
            got=city,
            expected=f"one of {', '.join(there)}" if there else None,
            next_step=f"run `mtgpt ingest {city}` and `mtgpt panel build {city}`",
        )
    return open_panel(folder)


def _write(panel: Panel, folder: Path) -> None:
    steps, count = panel.values.shape
    values = np.ascontiguousarray(panel.values, dtype=np.float32)
    flat = pa.Array.from_buffers(pa.float32(), values.size, [None, pa.py_buffer(values.reshape(-1))])
    columns: dict[str, pa.Array] = {"time": pa.array(panel.time, type=pa.timestamp("s", tz="UTC"))}
    if panel.covariates is not None:
        for position, name in enumerate(panel.covariates.names):
            columns[f"covariate:{name}"] = pa.array(panel.covariates.values[:, position], type=pa.float32())
    columns["values"] = pa.FixedSizeListArray.from_arrays(flat, count)
    facts = {
        "format": _FORMAT,
        "meta": panel.meta.as_dict(),
        "calendar": panel.calendar.rules.as_dict(),
        "shape": [steps, count],
    }
    schema = pa.schema(
        [pa.field(name, column.type) for name, column in columns.items()],
        metadata={"mtgpt": json.dumps(facts, sort_keys=True, ensure_ascii=False)},
    )
    _write_ipc(pa.record_batch(list(columns.values()), schema=schema), folder / _VALUES)
    _write_ipc(_table(panel.series, SERIES_SCHEMA), folder / _SERIES)
    if panel.transfers.height:
        _write_ipc(_table(panel.transfers, TRANSFER_SCHEMA), folder / _TRANSFERS)
    if panel.covariates is not None and panel.covariates.future is not None:
        ahead = pl.DataFrame(panel.covariates.future, schema=dict.fromkeys(panel.covariates.names, pl.Float32))
        _write_ipc(_table(ahead, ahead.schema), folder / _FUTURE)
    _write_ipc(_edges(panel.graph, "from", "to"), folder / _GRAPH)
    _write_ipc(_edges(panel.aggregation, "aggregate", "spot"), folder / _AGGREGATION)


def _table(frame: pl.DataFrame, schema: pl.Schema) -> pa.Table:
    plain = frame.select(schema.names()).cast(schema)
    return plain.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()


def _write_ipc(data: pa.RecordBatch | pa.Table, path: Path) -> None:
    with path.open("wb") as sink:
        with pa.ipc.new_file(sink, data.schema) as writer:
            writer.write(data)
        sink.flush()
        os.fsync(sink.fileno())


def _edges(matrix: csr_array, row: str, column: str) -> pa.RecordBatch:
    entries = matrix.tocoo()
    names = {row: pa.array(entries.row, pa.int32()), column: pa.array(entries.col, pa.int32())}
    return pa.record_batch({**names, "weight": pa.array(entries.data, pa.float32())})


def _read(folder: Path) -> Panel:
    batch = _map_ipc(folder / _VALUES)
    facts: dict[str, Any] = json.loads((batch.schema.metadata or {})[b"mtgpt"])
    if facts.get("format") != _FORMAT:
        raise ValueError(f"format {facts.get('format')!r} where {_FORMAT!r} is known")
    steps, count = facts["shape"]
    # The list array's child buffer lies contiguous in the file, row after row: a view, not a copy.
    values = batch.column("values").flatten().to_numpy(zero_copy_only=True).reshape(steps, count)
    time = batch.column("time").cast(pa.int64()).to_numpy(zero_copy_only=True).astype("datetime64[s]")
    names = [name for name in batch.schema.names if name.startswith("covariate:")]
    covariates = None
    if names:
        covariates = Covariates(
            values=np.stack([batch.column(name).to_numpy(zero_copy_only=False) for name in names], axis=1),
            names=tuple(name.removeprefix("covariate:") for name in names),
            future=_frame(folder / _FUTURE).to_numpy() if (folder / _FUTURE).is_file() else None,
        )
    frame = _frame(folder / _SERIES).cast(SERIES_SCHEMA)
    transfers = pl.DataFrame(schema=TRANSFER_SCHEMA)
    if (folder / _TRANSFERS).is_file():
        transfers = _frame(folder / _TRANSFERS).cast(TRANSFER_SCHEMA)
    aggregates = frame.filter(pl.col("level") != "spot").height
    calendar = calendar_of(time, ServiceRules(**facts["calendar"]))
    return Panel(
        values=values,
        time=calendar.time,
        series=frame,
        graph=_matrix(folder / _GRAPH, (count, count)),
        aggregation=_matrix(folder / _AGGREGATION, (aggregates, count - aggregates)),
        calendar=calendar,
        covariates=covariates,
        meta=PanelMeta(**facts["meta"]),
        transfers=transfers,
    )


def _map_ipc(path: Path) -> pa.RecordBatch:
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        if reader.num_record_batches != 1:
            raise ValueError(f"{path.name} has {reader.num_record_batches} record batches, not one")
        return reader.get_batch(0)


def _frame(path: Path) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(pa.table(_map_ipc(path))))


def _matrix(path: Path, shape: tuple[int, int]) -> csr_array:
    rows, columns, weights = (column.to_numpy(zero_copy_only=False) for column in _map_ipc(path).columns)
    return csr_array((weights, (rows, columns)), shape=shape, dtype=np.float32)


def _publish(scratch: Path, place: Path) -> None:
    try:
        scratch.rename(place)
    except OSError:
        # Another process stored the same content first; then ours is not needed.
        if not (place / _VALUES).is_file():
            raise
    descriptor = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _point(folder: Path, name: str) -> None:
    descriptor, scratch = tempfile.mkstemp(prefix=".latest.", suffix=".tmp", dir=folder, text=True)
    with os.fdopen(descriptor, "w", encoding="ascii") as sink:
        sink.write(name + "\n")
    Path(scratch).chmod(0o644)
    Path(scratch).replace(folder / "latest")


def _prune(folder: Path, keep: str) -> None:
    places = [p.parent for p in folder.glob(f"*/{_VALUES}")]
    places = [place for place in places if place.name != keep and not place.name.startswith(".")]
    places.sort(key=lambda p: p.stat().st_mtime, reverse=True)
    # What a killed build left behind; a build that runs for half a day is not one of ours.
    left = [p for p in folder.glob(".*.tmp") if p.is_dir() and time.time() - p.stat().st_mtime > _ABANDONED_S]
    for place in [*places[_KEEP - 1 :], *left]:
        shutil.rmtree(place, ignore_errors=True)
