"""Batch rules: when a whole batch is kept out of the tables.

A batch is judged on counts, so the lake can add up the verdicts of many chunks. What counts as broken:

* ``bad_share``: more than 5 % of all rows of the batch, tables together, are bad. What an adapter found counts too.
* ``broken_share``: more than 5 % of *one table's* rows break a rule whose columns are all key or time columns. It sees
  what the first rule cannot: 60 spots without an id beside a million good observations. Real feeds have a few stray
  years (New York's green taxis: a handful per hundred thousand), so a single bad time quarantines its row only; a
  shifted column or a wrong zone breaks nearly all rows, and holds the batch. A key column that is missing altogether
  reads as null in every row, and holds it too.
* ``duplicate_share``: more than half of one table's rows repeat a key *of the same batch*, so the key does not tell
  rows apart. Fewer repetitions are what at-least-once delivery looks like; rows that the lake already has from earlier
  batches are no fault at all and must not be counted here. Spots and links have no such rule: a feed that describes
  the same station beside each of its trips says nothing wrong.

The limits stand in the contract files.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mtgpt.contracts.contract import Contract, Rule
    from mtgpt.contracts.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of the rows of one table, over one or many verdicts.

    Attributes:
        table: Table name.
        rows: Rows judged; equals good + bad + duplicates.
        bad: Rows that broke a rule.
        duplicates: Rows that repeat a key of the same batch.
        by_rule: Number of bad rows per rule id.
    """

    table: str
    rows: int = 0
    bad: int = 0
    duplicates: int = 0
    by_rule: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, table: str, verdict: Verdict) -> Counts:
        """Counts one verdict."""
        bad = verdict.bad.height
        return cls(
            table=table,
            rows=verdict.good.height + bad + verdict.duplicates,
            bad=bad,
            duplicates=verdict.duplicates,
            by_rule=verdict.by_rule(),
        )

    @property
    def good(self) -> int:
        """Rows that kept the contract."""
        return self.rows - self.bad - self.duplicates

    def __add__(self, other: Counts) -> Counts:
        if other.table != self.table:
            raise ValueError(f"counts of {self.table} and {other.table} do not add up")
        return Counts(
            table=self.table,
            rows=self.rows + other.rows,
            bad=self.bad + other.bad,
            duplicates=self.duplicates + other.duplicates,
            by_rule=Counter(self.by_rule) + Counter(other.by_rule),
        )


def hold_reason(counts: Iterable[Counts], contracts: Mapping[str, Contract]) -> str | None:
    """Why a batch must be held, or None where it may land.

    Args:
        counts: Counts of all tables of the batch; several of one table are added up.
        contracts: Contracts by table name, at least of the tables counted.

    Returns:
        One sentence for the ledger: the rule broken, the share met, the share allowed.
    """
    tables: dict[str, Counts] = {}
    for part in counts:
        tables[part.table] = tables[part.table] + part if part.table in tables else part
    for table in tables.values():
        contract = contracts[table.table]
        for rule in contract.rules:
            reason = None
            if rule.check == "broken_share":
                reason = _broken(table, contract, rule)
            elif rule.check == "duplicate_share" and _above(table.duplicates, table.rows, rule):
                share = _share(table.duplicates, table.rows)
                reason = f"{share} rows of {table.table} repeat the key {', '.join(contract.key)}"
            if reason:
                return f"{rule.id}: {reason} ({_allowed(rule)})"
    rows = sum(table.rows for table in tables.values())
    bad = sum(table.bad for table in tables.values())
    rules = [rule for name in tables for rule in contracts[name].rules if rule.check == "bad_share"]
    if rules and _above(bad, rows, strictest := min(rules, key=lambda rule: rule.limit or 0.0)):
        most = Counter[str]()
        for table in tables.values():
            most.update({f"{table.table} {rule_id}": number for rule_id, number in table.by_rule.items()})
        (name, number), *_ = most.most_common(1)
        return f"{strictest.id}: {_share(bad, rows)} rows are bad, {number} of them by {name} ({_allowed(strictest)})"
    return None


def _broken(table: Counts, contract: Contract, rule: Rule) -> str | None:
    watched = set(rule.fields)
    ids = {r.id for r in contract.rules if r.scope == "row" and watched.issuperset(r.fields)}
    broken = {rule_id: number for rule_id, number in table.by_rule.items() if rule_id in ids}
    if not _above(sum(broken.values()), table.rows, rule):
        return None
    most = max(broken, key=lambda rule_id: broken[rule_id])
    share = _share(sum(broken.values()), table.rows)
    return f"{share} rows of {table.table} break the key or time rules, most often {most}"


def _above(part: int, whole: int, rule: Rule) -> bool:
    return whole > 0 and part / whole > (rule.limit or 0.0)


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.1f} %)"


def _allowed(rule: Rule) -> str:
    return f"at most {100 * (rule.limit or 0.0):g} % allowed"
