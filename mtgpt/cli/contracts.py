"""``mtgpt contracts``: what the lake's tables promise, and whether a file keeps the promise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from mtgpt.cli.show import emit, rows_table
from mtgpt.errors import NotFound, UsageError
from mtgpt.settings import settings

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mtgpt.contracts.breaking import Comparison
    from mtgpt.contracts.contract import Contract

app = typer.Typer(
    no_args_is_help=True,
    help="""What the lake's tables promise, and whether a file keeps the promise.

    A contract is one file of data_contracts in the Open Data Contract Standard: columns with types, units, reference
    systems and ranges, the key, and rules. Every row that enters the lake is judged by it; a row that breaks a rule
    is quarantined with the rule's id, and a batch that breaks too many is held.""",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
_SHOWN = 20


@app.command("list", epilog="Example: mtgpt contracts list")
def list_contracts(as_json: Json = False) -> None:
    """Lists the contracts: table, version, key, number of columns and rules."""
    from mtgpt.contracts.registry import contracts

    rows = [
        {
            "name": one.name,
            "version": one.version,
            "columns": len(one.fields),
            "rules": len(one.rules),
            "key": list(one.key),
            "description": one.description,
            "sha256": one.sha256,
        }
        for one in contracts().values()
    ]
    columns = ["name", "version", "columns", "rules", "key", "description"]
    shown = [{**row, "key": ", ".join(row["key"])} for row in rows]
    emit(
        rows,
        as_json=as_json,
        table=lambda: rows_table(shown, columns, caption="One of them in full: mtgpt contracts show NAME"),
    )


@app.command(epilog="Example: mtgpt contracts show observation")
def show(
    name: Annotated[str, typer.Argument(help="Table, such as observation; variables for the vocabulary.")],
    as_json: Json = False,
) -> None:
    """Shows a contract: its columns with units and ranges, its key, its rules and what each rule does."""
    from mtgpt.contracts.registry import contract
    from mtgpt.contracts.variables import variables

    if name == "variables":
        rows = [one.facts() for one in variables().values()]
        columns = ["name", "unit", "minimum", "maximum", "aggregate", "counted", "description"]
        emit(rows, as_json=as_json, table=lambda: rows_table(rows, columns))
        return
    one = contract(name)
    emit(one.facts(), as_json=as_json, table=lambda: _contract_tables(one))


@app.command(
    epilog="Examples: mtgpt contracts check data_contracts/trip.odcs.yaml · mtgpt contracts check --contract trip a.csv"
)
def check(
    file: Annotated[Path, typer.Argument(help="A contract (.yaml), or data (.csv, .csv.gz, .parquet, .jsonl).")],
    name: Annotated[str | None, typer.Option("--contract", help="Contract to judge a data file by.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail on a single bad row, not only on a held batch.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Checks a contract file, or judges a data file by a contract.

    A contract file: errors name file, line, key, what was got and what was expected.

    A data file: prints how many rows are good, bad and duplicate (within a million rows), which rules were broken with
    examples, and whether the lake would hold the batch. A column that the file lacks reads as null. Exits with 1 where
    the batch would be held, or with --strict where any row is bad.
    """
    if not file.is_file():
        raise NotFound("There is no such file", where="FILE", got=str(file))
    if file.suffix in (".yaml", ".yml"):
        if name is not None:
            raise UsageError("A contract file is not judged by another contract", where="--contract", got=name)
        _check_contract(file, as_json=as_json)
        return
    if name is None:
        raise UsageError(
            "A data file needs a contract",
            where="--contract",
            expected="the name of a table",
            next_step="run mtgpt contracts list to see them",
        )
    _check_data(file, name, strict=strict, as_json=as_json)


@app.command(epilog="Example: mtgpt contracts diff observation")
def diff(
    name: Annotated[str | None, typer.Argument(help="Contract, or variables; all if left out.")] = None,
    as_json: Json = False,
) -> None:
    """Compares contracts with their last release and refuses a breaking change.

    Breaking: a column, a value or a variable removed or renamed, a narrower type, a new required column or rule, a
    tighter range, another key, unit, reference system or time zone. It needs a new major version; what old readers
    and old feeds do not notice needs a new minor one; other words a new patch. Exits with 1 where the version was not
    raised enough. To release: copy the contract to data_contracts/released/NAME-VERSION.odcs.yaml.
    """
    from mtgpt.contracts.breaking import compare_with_release, compare_with_releases

    folder = settings().contracts
    chosen = list(compare_with_releases(folder).values()) if name is None else [compare_with_release(folder, name)]
    rows = [
        {
            "name": one.name,
            "released": one.released,
            "current": one.current,
            "needed": one.needed,
            "problem": None if one.problem is None else one.problem.as_dict(),
            "changes": list(one.changes),
        }
        for one in chosen
    ]
    emit(rows, as_json=as_json, table=lambda: _diff_tables(chosen))
    problems = [one.problem for one in chosen if one.problem is not None]
    if problems:
        raise problems[0]


def _check_contract(file: Path, *, as_json: bool) -> None:
    from mtgpt.contracts.compile import read_contract
    from mtgpt.contracts.variables import FILE, read_vocabulary, variables

    # A contract's own folder may bring a vocabulary of its own.
    beside = file.parent / FILE
    if file.name == FILE:
        known = read_vocabulary(file)
        emit(
            {"file": file, "kind": "vocabulary", "version": known.version, "variables": len(known.variables)},
            as_json=as_json,
            table=lambda: _line(f"{file}: a vocabulary, version {known.version}, {len(known.variables)} variables."),
        )
        return
    one = read_contract(file, read_vocabulary(beside).variables if beside.is_file() else variables())
    counted = f"{len(one.fields)} columns, {len(one.rules)} rules"
    emit(
        {"file": file, "kind": "contract", **one.facts()},
        as_json=as_json,
        table=lambda: _line(f"{file}: a contract, {one.name} version {one.version}, {counted}."),
    )


def _check_data(file: Path, name: str, *, strict: bool, as_json: bool) -> None:
    from mtgpt.contracts.datafile import read_chunks
    from mtgpt.contracts.hold import Counts, hold_reason
    from mtgpt.contracts.registry import contracts
    from mtgpt.contracts.verdict import judge

    known = contracts()
    if name not in known:
        raise NotFound("There is no such contract", where="--contract", got=name, expected=", ".join(known))
    total = Counts(table=name)
    examples: list[dict[str, Any]] = []
    seen: set[str] = set()
    for chunk in read_chunks(file):
        verdict = judge(chunk, known[name])
        total += Counts.of(name, verdict)
        for row in verdict.bad.unique("rule_id", keep="first", maintain_order=True).to_dicts():
            if row["rule_id"] not in seen:
                seen.add(row["rule_id"])
                examples.append(row)
    held = hold_reason([total], known)
    answer = {
        "file": file,
        "contract": name,
        "version": known[name].version,
        "rows": total.rows,
        "good": total.good,
        "bad": total.bad,
        "duplicates": total.duplicates,
        "by_rule": dict(total.by_rule),
        "examples": examples,
        "held": held,
    }
    emit(answer, as_json=as_json, table=lambda: _verdict_tables(answer))
    if held is not None or (strict and total.bad):
        raise typer.Exit(1)


def _verdict_tables(answer: dict[str, Any]) -> RenderableType:
    counts = ", ".join(f"{answer[part]:,} {part}" for part in ("good", "bad", "duplicates"))
    parts: list[RenderableType] = [
        _line(f"{answer['file']}: {answer['rows']:,} rows by {answer['contract']} {answer['version']}: {counts}.")
    ]
    if answer["examples"]:
        rows = [
            {
                "rule": one["rule_id"],
                "rows": answer["by_rule"][one["rule_id"]],
                "first": one["row"],
                "says": one["message"],
            }
            for one in answer["examples"]
        ]
        rows.sort(key=lambda row: -row["rows"])
        parts.append(rows_table(rows[:_SHOWN], ["rule", "rows", "first", "says"]))
    parts.append(
        Text(f"The lake would hold this batch: {answer['held']}." if answer["held"] else "The batch may land.")
    )
    return Group(*parts)


def _contract_tables(one: Contract) -> RenderableType:
    columns = [
        {
            "column": field.name,
            "type": "time" if field.time_zone else field.physical_type,
            "unit": " ".join(part for part in (field.unit, field.crs, field.time_zone) if part),
            "": f"key {one.key.index(field.name) + 1}"
            if field.name in one.key
            else "required"
            if field.required
            else "optional",
            "holds": "\n".join(part for part in (field.description, _allowed(one, field.name)) if part),
        }
        for field in one.fields
    ]
    from mtgpt.contracts.compile import WRITTEN

    rules = [
        {"rule": rule.id, "breaking it": _consequence(rule.severity), "demands": rule.description}
        for rule in one.rules
        if rule.check in WRITTEN
    ]
    parts: list[RenderableType] = [
        _line(f"{one.name} {one.version} · {one.description}"),
        _line(f"sha256 {one.sha256}"),
        Text(),
        rows_table(columns, ["column", "type", "unit", "", "holds"]),
        Text(),
    ]
    caption = (
        "A row is also quarantined by COLUMN.type, .required, .length, .pattern, .enum, .finite, .range, .multiple."
    )
    if rules:
        parts.append(rows_table(rules, ["rule", "breaking it", "demands"], caption=caption))
    return Group(*parts)


def _allowed(one: Contract, name: str) -> str:
    if any(rule.check == "variable_range" and rule.fields[0] == name for rule in one.rules):
        return "Allowed: mtgpt contracts show variables"
    implied = [rule for rule in one.rules if rule.id in (f"{name}.enum", f"{name}.range", f"{name}.pattern")]
    texts = [rule.description.removeprefix(f"{name} is ").removesuffix(".") for rule in implied]
    # Every time is since 1970: saying so in each line would only hide what differs.
    texts = [text for text in texts if not text.startswith("at least 1970-01-01T")]
    return f"Allowed: {'; '.join(texts)}" if texts else ""


def _line(text: str) -> Text:
    return Text(text, overflow="fold")


def _consequence(severity: str) -> str:
    return "quarantines the row" if severity == "quarantine" else "holds the batch"


def _diff_tables(chosen: list[Comparison]) -> RenderableType:
    parts: list[RenderableType] = []
    for one in chosen:
        state = f"needs a {one.needed} version" if one.needed else "nothing changed"
        parts.append(Text(f"{one.name}: {one.released or 'never released'} → {one.current}, {state}."))
        if one.changes:
            rows = [
                {
                    "where": change.where,
                    "change": change.what,
                    "was": change.old,
                    "is": change.new,
                    "breaks": "yes" if change.level == "major" else "",
                }
                for change in one.changes
            ]
            parts.append(rows_table(rows, ["where", "change", "was", "is", "breaks"]))
    return Group(*parts)
