"""Reads a data file in chunks, leaving the judging of its values to the contract."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.contracts.coerce import FAULT, MESSAGE, RAW, ROW
from mtgpt.errors import FeedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = (".csv", ".csv.gz", ".parquet", ".jsonl", ".ndjson", ".jsonl.gz")
_MAX_LINE = 10_000_000


def read_chunks(path: Path, *, rows: int = 1_000_000) -> Iterator[pl.DataFrame]:
    """Reads a csv, parquet or jsonl file in chunks of at most ``rows`` rows.

    Csv values stay texts, so that nothing is guessed; the contract decides what they must be. Every chunk has the
    column ``__row``, counted from 0; a jsonl line that is no JSON object carries ``__fault`` and ``__message``.

    Raises:
        FeedError: The file is empty, truncated or not what its name says.
    """
    kind = next((kind for kind in KINDS if path.name.lower().endswith(kind)), None)
    if kind is None:
        raise FeedError("The kind of file is not known", where=path, got=path.name, expected=", ".join(KINDS))
    try:
        if path.stat().st_size == 0:
            raise FeedError("The file is empty", where=path, got="0 bytes", expected="rows")
        if kind.startswith((".jsonl", ".ndjson")):
            chunks = _json_lines(path, rows)
        else:
            lazy = pl.scan_parquet(path) if kind == ".parquet" else pl.scan_csv(path, infer_schema=False)
            chunks = lazy.with_row_index(ROW).collect_batches(chunk_size=rows, maintain_order=True)
        for chunk in chunks:
            yield chunk.with_columns(pl.col(ROW).cast(pl.UInt64))
    except (pl.exceptions.PolarsError, OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error).split("\n", 1)[0]
        raise FeedError(f"The file cannot be read as {kind.strip('.')}", where=path, got=reason) from error


def _json_lines(path: Path, rows: int) -> Iterator[pl.DataFrame]:
    open_text = gzip.open if path.suffix == ".gz" else open
    with open_text(path, "rt", encoding="utf-8") as lines:
        buffer: list[dict[str, Any]] = []
        number = 0
        while line := lines.readline(_MAX_LINE):
            if line.strip():
                buffer.append(_json_line(line, number))
                number += 1
            if len(buffer) == rows:
                yield _frame(buffer)
                buffer = []
        if buffer:
            yield _frame(buffer)


def _json_line(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        message = f"the line is no JSON object: got {line.strip()[:80]}"
        return {ROW: number, FAULT: "json", MESSAGE: message, RAW: json.dumps(line.strip()[:1000])}
    return {**row, ROW: number}


def _frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pl.DataFrame([_column(name, [row.get(name) for row in rows]) for name in names])


def _column(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pl.Series(name, values, dtype=pl.Null)
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pl.Series(name, values, dtype=pl.Int64)
    if kinds <= {int, float}:
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
    # Mixed types become texts: whether "12" will do for a number is the contract's to say, row by row.
    texts = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return pl.Series(name, texts, dtype=pl.String)
