"""Splits a frame into good rows, bad rows and duplicates, losing none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from mtgpt.contracts.coerce import FAULT, MESSAGE, RAW, ROW, SPECIAL, Typed, coerce
from mtgpt.contracts.rules import breaks, message, type_message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mtgpt.contracts.contract import Contract, Rule

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
    arrived = (received_at or datetime.now(UTC)).astimezone(UTC)
    typed = coerce(frame, contract)
    constant = _constant_columns(typed.frame, contract)
    broken = _broken_rules(typed, contract, constant, arrived)
    faults = FAULT in frame.columns and frame[FAULT].null_count() < frame.height
    if not broken and not typed.faults and not faults:
        good, duplicates = _without_duplicates(typed.frame, contract.key, constant)
        return Verdict(good=good, bad=BAD_SCHEMA.to_frame(), duplicates=duplicates)
    cause = _causes(frame, typed, contract, broken, arrived)
    is_bad = cause.is_not_null()
    bad = _render(frame, typed, contract, cause, is_bad, arrived)
    good, duplicates = _without_duplicates(typed.frame.filter(~is_bad), contract.key, constant)
    return Verdict(good=good, bad=bad, duplicates=duplicates)


def _row_rules(contract: Contract) -> list[Rule]:
    return [rule for rule in contract.rules if rule.scope == "row" and rule.check != "type"]


def _constant_columns(frame: pl.DataFrame, contract: Contract) -> frozenset[str]:
    # City, source and batch are the same in all rows of a batch: judging one row judges them all.
    texts = [field.name for field in contract.fields if field.polars_type == pl.String]
    if not frame.height or not texts:
        return frozenset()
    same = frame.select((pl.col(texts) == pl.col(texts).first()).all(ignore_nulls=False)).row(0, named=True)
    return frozenset(name for name, flag in same.items() if flag)


def _broken_rules(typed: Typed, contract: Contract, constant: frozenset[str], received_at: datetime) -> list[Rule]:
    frame = typed.frame
    if not frame.height:
        return []
    present = _present(frame, contract)
    rules = {
        rule.id: (rule, breaks(rule, contract, received_at=received_at, present=present))
        for rule in _row_rules(contract)
    }
    once = {rule_id for rule_id, (rule, _) in rules.items() if constant.issuperset(rule.fields)}
    flags: dict[str, bool | None] = {}
    for part, chosen in ((frame.head(1), once), (frame, rules.keys() - once)):
        if chosen:
            flags |= part.select(rules[rule_id][1].any().alias(rule_id) for rule_id in chosen).row(0, named=True)
    return [rule for rule_id, (rule, _) in rules.items() if flags[rule_id]]


def _present(frame: pl.DataFrame, contract: Contract) -> Sequence[str]:
    for rule in contract.rules:
        if rule.check == "variable_range":
            return frame[rule.fields[0]].unique().drop_nulls().to_list()
    return ()


def _causes(
    frame: pl.DataFrame, typed: Typed, contract: Contract, broken: list[Rule], received_at: datetime
) -> pl.Series:
    """The first rule that each row breaks; null for good rows."""
    present = _present(typed.frame, contract)
    marked = typed.frame.with_columns(
        *(flag.alias(f"__{rule_id}") for rule_id, flag in typed.faults.items()),
        (frame[FAULT].cast(pl.String) if FAULT in frame.columns else pl.lit(None, dtype=pl.String)).alias(FAULT),
    )
    found = [pl.col(FAULT)]
    found += [pl.when(pl.col(f"__{rule_id}")).then(pl.lit(rule_id)) for rule_id in typed.faults]
    found += [
        pl.when(breaks(rule, contract, received_at=received_at, present=present)).then(pl.lit(rule.id))
        for rule in broken
    ]
    return marked.select(pl.coalesce(found).alias("cause"))["cause"]


def _render(
    frame: pl.DataFrame, typed: Typed, contract: Contract, cause: pl.Series, is_bad: pl.Series, received_at: datetime
) -> pl.DataFrame:
    arrived = frame.filter(is_bad)
    values = typed.frame.filter(is_bad)
    rule_id = cause.filter(is_bad).alias("rule_id")
    said = pl.Series("message", [None], dtype=pl.String).new_from_index(0, rule_id.len())
    if MESSAGE in frame.columns:
        said = arrived[MESSAGE].cast(pl.String).alias("message")
    ids = rule_id.unique().to_list()
    for rule in contract.rules:
        if rule.id not in ids:
            continue
        field = contract.field(rule.fields[0])
        if rule.check == "type":
            text = (
                arrived.select(type_message(field, pl.col(field.name)).alias("m"))["m"]
                if field.name in frame.columns
                else None
            )
        elif rule.check == "required" and field.name not in frame.columns:
            text = pl.Series("m", [f"{field.name}: got no such column, expected a value"] * rule_id.len())
        else:
            text = values.with_columns(message(rule, contract, received_at=received_at).alias("m"))["m"]
        if text is not None:
            said = pl.select(
                pl.when((rule_id == rule.id) & said.is_null()).then(text).otherwise(said).alias("message")
            )["message"]
    # What an adapter found without saying more.
    said = said.to_frame().select(
        pl.col("message").fill_null(pl.format("{}: found while reading the feed", pl.lit(rule_id)))
    )["message"]
    raw = _raw(arrived)
    row = (
        arrived[ROW].cast(pl.UInt64)
        if ROW in frame.columns
        else pl.Series(values=[None] * rule_id.len(), dtype=pl.UInt64)
    )
    return pl.DataFrame([row.alias("row"), rule_id, said, raw.alias("raw")], schema=BAD_SCHEMA)


def _raw(arrived: pl.DataFrame) -> pl.Series:
    own = arrived.drop(SPECIAL, strict=False)
    # JSON has no NaN: a column that holds one is quoted as text, so that the row can be read back as it was.
    odd = [name for name, dtype in own.schema.items() if dtype.is_float() and not own[name].is_finite().all()]
    own = own.with_columns(pl.col(odd).cast(pl.String))
    rendered = own.select(pl.struct(pl.all()).struct.json_encode().alias("raw"))["raw"]
    if RAW in arrived.columns:
        given = arrived[RAW].cast(pl.String)
        return pl.select(pl.coalesce(given, rendered).alias("raw"))["raw"]
    return rendered


def _without_duplicates(
    frame: pl.DataFrame, key: tuple[str, ...], constant: frozenset[str]
) -> tuple[pl.DataFrame, int]:
    parts = [name for name in key if name not in constant] or list(key[:1])
    if frame.height < 2 or not parts:
        return frame, 0
    hashes = frame.select(pl.struct(parts).hash() if len(parts) > 1 else pl.col(parts[0]))
    if hashes.to_series().n_unique() == frame.height:
        # Different hashes mean different keys; only equal hashes need the slower comparison of the keys themselves.
        return frame, 0
    kept = frame.unique(subset=parts, keep="first", maintain_order=True)
    return kept, frame.height - kept.height
