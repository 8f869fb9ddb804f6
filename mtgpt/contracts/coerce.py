"""Brings a frame to a contract's columns and types, remembering which values did not survive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.errors import ContractError

if TYPE_CHECKING:
    from mtgpt.contracts.contract import Contract, Field

ROW, FAULT, RAW, MESSAGE = "__row", "__fault", "__raw", "__message"
_ISO = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z")
SPECIAL = (ROW, FAULT, RAW, MESSAGE)
"""Columns that an adapter may add to any frame; they never reach a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A frame in the contract's columns and types.

    Attributes:
        frame: Exactly the contract's columns, in order; a value that does not fit the type is null.
        faults: By rule id (``<field>.type``): true where a value was lost. Only rules that were broken.
    """

    frame: pl.DataFrame
    faults: dict[str, pl.Series]


def coerce(frame: pl.DataFrame, contract: Contract) -> Typed:
    """Casts ``frame`` to the contract without losing a value silently.

    Missing columns become null. Texts are parsed as numbers and as ISO 8601 times with an offset, whole numbers may
    stand for texts (ids), other time zones are converted to UTC.

    Raises:
        ContractError: A column is unknown, or its type can never fit (times without a zone, lists, booleans, …).
    """
    known = {field.name for field in contract.fields}
    unknown = [name for name in frame.columns if name not in known and name not in SPECIAL]
    if unknown:
        raise ContractError(
            "There is no such column in the contract",
            where=contract.name,
            got=", ".join(unknown),
            expected=", ".join(field.name for field in contract.fields),
            next_step="drop or rename the column, or add it to the contract",
        )
    if not frame.width:
        return Typed(frame=contract.polars_schema.to_frame(), faults={})
    columns: list[pl.Expr] = []
    lossy: dict[str, pl.Expr] = {}
    for field in contract.fields:
        if field.name not in frame.columns:
            columns.append(pl.lit(None, dtype=field.polars_type).alias(field.name))
            continue
        dtype = frame.schema[field.name]
        value = pl.col(field.name)
        if dtype == field.polars_type:
            columns.append(value)
            continue
        cast = _cast(field, dtype, value, contract)
        columns.append(cast.alias(field.name))
        if dtype != pl.Null:
            lossy[f"{field.name}.type"] = value.is_not_null() & _lost(field, dtype, value, cast)
    # Not select: literals alone would make one row, whatever the height of the input.
    typed = frame.with_columns(columns).select(field.name for field in contract.fields)
    faults: dict[str, pl.Series] = {}
    if lossy:
        flags = frame.select(expression.alias(rule) for rule, expression in lossy.items())
        faults = {rule: flags[rule] for rule in lossy if flags[rule].any()}
    return Typed(frame=typed, faults=faults)


def _cast(field: Field, dtype: pl.DataType, value: pl.Expr, contract: Contract) -> pl.Expr:
    target = field.polars_type
    if dtype == pl.Null:
        return value.cast(target)
    if target == pl.String and (dtype.is_integer() or dtype in (pl.Categorical, pl.Enum)):
        return value.cast(pl.String)
    if target.is_temporal():
        if dtype == pl.String:
            return _parsed(value.str.strip_chars(), target)
        if target != pl.Date and isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
            return value.dt.convert_time_zone("UTC").cast(target, strict=False)
    if target.is_numeric():
        if dtype.is_integer() or dtype.is_float() or isinstance(dtype, pl.Decimal):
            return value.cast(target, strict=False)
        if dtype == pl.String:
            return value.str.strip_chars().cast(target, strict=False)
    naive = isinstance(dtype, pl.Datetime) and dtype.time_zone is None
    raise ContractError(
        "The column's times have no zone" if naive else "The column's type does not fit",
        where=f"{contract.name}.{field.name}",
        got=str(dtype),
        expected=field.physical_type,
        next_step="convert local times to UTC with the feed's own zone" if naive else None,
    )


def _parsed(text: pl.Expr, target: pl.DataType) -> pl.Expr:
    # Fixed formats, because a guess from the first value would fail where just that one is broken.
    if target == pl.Date:
        return text.str.to_date("%Y-%m-%d", strict=False)
    iso = text.str.replace(r"[zZ]$", "+00:00").str.replace(r"^(\d{4}-\d{2}-\d{2}) ", "${1}T")
    return pl.coalesce(iso.str.to_datetime(form, time_unit="us", strict=False) for form in _ISO)


def _lost(field: Field, dtype: pl.DataType, value: pl.Expr, cast: pl.Expr) -> pl.Expr:
    lost = cast.is_null()
    if field.polars_type.is_integer() and dtype.is_float():
        # 7.5 cast to an integer would quietly become 7.
        lost |= (value != value.floor()).fill_null(False)
    return lost
