"""Files that hold a grid of numbers: npz, npy, h5 (plain or written by pandas), csv, node-link JSON.

Whatever the file, the outcome is a :class:`Grid`: time × place, or time × place × channel. Nothing is ever unpickled,
and an HDF5 file may not point outside itself.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import polars as pl

from mtgpt.errors import FeedError
from mtgpt.ingest.feeds.matrix.long_rows import Unreadable
from mtgpt.ingest.guard.archive import DEFAULT_CAPS, checked_zip, open_guarded
from mtgpt.ingest.guard.text import no_table, refuse_other_than_text, utf8

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mtgpt.ingest.adapter import FeedFile

# How numpy speaks of them, whether a file is mapped or read.
_OBJECTS = re.compile("pickle|Python objects")
_NO_VALUE = ("", "na", "n/a", "nan", "null", "none")
_SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".hdf", ".csv", ".txt", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Numbers over time and places, as the file has them.

    Attributes:
        values: [T, N] or [T, N, C]; slices along time give numpy arrays. Not a number where nothing was measured.
        ids: [N] names of the places, where the file has them.
        times: [T] times of the steps, where the file has them.
        unreadable: Cells with a text that is no number.
    """

    values: Any
    ids: list[str] | None = None
    times: pl.Series | None = None
    unreadable: tuple[Unreadable, ...] = ()


def suffix(name: str) -> str:
    """The suffix that tells a grid file's format, compression aside.

    Raises:
        FeedError: None that is known.
    """
    stem = name.lower().removesuffix(".gz").removesuffix(".zip")
    found = next((one for one in _SUFFIXES if stem.endswith(one)), None)
    if found is None:
        raise FeedError("unknown kind of file", where=name, expected=", ".join(_SUFFIXES))
    return found


def read_array(file: FeedFile, key: str | None) -> np.ndarray:
    """One array of an npz or npy file; a large npy stays on disk.

    Raises:
        FeedError: Damaged, holding Python objects, or without that key.
    """
    try:
        if suffix(file.name) == ".npy":
            return _numbers(np.load(file.path, mmap_mode="r", allow_pickle=False), file.name)
        with np.load(checked_zip(file.path, file.name), allow_pickle=False) as arrays:
            only = arrays.files[0] if len(arrays.files) == 1 else None
            name = key or ("data" if "data" in arrays.files else only)
            if name not in arrays.files:
                raise FeedError(
                    "no such array" if key else "several arrays",
                    where=file.name,
                    got=key,
                    expected=", ".join(arrays.files),
                    next_step="name one with the option key",
                )
            return _numbers(arrays[name], f"{file.name}: {name}")
    except (ValueError, OSError, EOFError) as error:
        # numpy's own words would advise to allow pickles.
        what = (
            "holds Python objects, which are never loaded"
            if _OBJECTS.search(str(error))
            else "not a readable numpy file"
        )
        raise FeedError(what, where=file.name, expected="arrays of numbers") from None


def read_h5(file: FeedFile, key: str | None) -> Grid:
    """A dataset of an HDF5 file, or a frame that pandas wrote there; the values stay on disk until sliced.

    Raises:
        FeedError: Damaged, without that key, pointing to other files, or not numbers.
    """
    try:
        store = h5py.File(file.path, "r")
    except OSError:
        raise FeedError("not a readable HDF5 file", where=file.name) from None
    if key is None and len(store) != 1:
        raise FeedError(
            "several objects" if len(store) else "holds no object",
            where=file.name,
            got=", ".join(store) or None,
            expected="one",
            next_step="name one with the option key" if len(store) else None,
        )
    name = key or str(next(iter(store)))
    node = _inside(store, name, file.name)
    if isinstance(node, h5py.Dataset):
        return Grid(values=_h5_numbers(node, file))
    if "block1_values" in node or "block0_values" not in node:
        raise FeedError(
            "not a frame of one type written by pandas",
            where=f"{file.name}: {name}",
            got=", ".join(node),
            expected="axis0, axis1, block0_values",
        )
    where = f"{file.name}: {name}"
    columns = _inside(node, "block0_items" if "block0_items" in node else "axis0", where)[()]
    index = _inside(node, "axis1", where)[()]
    return Grid(
        values=_h5_numbers(_inside(node, "block0_values", where), file),
        ids=[one.decode() if isinstance(one, bytes) else str(one) for one in columns],
        times=pl.Series(index.astype("datetime64[ns]").astype("datetime64[us]")) if index.dtype.kind == "i" else None,
    )


def _inside(group: Any, name: str, where: str) -> Any:
    if name not in group:
        raise FeedError("no such object", where=where, got=name, expected=", ".join(group))
    parent = group
    for part in name.strip("/").split("/"):
        link = parent.get(part, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise FeedError("points to another file", where=f"{where}: {name}")
        try:
            parent = parent[part]
        except KeyError:
            raise FeedError("points to what is not there", where=f"{where}: {name}") from None
    if isinstance(parent, h5py.Dataset) and (parent.external or parent.is_virtual):
        raise FeedError("keeps its numbers in another file", where=f"{where}: {name}")
    return parent


def _h5_numbers(dataset: h5py.Dataset, file: FeedFile) -> h5py.Dataset:
    if dataset.shape is None or dataset.dtype.kind not in "fiu":
        raise FeedError("not numbers", where=f"{file.name}: {dataset.name}", got=str(dataset.dtype))
    if dataset.nbytes > max(DEFAULT_CAPS.free_bytes, DEFAULT_CAPS.ratio * file.size):
        raise FeedError("expands too far", where=file.name, got=f"{dataset.nbytes} bytes from {file.size}")
    return dataset


def _numbers(array: np.ndarray, where: str) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise FeedError("not numbers", where=where, got=str(array.dtype))
    return array


def read_csv_grid(file: FeedFile, *, header: bool, time: Sequence[str], separator: str = ",") -> Grid:
    """A csv of time × place: a line per step.

    Args:
        file: The csv, possibly compressed.
        header: Whether the first line names the places.
        time: Possible names of the column of times ("" for a column without a name); empty if there is none.
        separator: Between cells.

    Raises:
        FeedError: Empty, cut off, lines of different length, or no such column.
    """
    with open_guarded(file.path, file.name) as stream:
        data = stream.read().removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise FeedError("the file is empty", where=file.name, expected="numbers")
    refuse_other_than_text(data[:4096], where=file.name)
    width = line_width(data, separator, file.name)
    first = data[: data.index(b"\n")] if b"\n" in data else data
    names = [cell.strip().strip('"') for cell in _names(first, file.name, header=header).split(separator)]
    columns = [f"c{index}" for index in range(width)]
    time_at = None
    if time:
        time_at = next((names.index(one) for one in time if header and one in names), None)
        if time_at is None:
            raise FeedError(
                "no such column of times",
                where=file.name,
                got=", ".join(names[:5]),
                expected=" or ".join(one or "one without a name" for one in time),
            )
    kept = [column for index, column in enumerate(columns) if index != time_at]
    body = data[len(first) + 1 :] if header else data
    if not body.strip():
        raise FeedError("the file has no steps", where=file.name, got="a header only")
    frame, unreadable = _cells(body, columns, kept, separator, file.name, first_line=1 + header)
    return Grid(
        values=frame.select(kept).to_numpy(),
        ids=[name for index, name in enumerate(names) if index != time_at] if header else None,
        times=None if time_at is None else frame[columns[time_at]],
        unreadable=unreadable,
    )


def _names(line: bytes, where: str, *, header: bool) -> str:
    # Names become ids, which must not change with a guess; in a line of numbers an odd cell is that row's fault alone.
    return (utf8(line, where=where) if header else line.decode("utf-8", "replace")).rstrip("\r")


def line_width(data: bytes, separator: str, where: str) -> int:
    """Number of cells of the first line.

    Raises:
        FeedError: Another line has more or fewer; not looked at where cells are quoted.
    """
    comma = separator.encode()
    body = data.strip(b"\r\n")
    width = body.split(b"\n", 1)[0].count(comma) + 1
    # polars fills up short lines, so a broken-off download or a lost cell would pass for missing values. Counting is
    # quick; only a file that does not add up is looked at line by line.
    if b'"' not in body and body.count(comma) != (width - 1) * (body.count(b"\n") + 1):
        for number, line in enumerate(body.split(b"\n"), start=1):
            if line.strip() and (cells := line.count(comma) + 1) != width:
                raise FeedError(
                    f"line {number} is not as long as the first",
                    where=where,
                    got=f"{cells} cells",
                    expected=f"{width} cells",
                )
    return width


def _cells(
    body: bytes, columns: Sequence[str], numeric: Sequence[str], separator: str, where: str, *, first_line: int
) -> tuple[pl.DataFrame, tuple[Unreadable, ...]]:
    numbers = set(numeric)

    def read(dtype: type[pl.DataType]) -> pl.DataFrame:
        schema = {column: dtype if column in numbers else pl.String for column in columns}
        return pl.read_csv(
            io.BytesIO(body),
            has_header=False,
            schema=schema,
            separator=separator,
            encoding="utf8-lossy",
            missing_columns="insert",
        )

    try:
        return read(pl.Float64).with_columns(pl.col(numeric).fill_null(np.nan)), ()
    except pl.exceptions.PolarsError:
        pass
    try:
        texts = read(pl.String)
    except pl.exceptions.PolarsError as error:
        raise no_table(body, error, where=where, first_line=first_line) from None
    parsed = texts.with_columns(pl.col(numeric).str.strip_chars().cast(pl.Float64, strict=False))
    odd = texts.select(
        (parsed[name].is_null() & ~pl.col(name).str.strip_chars().str.to_lowercase().is_in(_NO_VALUE)).alias(name)
        for name in numeric
    )
    cells = tuple(
        Unreadable(step=step, place=place, text=texts[name][step][:200])
        for place, name in enumerate(numeric)
        for step in odd[name].fill_null(value=False).arg_true().to_list()
    )
    return parsed.with_columns(pl.col(numeric).fill_null(np.nan)), cells


def read_json(file: FeedFile) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FeedError: Not a JSON object.
    """
    try:
        with open_guarded(file.path, file.name) as stream:
            document = json.load(stream)
    except (ValueError, RecursionError) as error:
        raise FeedError("not JSON", where=file.name, got=str(error)) from None
    if not isinstance(document, dict):
        raise FeedError("not a JSON object", where=file.name, got=type(document).__name__)
    return document
