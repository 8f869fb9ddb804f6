"""Splits a frame into good rows, bad rows and duplicates, losing none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.contracts.coerce import FAULT, MESSAGE, RAW, ROW, SPECIAL, Typed, coerce
from mtgpt.contracts.rules import Case, type_message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mtgpt.contracts.contract import Contract

BAD_SCHEMA = pl.Schema({"row": pl.UInt64(), "rule_id": pl.String(), "message": pl.String(), "raw": pl.String()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a frame's rows; ``frame.height == good.height + bad.height + duplicates``.

    Attributes:
        good: Rows that keep the contract: exactly its Polars schema, in the frame's order.
        bad: Rows that do not, with columns row (position in the raw file, or null), rule_id (the first rule broken),
            message (got and expected, with unit) and raw (the row as JSON).
        duplicates: Good rows whose key stood earlier in the same frame; the first is kept, the others are dropped.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    duplicates: int

    def by_rule(self) -> Mapping[str, int]:
        """Number of bad rows per rule id."""
        return Counter(self.bad["rule_id"].to_list())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    frame: pl.DataFrame
    typed: Typed
    contract: Contract
    cases: Mapping[str, Case]
    constant: frozenset[str]


def judge(frame: pl.DataFrame, contract: Contract, *, received_at: datetime | None = None) -> Verdict:
    """Judges every row of a frame.

    The frame may carry the special columns ``__row`` (position in the raw file), ``__fault`` (a rule id, where the
    adapter already knows that the row is faulty), ``__message`` (what the adapter has to say about it) and ``__raw``
    (the raw row as JSON). A column that the frame lacks counts as null. A row is bad by the first rule it breaks, in
    the order: adapter's fault, type, then the contract's own order. Bad rows never count as duplicates.

    Args:
        frame: Rows of one table.
        contract: That table's contract.
        received_at: When the batch arrived, for rules against times in the future; now if not given.

    Raises:
        ContractError: A column is unknown, or its type can never fit (such as times without a zone).
    """
    # Polars 2 panics where it formats columns that are cut into pieces at different rows.
    frame = frame.rechunk()
    arrived = (received_at or datetime.now(UTC)).astimezone(UTC)
    typed = coerce(frame, contract)
    present = _present(typed.frame, contract)
    cases = {
        rule.id: Case(rule=rule, contract=contract, received_at=arrived, present=present)
        for rule in contract.rules
        if rule.scope == "row" and rule.check != "type"
    }
    trial = _Trial(
        frame=frame, typed=typed, contract=contract, cases=cases, constant=_constant_columns(typed.frame, contract)
    )
    broken = _broken_rules(trial)
    faults = FAULT in frame.columns and frame[FAULT].null_count() < frame.height
    rows, bad = typed.frame, BAD_SCHEMA.to_frame()
    if broken or typed.faults or faults:
        cause = _causes(trial, broken)
        rows, bad = rows.filter(cause.is_null()), _bad_rows(trial, cause)
    good = _first_of_key(rows, contract.key, trial.constant)
    return Verdict(good=good, bad=bad, duplicates=rows.height - good.height)


def _present(frame: pl.DataFrame, contract: Contract) -> Sequence[str]:
    for rule in contract.rules:
        if rule.check == "variable_range":
            return frame[rule.fields[0]].unique().drop_nulls().to_list()
    return ()


def _constant_columns(frame: pl.DataFrame, contract: Contract) -> frozenset[str]:
    # City, source and batch are the same in all rows of a batch: judging one row judges them all.
    texts = [field.name for field in contract.fields if field.polars_type == pl.String]
    if not frame.height or not texts:
        return frozenset()
    same = frame.select((pl.col(texts) == pl.col(texts).first()).all(ignore_nulls=False)).row(0, named=True)
    return frozenset(name for name, flag in same.items() if flag)


def _broken_rules(trial: _Trial) -> list[str]:
    rows = trial.typed.frame
    if not rows.height:
        return []
    once = [rule_id for rule_id, case in trial.cases.items() if trial.constant.issuperset(case.rule.fields)]
    rest = [rule_id for rule_id in trial.cases if rule_id not in once]
    flags: dict[str, bool | None] = {}
    for part, chosen in ((rows.head(1), once), (rows, rest)):
        if chosen:
            flags |= part.select(trial.cases[name].breaks().any().alias(name) for name in chosen).row(0, named=True)
    return [rule_id for rule_id in trial.cases if flags[rule_id]]


def _causes(trial: _Trial, broken: list[str]) -> pl.Series:
    """The first rule that each row breaks; null for good rows."""
    nothing = pl.lit(None, dtype=pl.String)
    marked = trial.typed.frame.with_columns(
        *(flag.alias(f"__{rule_id}") for rule_id, flag in trial.typed.faults.items()),
        (trial.frame[FAULT].cast(pl.String) if FAULT in trial.frame.columns else nothing).alias(FAULT),
    )
    found = [pl.col(FAULT)]
    found += [pl.when(pl.col(f"__{rule_id}")).then(pl.lit(rule_id)) for rule_id in trial.typed.faults]
    found += [pl.when(trial.cases[rule_id].breaks()).then(pl.lit(rule_id)) for rule_id in broken]
    return marked.select(pl.coalesce(found).alias("rule_id"))["rule_id"]


def _bad_rows(trial: _Trial, cause: pl.Series) -> pl.DataFrame:
    is_bad = cause.is_not_null()
    arrived = trial.frame.filter(is_bad)
    rows = trial.typed.frame.filter(is_bad)
    rule_id = cause.filter(is_bad)
    nothing = pl.repeat(None, rule_id.len(), dtype=pl.String, eager=True)
    message = arrived[MESSAGE].cast(pl.String) if MESSAGE in arrived.columns else nothing
    for name in rule_id.unique():
        said = _messages(trial, name, arrived, rows)
        message = pl.select(pl.when((rule_id == name) & message.is_null()).then(said).otherwise(message)).to_series()
    row = arrived[ROW].cast(pl.UInt64) if ROW in arrived.columns else nothing.cast(pl.UInt64)
    columns = {"row": row, "rule_id": rule_id, "message": message, "raw": _raw(arrived)}
    return pl.DataFrame(columns, schema=BAD_SCHEMA)


def _messages(trial: _Trial, rule_id: str, arrived: pl.DataFrame, rows: pl.DataFrame) -> pl.Series:
    """What the rule ``rule_id`` would say about each row."""
    case = trial.cases.get(rule_id)
    if rule_id in trial.typed.faults:
        field = trial.contract.field(rule_id.removesuffix(".type"))
        return arrived.select(type_message(field).alias("said"))["said"]
    if case is None:
        text = f"{rule_id}: found while reading the feed"
    elif case.rule.check == "required" and case.field.name not in arrived.columns:
        text = f"{case.field.name}: got no such column, expected a value"
    else:
        return rows.with_columns(case.message().alias("said"))["said"]
    return pl.repeat(text, rows.height, dtype=pl.String, eager=True)


def _raw(arrived: pl.DataFrame) -> pl.Series:
    own = arrived.drop(SPECIAL, strict=False)
    # JSON has no NaN: a column that holds one is quoted as text, so that the row can be read back as it was.
    odd = [name for name, dtype in own.schema.items() if dtype.is_float() and not own[name].is_finite().all()]
    own = own.with_columns(pl.col(odd).cast(pl.String))
    rendered = own.select(pl.struct(pl.all()).struct.json_encode().alias("raw"))["raw"]
    if RAW not in arrived.columns:
        return rendered
    return pl.select(pl.coalesce(arrived[RAW].cast(pl.String), rendered)).to_series()


def _first_of_key(rows: pl.DataFrame, key: tuple[str, ...], constant: frozenset[str]) -> pl.DataFrame:
    parts = [name for name in key if name not in constant] or list(key[:1])
    if rows.height < 2 or not parts:
        return rows
    hashes = rows.select(pl.struct(parts).hash().alias("hash"))["hash"]
    # Different hashes mean different keys; only equal hashes need the slower comparison of the keys themselves.
    if hashes.n_unique() == rows.height:
        return rows
    shared = hashes.is_duplicated()
    position = pl.int_range(rows.height, dtype=pl.UInt32, eager=True).alias("__position")
    suspects = rows.select(*parts, position).filter(shared)
    kept = suspects.unique(subset=parts, keep="first")["__position"]
    return rows.filter(~shared | position.is_in(kept.implode()))
