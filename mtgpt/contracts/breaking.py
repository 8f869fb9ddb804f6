"""Compares two versions of a contract and says which changes break those who rely on the old one.

The promise is kept from both sides: a reader finds every column, type, unit and key as before, and a row that an
adapter could land yesterday still lands today. A change that breaks one of the two must raise the first number of the
version, any other change of meaning the second, a change of wording the third.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from mtgpt.contracts.compile import WRITTEN, read_contract
from mtgpt.contracts.document import VERSION
from mtgpt.contracts.registry import SUFFIX, contracts
from mtgpt.contracts.variables import FILE, Vocabulary, read_vocabulary
from mtgpt.errors import ContractError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mtgpt.contracts.contract import Contract, Field

Level = Literal["major", "minor", "patch"]
_ORDER: Mapping[str, int] = {"patch": 1, "minor": 2, "major": 3}
_WIDER = {("int32", "int64"), ("int32", "float64"), ("float32", "float64")}
RELEASED = "released"
VARIABLES = "variables"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference between two versions.

    Attributes:
        where: Column, rule or variable.
        what: What changed, in words.
        old: What it was.
        new: What it is.
        level: The part of the version that it must raise; ``major`` is a breaking change.
    """

    where: str
    what: str
    old: Any
    new: Any
    level: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The current version of a contract (or of the vocabulary) against its last release.

    Attributes:
        name: Contract name, or ``variables``.
        released: Version of the last release; None where there is none yet.
        current: Version that the file declares.
        changes: All differences.
    """

    name: str
    released: str | None
    current: str
    changes: tuple[Change, ...]

    @property
    def needed(self) -> Level | None:
        """The part of the version that must be raised; None where nothing changed."""
        return max((change.level for change in self.changes), key=_ORDER.__getitem__, default=None)

    @property
    def problem(self) -> ContractError | None:
        """Why this version must not be released, or None."""
        if self.released is None:
            return ContractError(
                "The contract was never released",
                where=self.name,
                got=f"version {self.current}",
                expected=f"a snapshot {RELEASED}/{snapshot_name(self.name, self.current)}",
                next_step=f"copy the contract file there once version {self.current} is final",
            )
        raised = _raised(self.released, self.current)
        if self.needed is None and raised in (None, "patch", "minor", "major"):
            return None
        if self.needed is not None and raised not in (None, "lowered") and _ORDER[raised] >= _ORDER[self.needed]:
            return None
        worst = next((change for change in self.changes if change.level == self.needed), None)
        kind = {"major": "A breaking change", "minor": "A compatible change", "patch": "A change of wording"}
        return ContractError(
            f"{kind[self.needed]} needs a new {self.needed} version" if self.needed else "The version went backwards",
            where=f"{self.name} {worst.where}" if worst else self.name,
            got=f"{worst.what}, from {worst.old} to {worst.new}, in version {self.current}" if worst else self.current,
            expected=f"version {next_version(self.released, self.needed or 'patch')} or later",
            next_step="raise the version, or take the change back",
        )


def compare(old: Contract, new: Contract) -> tuple[Change, ...]:
    """All differences between two versions of a contract, breaking ones first."""
    changes = [*_columns(old, new), *_rules(old, new)]
    if old.key != new.key:
        changes.append(_change("key", "the key changed", ", ".join(old.key), ", ".join(new.key), "major"))
    if old.description != new.description:
        changes.append(_change(new.name, "other words", old.description, new.description, "patch"))
    return tuple(sorted(changes, key=lambda change: -_ORDER[change.level]))


def compare_vocabularies(old: Vocabulary, new: Vocabulary) -> tuple[Change, ...]:
    """All differences between two versions of the vocabulary, breaking ones first."""
    changes = []
    for name, was in old.variables.items():
        now = new.variables.get(name)
        if now is None:
            changes.append(_change(name, "the variable is gone", name, None, "major"))
            continue
        changes += [
            _change(name, f"{part} changed", getattr(was, part), getattr(now, part), "major")
            for part in ("unit", "aggregate", "counted")
            if getattr(was, part) != getattr(now, part)
        ]
        changes += _range(name, (was.minimum, was.maximum), (now.minimum, now.maximum))
        if was.description != now.description:
            changes.append(_change(name, "other words", was.description, now.description, "patch"))
    changes += [
        _change(name, "a new variable", None, name, "minor") for name in new.variables if name not in old.variables
    ]
    return tuple(sorted(changes, key=lambda change: -_ORDER[change.level]))


def compare_with_releases(folder: Path) -> dict[str, Comparison]:
    """Compares every contract of a folder, and its vocabulary, with the last release.

    Args:
        folder: Folder of contracts, with the snapshots in its subfolder ``released``.

    Raises:
        ContractError: A contract or snapshot is malformed.
        NotFound: A released contract is not in the folder any more.
    """
    names = [*contracts(folder), VARIABLES]
    gone = sorted({name for name, _, _ in _snapshots(folder / RELEASED)} - set(names))
    if gone:
        raise NotFound("A released contract is gone", where=folder, got=", ".join(gone), expected=", ".join(names))
    return {name: compare_with_release(folder, name) for name in names}


def compare_with_release(folder: Path, name: str) -> Comparison:
    """Compares one contract, or the vocabulary under the name ``variables``, with its last release.

    Raises:
        ContractError: The contract or its snapshot is malformed.
        NotFound: There is no contract of this name.
    """
    vocabulary = read_vocabulary(folder / FILE)
    release = _last_release(folder / RELEASED, name)
    changes: tuple[Change, ...] = ()
    if name == VARIABLES:
        current: Vocabulary | Contract = vocabulary
        if release is not None:
            old_vocabulary = read_vocabulary(release[1])
            _same_version(release, old_vocabulary.version)
            changes = compare_vocabularies(old_vocabulary, vocabulary)
    else:
        path = folder / f"{name}{SUFFIX}"
        if not path.is_file():
            raise NotFound("There is no such contract", where=folder, got=name, expected=", ".join(contracts(folder)))
        current = read_contract(path, vocabulary.variables)
        if release is not None:
            # Against the same vocabulary: its own changes are reported once, under its own name.
            old = read_contract(release[1], vocabulary.variables)
            _same_version(release, old.version)
            changes = compare(old, current)
    return Comparison(
        name=name, released=None if release is None else release[0], current=current.version, changes=changes
    )


def snapshot_name(name: str, version: str) -> str:
    """File name of a released snapshot."""
    return f"{name}-{version}.yaml" if name == VARIABLES else f"{name}-{version}{SUFFIX}"


def next_version(version: str, level: Level) -> str:
    """The version after ``version`` with ``level`` raised."""
    major, minor, patch = _numbers(version)
    return {
        "major": f"{major + 1}.0.0",
        "minor": f"{major}.{minor + 1}.0",
        "patch": f"{major}.{minor}.{patch + 1}",
    }[level]


def _change(where: str, what: str, old: Any, new: Any, level: Level) -> Change:
    return Change(where=where, what=what, old=old, new=new, level=level)


def _columns(old: Contract, new: Contract) -> Iterator[Change]:
    now = {field.name: field for field in new.fields}
    was = {field.name: field for field in old.fields}
    added = [name for name in now if name not in was]
    for name, field in was.items():
        if name in now:
            yield from _column(field, now[name])
            continue
        alike = next((other for other in added if now[other].description == field.description), None)
        yield _change(name, "the column was renamed" if alike else "the column is gone", name, alike, "major")
    for name in added:
        level: Level = "major" if now[name].required else "minor"
        yield _change(name, f"a new {'required' if now[name].required else 'optional'} column", None, name, level)
    kept = [name for name in was if name in now]
    if kept != [name for name in now if name in was]:
        yield _change(new.name, "the columns stand in another order", ", ".join(kept), ", ".join(now), "minor")


def _column(was: Field, now: Field) -> Iterator[Change]:
    name = was.name
    if was.type != now.type:
        wider = (was.physical_type, now.physical_type) in _WIDER
        what = "a wider type" if wider else "another or narrower type"
        yield _change(name, what, was.physical_type, now.physical_type, "minor" if wider else "major")
    if was.required != now.required:
        what = "the column became required" if now.required else "the column became optional"
        yield _change(name, what, was.required, now.required, "major" if now.required else "minor")
    for part, what in (("unit", "unit"), ("crs", "reference system"), ("time_zone", "time zone")):
        if getattr(was, part) != getattr(now, part):
            yield _change(name, f"the {what} changed", getattr(was, part), getattr(now, part), "major")
    yield from _values(was, now)
    yield from _range(name, (was.minimum, was.maximum), (now.minimum, now.maximum))
    yield from _range(name, (was.min_length, was.max_length), (now.min_length, now.max_length), what="length")
    for part, what in (("pattern", "pattern"), ("multiple_of", "step")):
        before, after = getattr(was, part), getattr(now, part)
        if before != after:
            # Whether one pattern allows all that another did cannot be decided in general.
            yield _change(name, f"the {what} changed", before, after, "minor" if after is None else "major")
    if was.description != now.description:
        yield _change(name, "other words", was.description, now.description, "patch")


def _values(was: Field, now: Field) -> Iterator[Change]:
    if was.enum == now.enum:
        return
    gone = [value for value in was.enum if value not in now.enum]
    if now.enum and (gone or not was.enum):
        old = ", ".join(gone) or "any value"
        yield _change(was.name, "values are not allowed any more", old, ", ".join(now.enum), "major")
    else:
        more = [value for value in now.enum if value not in was.enum]
        yield _change(was.name, "more values are allowed", ", ".join(was.enum), ", ".join(more) or "any", "minor")


def _range(name: str, was: tuple[Any, Any], now: tuple[Any, Any], *, what: str = "range") -> Iterator[Change]:
    low, high = (_bounds(bounds) for bounds in (was, now))
    if low == high:
        return
    tighter = high[0] > low[0] or high[1] < low[1]
    before, after = (" to ".join("…" if bound is None else str(bound) for bound in bounds) for bounds in (was, now))
    yield _change(name, f"a {'tighter' if tighter else 'wider'} {what}", before, after, "major" if tighter else "minor")


def _bounds(bounds: tuple[Any, Any]) -> tuple[float, float]:
    numbers = [bound.astimezone(UTC).timestamp() if isinstance(bound, datetime) else bound for bound in bounds]
    return (
        -math.inf if numbers[0] is None else float(numbers[0]),
        math.inf if numbers[1] is None else float(numbers[1]),
    )


def _rules(old: Contract, new: Contract) -> Iterator[Change]:
    # Rules that follow from a column's facts are compared with the columns.
    was, now = ({rule.id: rule for rule in contract.rules if rule.check in WRITTEN} for contract in (old, new))
    for rule_id, rule in was.items():
        if rule_id not in now:
            yield _change(rule_id, "the rule is gone", rule.description, None, "minor")
            continue
        other = now[rule_id]
        if (rule.check, rule.fields) != (other.check, other.fields):
            yield _change(rule_id, "the rule checks something else", rule.description, other.description, "major")
        elif rule.limit != other.limit:
            tighter = (other.limit or 0.0) < (rule.limit or 0.0)
            what = f"a {'tighter' if tighter else 'wider'} limit"
            yield _change(rule_id, what, rule.limit, other.limit, "major" if tighter else "minor")
        if rule.description != other.description:
            yield _change(rule_id, "other words", rule.description, other.description, "patch")
    for rule_id, rule in now.items():
        if rule_id not in was:
            yield _change(rule_id, "a new rule", None, rule.description, "major")


def _numbers(version: str) -> tuple[int, int, int]:
    major, minor, patch = (int(part) for part in version.split("."))
    return major, minor, patch


def _raised(old: str, new: str) -> Literal["major", "minor", "patch", "lowered"] | None:
    was, now = _numbers(old), _numbers(new)
    if now < was:
        return "lowered"
    levels: tuple[Level, ...] = ("major", "minor", "patch")
    return next((level for level, before, after in zip(levels, was, now, strict=True) if after != before), None)


def _same_version(release: tuple[str, Path], version: str) -> None:
    if version != release[0]:
        raise ContractError("The snapshot's name lies", where=release[1], got=version, expected=release[0])


def _snapshots(folder: Path) -> Iterator[tuple[str, str, Path]]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        found = re.fullmatch(r"([a-z][a-z0-9_]*)-([0-9.]+)(\.odcs)?\.yaml", path.name)
        if found is None or not re.match(VERSION, found[2]) or snapshot_name(found[1], found[2]) != path.name:
            raise ContractError(
                "The file is no snapshot",
                where=path,
                got=path.name,
                expected=f"a name like {snapshot_name('spot', '1.0.0')}",
            )
        yield found[1], found[2], path


def _last_release(folder: Path, name: str) -> tuple[str, Path] | None:
    found = [(_numbers(version), version, path) for known, version, path in _snapshots(folder) if known == name]
    if not found:
        return None
    _, version, path = max(found)
    return version, path
