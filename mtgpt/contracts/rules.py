"""Row rules as Polars expressions: which rows break a rule, and what to say about them."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.contracts.compile import length_text, range_text

if TYPE_CHECKING:
    from collections.abc import Collection

    from mtgpt.contracts.contract import Contract, Field, Rule
    from mtgpt.contracts.variables import Variable

_QUOTED = 80


def breaks(rule: Rule, contract: Contract, *, received_at: datetime, present: Collection[str] = ()) -> pl.Expr:
    """True in the rows that break a row rule; null or false elsewhere.

    Args:
        rule: A row rule other than ``type``, which is judged while casting.
        contract: The rule's contract.
        received_at: When the batch arrived.
        present: Variables that occur in the frame (for ``variable_range``).
    """
    first = pl.col(rule.fields[0])
    field = contract.field(rule.fields[0])
    match rule.check:
        case "required":
            return first.is_null()
        case "length":
            length = first.str.len_chars()
            short = length < field.min_length if field.min_length else pl.lit(False)
            return short | (length > field.max_length) if field.max_length is not None else short
        case "pattern":
            return ~first.str.contains(field.pattern or "")
        case "enum":
            return ~first.is_in(list(field.enum))
        case "finite":
            return ~first.is_finite()
        case "range":
            return _outside(first, field.minimum, field.maximum)
        case "multiple":
            steps = first / (field.multiple_of or 1.0)
            return (steps - steps.round()).abs() > 1e-6
        case "ordered":
            return pl.col(rule.fields[1]) < first
        case "place":
            lon, lat = first, pl.col(rule.fields[1])
            return (lon.is_null() != lat.is_null()) | ((lon.abs() < 1e-9) & (lat.abs() < 1e-9))
        case "variable_range":
            value = pl.col(rule.fields[1])
            known = [variable for variable in contract.variables if variable.name in present]
            outside = [(first == v.name) & _outside(value, v.minimum, v.maximum) for v in known]
            return pl.any_horizontal(outside) if outside else pl.lit(False)
        case "not_future":
            return first > received_at + timedelta(seconds=rule.limit or 0.0)
    raise AssertionError(rule.check)


def message(rule: Rule, contract: Contract, *, received_at: datetime) -> pl.Expr:
    """What to say about a row that breaks ``rule``: the field, what was got, what was expected, with the unit."""
    name = rule.fields[0]
    field = contract.field(name)
    got = _text(pl.col(name))
    match rule.check:
        case "required":
            return pl.lit(f"{name}: got nothing, expected a value")
        case "length":
            return pl.format(
                "{}: got {} characters, expected {}", _lit(name), pl.col(name).str.len_chars(), _lit(length_text(field))
            )
        case "pattern":
            return pl.format("{}: got {}, expected text like {}", _lit(name), got, _lit(field.pattern))
        case "enum":
            return pl.format("{}: got {}, expected one of {}", _lit(name), got, _lit(", ".join(field.enum)))
        case "finite":
            return pl.format("{}: got {}, expected a finite number", _lit(name), got)
        case "range":
            unit = _unit(field)
            return pl.format(
                "{}: got {}{}, expected {}{}", _lit(name), got, _lit(unit), _lit(range_text(field)), _lit(unit)
            )
        case "multiple":
            return pl.format("{}: got {}, expected a multiple of {}", _lit(name), got, _lit(f"{field.multiple_of:g}"))
        case "ordered":
            return pl.format(
                "{}: got {}, expected no earlier than {} {}",
                _lit(rule.fields[1]),
                _text(pl.col(rule.fields[1])),
                _lit(name),
                got,
            )
        case "place":
            return pl.format(
                "{}: got {} / {}, expected a longitude and a latitude, or neither; 0 / 0 is no place",
                _lit("/".join(rule.fields)),
                got.fill_null("nothing"),
                _text(pl.col(rule.fields[1])).fill_null("nothing"),
            )
        case "variable_range":
            said = pl.lit(None, dtype=pl.String)
            for variable in contract.variables:
                said = pl.when(pl.col(name) == variable.name).then(_variable_message(rule, variable)).otherwise(said)
            return said
        case "not_future":
            latest = received_at + timedelta(seconds=rule.limit or 0.0)
            return pl.format(
                "{}: got {}, expected no later than {}", _lit(name), got, _lit(latest.isoformat(timespec="seconds"))
            )
    raise AssertionError(rule.check)


def type_message(field: Field, value: pl.Expr) -> pl.Expr:
    """What to say about a value that does not fit its column's type; ``value`` is the column as it arrived."""
    wanted = field.physical_type
    if field.polars_type.is_temporal():
        wanted = "an ISO 8601 time with offset"
    return pl.format("{}: got {}, expected {}", _lit(field.name), _text(value), _lit(wanted))


def _variable_message(rule: Rule, variable: Variable) -> pl.Expr:
    unit = "" if variable.unit == "1" else f" {variable.unit}"
    low, high = variable.minimum, variable.maximum
    if math.isinf(high):
        expected = f"at least {low:.10g}"
    elif math.isinf(low):
        expected = f"at most {high:.10g}"
    else:
        expected = f"{low:.10g} to {high:.10g}"
    value = rule.fields[1]
    return pl.format(
        "{}: got {}{}, expected {}{} for {}",
        _lit(value),
        _text(pl.col(value)),
        _lit(unit),
        _lit(expected),
        _lit(unit),
        _lit(variable.name),
    )


def _outside(value: pl.Expr, low: float | datetime | None, high: float | datetime | None) -> pl.Expr:
    bounds = []
    if low is not None and low != -math.inf:
        bounds.append(value < low)
    if high is not None and high != math.inf:
        bounds.append(value > high)
    return pl.any_horizontal(bounds) if bounds else pl.lit(False)


def _unit(field: Field) -> str:
    return f" {field.unit}" if field.unit and field.unit != "1" else ""


def _lit(text: str | None) -> pl.Expr:
    return pl.lit(text or "")


def _text(value: pl.Expr) -> pl.Expr:
    # Feeds are hostile input: what is quoted is cut.
    return value.cast(pl.String).str.slice(0, _QUOTED)
