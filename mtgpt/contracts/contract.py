"""A contract: the columns, the key and the rules of one table of the lake.

A contract is written as a file of the Open Data Contract Standard and compiled (:mod:`mtgpt.contracts.compile`) into
the dataclasses below, which know their Arrow and Polars schemas. Units, reference systems and time zones travel as
Arrow field metadata, so that a Parquet or Arrow file read far from this code still says what its numbers mean.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mtgpt.contracts.variables import Variable

TYPES: Mapping[str, tuple[pa.DataType, pl.DataType]] = {
    "string": (pa.string(), pl.String()),
    "int32": (pa.int32(), pl.Int32()),
    "int64": (pa.int64(), pl.Int64()),
    "uint64": (pa.uint64(), pl.UInt64()),
    "float32": (pa.float32(), pl.Float32()),
    "float64": (pa.float64(), pl.Float64()),
    "date32": (pa.date32(), pl.Date()),
    "timestamp[us, UTC]": (pa.timestamp("us", tz="UTC"), pl.Datetime("us", "UTC")),
}
"""Physical types that a contract may name, as Arrow and as Polars sees them."""

Check = Literal[
    "type",
    "required",
    "length",
    "pattern",
    "enum",
    "finite",
    "range",
    "multiple",
    "ordered",
    "place",
    "variable_range",
    "not_future",
    "bad_share",
    "broken_share",
    "duplicate_share",
]
"""Closed list of what a rule can check; the last three look at a whole batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One column.

    Attributes:
        name: Column name.
        type: Arrow type.
        required: Whether null is refused.
        description: What the column holds, for people.
        unit: Unit of the values (UCUM-like: ``km/h``, ``m``, ``s``, ``1``), if they have one.
        crs: Reference system of a coordinate, such as ``EPSG:4326``.
        time_zone: Time zone of a timestamp.
        enum: The allowed values; empty where any value goes.
        minimum: Least allowed value (a number, or a time for timestamps).
        maximum: Greatest allowed value.
        pattern: Regular expression that the whole text must match.
        min_length: Least number of characters.
        max_length: Greatest number of characters.
        multiple_of: Step of which a number must be a multiple (0.001 = rounded to three decimals).
    """

    name: str
    type: pa.DataType
    required: bool
    description: str
    unit: str | None = None
    crs: str | None = None
    time_zone: str | None = None
    enum: tuple[str, ...] = ()
    minimum: float | datetime | None = None
    maximum: float | datetime | None = None
    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    multiple_of: float | None = None

    @property
    def physical_type(self) -> str:
        """The type as the contract file writes it."""
        return next(name for name, (arrow, _) in TYPES.items() if arrow == self.type)

    @property
    def polars_type(self) -> pl.DataType:
        """The type as Polars sees it."""
        return TYPES[self.physical_type][1]

    @property
    def arrow_field(self) -> pa.Field:
        """Arrow field with description, unit, CRS and time zone as metadata."""
        facts = {"description": self.description, "unit": self.unit, "crs": self.crs, "time_zone": self.time_zone}
        return pa.field(
            self.name,
            self.type,
            nullable=not self.required,
            metadata={key: value for key, value in facts.items() if value},
        )

    def facts(self) -> dict[str, Any]:
        """Everything a change of which changes the contract, as JSON values."""
        values: dict[str, Any] = {part.name: getattr(self, part.name) for part in fields(self)}
        values["type"] = self.physical_type
        values["enum"] = list(self.enum)
        for bound in ("minimum", "maximum"):
            if values[bound] is not None and not isinstance(values[bound], int | float):
                values[bound] = values[bound].isoformat()
        return {key: value for key, value in values.items() if value not in (None, [])}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One thing that rows, or a whole batch, must satisfy.

    Attributes:
        id: Stable name, written beside every quarantined row.
        scope: ``row`` rules judge one row, ``batch`` rules the counts of a batch.
        fields: The columns it looks at.
        description: What it demands, for people.
        severity: ``quarantine`` puts the row aside, ``hold`` keeps the whole batch out of the tables.
        check: What is checked, from the closed list :data:`Check`.
        limit: Threshold: seconds ahead of arrival for ``not_future``, a share in 0–1 for the batch rules.
    """

    id: str
    scope: Literal["row", "batch"]
    fields: tuple[str, ...]
    description: str
    severity: Literal["quarantine", "hold"]
    check: Check
    limit: float | None = None

    def facts(self) -> dict[str, Any]:
        """Everything a change of which changes the contract, as JSON values."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        values["fields"] = list(self.fields)
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """The columns, key and rules of one table.

    Attributes:
        name: Table name.
        version: Semantic version; breaking changes raise the first number.
        description: What one row is.
        fields: Columns in order.
        key: Columns that together tell rows apart; empty where equal rows are all kept.
        rules: Row rules (those that follow from the fields first), then batch rules.
        sha256: Hash of the meaning (not of the file's layout or comments), vocabulary included.
        variables: The vocabulary that a ``variable_range`` rule judges by; empty where there is none.
    """

    name: str
    version: str
    description: str
    fields: tuple[Field, ...]
    key: tuple[str, ...]
    rules: tuple[Rule, ...]
    sha256: str
    variables: tuple[Variable, ...] = ()

    @property
    def arrow_schema(self) -> pa.Schema:
        """Arrow schema; its metadata names contract, version and hash, its fields unit, CRS, zone, description."""
        return pa.schema(
            [field.arrow_field for field in self.fields],
            metadata={
                "contract": self.name,
                "version": self.version,
                "sha256": self.sha256,
                "key": json.dumps(self.key),
            },
        )

    @property
    def polars_schema(self) -> pl.Schema:
        """Polars schema: the same columns in the same order."""
        return pl.Schema({field.name: field.polars_type for field in self.fields})

    def field(self, name: str) -> Field:
        """The column called ``name``.

        Raises:
            KeyError: There is no such column.
        """
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(name)

    def rule(self, rule_id: str) -> Rule:
        """The rule called ``rule_id``.

        Raises:
            KeyError: There is no such rule.
        """
        for rule in self.rules:
            if rule.id == rule_id:
                return rule
        raise KeyError(rule_id)

    def facts(self) -> dict[str, Any]:
        """The contract as JSON values, as ``mtgpt contracts show --json`` prints it."""
        return {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "sha256": self.sha256,
            "key": list(self.key),
            "fields": [field.facts() for field in self.fields],
            "rules": [rule.facts() for rule in self.rules],
            "variables": [variable.facts() for variable in self.variables],
        }
