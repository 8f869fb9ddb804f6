"""Row rules as Polars expressions: which rows break a rule, and what to say about them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.contracts.compile import length_text, range_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from mtgpt.contracts.contract import Contract, Field, Rule
    from mtgpt.contracts.variables import Variable

# Feeds are hostile input: what is quoted in a message is cut.
_QUOTED = 80
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A row rule and what it is judged by.

    Attributes:
        rule: The rule.
        contract: The rule's contract.
        received_at: When the batch arrived.
        present: Variables that occur in the frame; ``variable_range`` looks at no others.
    """

    rule: Rule
    contract: Contract
    received_at: datetime
    present: Collection[str] = ()

    @property
    def field(self) -> Field:
        """The rule's first column."""
        return self.contract.field(self.rule.fields[0])

    @property
    def first(self) -> pl.Expr:
        """Values of the rule's first column."""
        return pl.col(self.rule.fields[0])

    @property
    def second(self) -> pl.Expr:
        """Values of the rule's second column."""
        return pl.col(self.rule.fields[1])

    @property
    def latest(self) -> datetime:
        """The last time that is not in the future."""
        return self.received_at + timedelta(seconds=self.rule.limit or 0.0)

    def shown(self, position: int = 0) -> pl.Expr:
        """Values of a column of the rule as a message quotes them."""
        name = self.rule.fields[position]
        dtype = self.contract.field(name).polars_type
        if dtype == pl.Date:
            return pl.col(name).dt.strftime("%Y-%m-%d")
        if dtype.is_temporal():
            return pl.col(name).dt.strftime(_TIME)
        return _text(pl.col(name))

    def breaks(self) -> pl.Expr:
        """True in the rows that break the rule; null or false elsewhere. ``type`` is judged while casting instead."""
        return _BREAKS[self.rule.check](self)

    def message(self) -> pl.Expr:
        """What to say about a row that breaks the rule: the column, what was got and expected, with the unit."""
        return _SAYS[self.rule.check](self)


def type_message(field: Field) -> pl.Expr:
    """What to say about a value that does not fit its column's type, over the frame as it arrived."""
    wanted = field.physical_type
    if field.polars_type == pl.Date:
        wanted = "a date YYYY-MM-DD"
    elif field.polars_type.is_temporal():
        wanted = "an ISO 8601 time with offset"
    return _say(field.name, _text(pl.col(field.name)), wanted)


def _length_breaks(case: Case) -> pl.Expr:
    return _outside(case.first.str.len_chars(), case.field.min_length, case.field.max_length)


def _multiple_breaks(case: Case) -> pl.Expr:
    steps = case.first / (case.field.multiple_of or 1.0)
    return (steps - steps.round()).abs() > 1e-6


def _place_breaks(case: Case) -> pl.Expr:
    alone = case.first.is_null() != case.second.is_null()
    return alone | ((case.first.abs() < 1e-9) & (case.second.abs() < 1e-9))


def _variable_breaks(case: Case) -> pl.Expr:
    present = [variable for variable in case.contract.variables if variable.name in case.present]
    outside = [(case.first == one.name) & _outside(case.second, one.minimum, one.maximum) for one in present]
    return pl.any_horizontal(outside) if outside else pl.lit(False)


_BREAKS: Mapping[str, Callable[[Case], pl.Expr]] = {
    "required": lambda case: case.first.is_null(),
    "length": _length_breaks,
    "pattern": lambda case: ~case.first.str.contains(case.field.pattern or ""),
    "enum": lambda case: ~case.first.is_in(list(case.field.enum)),
    "finite": lambda case: ~case.first.is_finite(),
    "range": lambda case: _outside(case.first, case.field.minimum, case.field.maximum),
    "multiple": _multiple_breaks,
    "ordered": lambda case: case.second < case.first,
    "place": _place_breaks,
    "variable_range": _variable_breaks,
    "not_future": lambda case: case.first > case.latest,
}


def _variable_says(case: Case) -> pl.Expr:
    said = pl.lit(None, dtype=pl.String)
    for variable in case.contract.variables:
        expected = f"{_variable_range(variable)}{_unit(variable.unit)} for {variable.name}"
        one = _say(case.rule.fields[1], case.shown(1), expected, unit=variable.unit)
        said = pl.when(case.first == variable.name).then(one).otherwise(said)
    return said


def _ordered_says(case: Case) -> pl.Expr:
    earlier, later = case.rule.fields
    return pl.format(
        "{}: got {}, expected no earlier than {} {}",
        pl.lit(later),
        case.shown(1),
        pl.lit(earlier),
        case.shown(),
    )


def _place_says(case: Case) -> pl.Expr:
    return pl.format(
        "{}: got {} / {}, expected a longitude and a latitude, or neither; 0 / 0 is no place",
        pl.lit("/".join(case.rule.fields)),
        case.shown().fill_null("nothing"),
        case.shown(1).fill_null("nothing"),
    )


def _range_says(case: Case) -> pl.Expr:
    unit = case.field.unit
    return _say(case.field.name, case.shown(), f"{range_text(case.field)}{_unit(unit)}", unit=unit)


def _length_says(case: Case) -> pl.Expr:
    return pl.format(
        "{}: got {} characters, expected {}",
        pl.lit(case.field.name),
        case.first.str.len_chars(),
        pl.lit(length_text(case.field)),
    )


_SAYS: Mapping[str, Callable[[Case], pl.Expr]] = {
    "required": lambda case: _say(case.field.name, pl.lit("nothing"), "a value"),
    "length": _length_says,
    "pattern": lambda case: _say(case.field.name, case.shown(), f"text like {case.field.pattern}"),
    "enum": lambda case: _say(case.field.name, case.shown(), f"one of {', '.join(case.field.enum)}"),
    "finite": lambda case: _say(case.field.name, case.shown(), "a finite number"),
    "range": _range_says,
    "multiple": lambda case: _say(case.field.name, case.shown(), f"a multiple of {case.field.multiple_of:g}"),
    "ordered": _ordered_says,
    "place": _place_says,
    "variable_range": _variable_says,
    "not_future": lambda case: _say(case.field.name, case.shown(), f"no later than {case.latest.strftime(_TIME)}"),
}


def _say(name: str, got: pl.Expr, expected: str, *, unit: str | None = None) -> pl.Expr:
    return pl.format("{}: got {}{}, expected {}", pl.lit(name), got, pl.lit(_unit(unit)), pl.lit(expected))


def _variable_range(variable: Variable) -> str:
    low, high = variable.minimum, variable.maximum
    if math.isinf(high):
        return f"at least {low:.10g}"
    return f"at most {high:.10g}" if math.isinf(low) else f"{low:.10g} to {high:.10g}"


def _outside(value: pl.Expr, low: float | datetime | None, high: float | datetime | None) -> pl.Expr:
    bounds = []
    if low is not None and low != -math.inf:
        bounds.append(value < low)
    if high is not None and high != math.inf:
        bounds.append(value > high)
    return pl.any_horizontal(bounds) if bounds else pl.lit(False)


def _unit(unit: str | None) -> str:
    return f" {unit}" if unit and unit != "1" else ""


def _text(value: pl.Expr) -> pl.Expr:
    return value.cast(pl.String).str.slice(0, _QUOTED)
