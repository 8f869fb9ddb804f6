"""Compiles a contract file into a :class:`~mtgpt.contracts.contract.Contract`."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

import pyarrow as pa

from mtgpt.contracts.contract import TYPES, Check, Contract, Field, Rule
from mtgpt.contracts.document import Property, Quality, Table, read_document
from mtgpt.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mtgpt.contracts.positions import Located
    from mtgpt.contracts.variables import Variable

_LOGICAL = {
    "string": ("string",),
    "integer": ("int32", "int64", "uint64"),
    "number": ("float32", "float64"),
    "date": ("date32",),
    "timestamp": ("timestamp[us, UTC]",),
}
_CUSTOM = {"unit": "unit", "crs": "crs", "timeZone": "time_zone"}
_BATCH = ("bad_share", "broken_share", "duplicate_share")
WRITTEN = ("ordered", "place", "variable_range", "not_future", *_BATCH)
"""Checks that a contract file writes out; the others follow from a column's facts."""
_COLUMNS = {"ordered": 2, "place": 2, "variable_range": 2, "not_future": 1, "bad_share": 0, "duplicate_share": 0}


def read_contract(path: Path, vocabulary: Mapping[str, Variable]) -> Contract:
    """Reads and compiles one contract file.

    Args:
        path: A ``*.odcs.yaml`` file.
        vocabulary: Variables that an observation may name.

    Raises:
        ContractError: The file is malformed; the error names ``file:line: key``, what was got, what was expected.
    """
    document, located = read_document(path)
    table = document.tables[0]
    at = ("schema", 0)
    if table.name != document.name:
        raise ContractError(
            "Contract and table differ in name",
            where=located.where((*at, "name")),
            got=table.name,
            expected=document.name,
        )
    fields = tuple(
        _field(item, located, (*at, "properties", position)) for position, item in enumerate(table.properties)
    )
    names = [field.name for field in fields]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise ContractError(
                "A column stands twice", where=located.where((*at, "properties", position, "name")), got=name
            )
    key = _key(table, located, at)
    written = tuple(_written_rules(table, names, located, (*at, "quality")))
    used: tuple[Variable, ...] = ()
    for rule in written:
        if rule.check == "variable_range":
            used = tuple(vocabulary.values())
            fields = tuple(_with_vocabulary(field, rule.fields[0], vocabulary) for field in fields)
    row_rules = [
        *(rule for field in fields for rule in _implied_rules(field)),
        *(r for r in written if r.scope == "row"),
    ]
    rules = (*row_rules, *(rule for rule in written if rule.scope == "batch"))
    ids = [rule.id for rule in rules]
    if len(set(ids)) != len(ids):
        twice = next(rule_id for rule_id in ids if ids.count(rule_id) > 1)
        raise ContractError("A rule's name stands twice", where=located.where((*at, "quality")), got=twice)
    draft = Contract(
        name=document.name,
        version=document.version,
        description=table.description,
        fields=fields,
        key=key,
        rules=rules,
        sha256="",
        variables=used,
    )
    return replace(draft, sha256=_hash(draft))


def _field(item: Property, located: Located, at: tuple[str | int, ...]) -> Field:
    allowed = _LOGICAL[item.logicalType]
    if item.physicalType not in allowed:
        raise ContractError(
            f"The physical type does not fit the logical type {item.logicalType}",
            where=located.where((*at, "physicalType")),
            got=item.physicalType,
            expected=" or ".join(allowed),
        )
    custom: dict[str, Any] = {}
    for position, extra in enumerate(item.customProperties):
        if extra.property in _CUSTOM:
            if not isinstance(extra.value, str | int):
                raise ContractError(
                    "A unit, CRS or time zone must be text",
                    where=located.where((*at, "customProperties", position, "value")),
                    got=extra.value,
                )
            custom[_CUSTOM[extra.property]] = str(extra.value)
    options = item.logicalTypeOptions
    where = (*at, "logicalTypeOptions")
    if item.logicalType == "timestamp":
        zone = custom.setdefault("time_zone", "UTC")
        if zone != "UTC" or options.defaultTimezone not in (None, "UTC", "Etc/UTC"):
            raise ContractError("The lake keeps UTC only", where=located.where(at), got=zone, expected="UTC")
    if options.pattern is not None:
        try:
            re.compile(options.pattern)
        except re.error as error:
            raise ContractError(
                "The pattern is no regular expression", where=located.where((*where, "pattern")), got=options.pattern
            ) from error
    bounds: dict[str, Any] = {
        bound: _bound(getattr(options, bound), item.logicalType, located, (*where, bound))
        for bound in ("minimum", "maximum")
    }
    return Field(
        name=item.name,
        type=TYPES[item.physicalType][0],
        required=item.required or item.primaryKey,
        description=" ".join(item.description.split()),
        enum=_enum(item.quality, located, (*at, "quality")),
        pattern=options.pattern,
        min_length=options.minLength or None,
        max_length=options.maxLength,
        multiple_of=options.multipleOf,
        **bounds,
        **custom,
    )


def _bound(value: Any, logical_type: str, located: Located, at: tuple[str | int, ...]) -> Any:
    if value is None:
        return None
    if logical_type in ("integer", "number"):
        if isinstance(value, str):
            raise ContractError("A bound must be a number", where=located.where(at), got=value, expected="a number")
        return value
    if logical_type == "timestamp" and isinstance(value, str):
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            time = None
        if time is not None and time.tzinfo is not None:
            return time.astimezone(UTC)
    raise ContractError(
        "The bound does not fit the column",
        where=located.where(at),
        got=value,
        expected='a time with zone, such as "1970-01-01T00:00:00Z"' if logical_type == "timestamp" else "no bound",
    )


def _enum(rules: Sequence[Quality], located: Located, at: tuple[str | int, ...]) -> tuple[str, ...]:
    values: tuple[str, ...] = ()
    for position, rule in enumerate(rules):
        if rule.type == "text":
            continue
        listed = (rule.arguments or {}).get("validValues")
        good = isinstance(listed, list) and bool(listed) and all(isinstance(value, str) for value in listed)
        if rule.metric != "invalidValues" or rule.mustBe != 0 or not good:
            raise ContractError(
                "A column's rule must be the closed list of its values",
                where=located.where((*at, position)),
                got=rule.metric or rule.type,
                expected="metric invalidValues with arguments.validValues (texts) and mustBe 0",
            )
        values = tuple(listed or ())
    return values


def _key(table: Table, located: Located, at: tuple[str | int, ...]) -> tuple[str, ...]:
    parts = sorted((item.primaryKeyPosition, item.name) for item in table.properties if item.primaryKey)
    positions = [position for position, _ in parts]
    if positions != list(range(1, len(parts) + 1)):
        raise ContractError(
            "The key is not numbered",
            where=located.where((*at, "properties")),
            got=positions,
            expected="primaryKeyPosition 1, 2, … on the primaryKey columns",
        )
    return tuple(name for _, name in parts)


def _written_rules(table: Table, names: list[str], located: Located, at: tuple[str | int, ...]) -> Iterator[Rule]:
    for position, item in enumerate(table.quality):
        if item.type == "text":
            continue
        where = located.where((*at, position))
        how = item.implementation or {}
        check = how.get("check")
        if item.type != "custom" or item.engine != "mtgpt" or check not in WRITTEN or check not in get_args(Check):
            raise ContractError(
                "The rule is not one that the lake knows",
                where=where,
                got=check or item.metric or item.type,
                expected=f"type custom, engine mtgpt, implementation.check one of {', '.join(WRITTEN)}",
            )
        unknown = set(how) - {"check", "fields", "limit"}
        if unknown:
            raise ContractError("There is no such key", where=where, got=min(unknown), expected="check, fields, limit")
        columns = tuple(how.get("fields") or ())
        wanted = _COLUMNS.get(check)
        if any(name not in names for name in columns) or (wanted is not None and len(columns) != wanted):
            expected = f"{wanted} columns of this table" if wanted is not None else "columns of this table"
            raise ContractError(
                "The rule's columns are off", where=where, got=", ".join(map(str, columns)), expected=expected
            )
        limit = how.get("limit")
        if check in (*_BATCH, "not_future") and not (isinstance(limit, int | float) and limit >= 0):
            raise ContractError("The rule needs a limit", where=where, got=limit, expected="a number of 0 or more")
        severity = "hold" if check in _BATCH else "quarantine"
        if not item.name or not item.description or item.severity != severity:
            raise ContractError(
                "The rule is not complete",
                where=where,
                got=f"name {item.name}, severity {item.severity}",
                expected=f"name, description and severity {severity}",
            )
        yield Rule(
            id=item.name,
            scope="batch" if check in _BATCH else "row",
            fields=columns,
            description=" ".join(item.description.split()),
            severity=severity,
            check=check,
            limit=None if limit is None else float(limit),
        )


def _with_vocabulary(field: Field, name: str, vocabulary: Mapping[str, Variable]) -> Field:
    if field.name != name:
        return field
    facts = {part: getattr(field, part) for part in Field.__slots__}
    return Field(**{**facts, "enum": tuple(vocabulary)})


def _implied_rules(field: Field) -> Iterator[Rule]:
    unit = f" {field.unit}" if field.unit and field.unit != "1" else ""
    demands: list[tuple[Check, bool, str]] = [
        ("type", True, f"is {field.physical_type}"),
        ("required", field.required, "is there"),
        ("length", field.min_length is not None or field.max_length is not None, f"has {length_text(field)}"),
        ("pattern", field.pattern is not None, f"is text like {field.pattern}"),
        ("enum", bool(field.enum), f"is one of {', '.join(field.enum)}"),
        ("finite", pa.types.is_floating(field.type), "is neither NaN nor infinite"),
        ("range", field.minimum is not None or field.maximum is not None, f"is {range_text(field)}{unit}"),
        ("multiple", field.multiple_of is not None, f"is a multiple of {field.multiple_of}"),
    ]
    for check, applies, text in demands:
        if applies:
            yield Rule(
                id=f"{field.name}.{check}",
                scope="row",
                fields=(field.name,),
                description=f"{field.name} {text}.",
                severity="quarantine",
                check=check,
            )


def range_text(field: Field) -> str:
    """The allowed range of a field in words, without the unit."""
    low, high = (_number(bound) for bound in (field.minimum, field.maximum))
    if low and high:
        return f"{low} to {high}"
    return f"at least {low}" if low else f"at most {high}"


def length_text(field: Field) -> str:
    """The allowed length of a text in words."""
    low, high = field.min_length or 0, field.max_length
    return f"{low} to {high} characters" if high is not None else f"at least {low} characters"


def _number(bound: Any) -> str:
    if bound is None:
        return ""
    return f"{bound:%Y-%m-%dT%H:%M:%SZ}" if isinstance(bound, datetime) else f"{bound:.10g}"


def _hash(draft: Contract) -> str:
    # Over the meaning, not the bytes: a comment or another layout is the same contract.
    text = json.dumps(draft.facts(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
