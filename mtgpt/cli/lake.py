"""``mtgpt lake``: what the lake holds, what it refused, and how to try again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from mtgpt.cli.ledger import SHORT, SUPERSEDED, Line, ledger_table, results_table, suspect_text
from mtgpt.cli.show import emit, progress, rows_table
from mtgpt.errors import LakeError, UsageError
from mtgpt.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl
    from rich.console import RenderableType

    from mtgpt.lake.batch import BatchResult
    from mtgpt.lake.lake import Lake
    from mtgpt.lake.status import LakeStatus

app = typer.Typer(
    no_args_is_help=True,
    help="""What the lake holds, what it refused, and how to try again.

    Raw files lie in bronze by their hash; rows lie in Delta tables, one per contract; the table batch is the ledger.
    Every version of a table stays readable until someone vacuums it.""",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
City = Annotated[str | None, typer.Option(help="Only this city.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many rows.")]


@app.command(epilog="Example: mtgpt lake status")
def status(
    city: City = None,
    limit: Limit = 20,
    verify: Annotated[bool, typer.Option("--verify", help="Read every raw file again and check its hash.")] = False,
    as_json: Json = False,
) -> None:
    """Shows the tables with their versions, and the latest batches of the ledger."""
    from mtgpt.lake.status import status as look

    lake = _lake()
    found = look(lake)
    ledger = lake.ledger(city).tail(limit).reverse()
    broken = lake.bronze.verify() if verify else None
    data = {"status": found, "ledger": ledger, "broken_raw_files": broken}
    emit(data, as_json=as_json, table=lambda: _status_tables(found, ledger))
    if broken:
        raise LakeError(
            "raw files were changed after they were written",
            where=lake.bronze.root,
            got=", ".join(broken),
            next_step="restore them from a backup, or remove them and ingest again",
        )


@app.command(epilog="Example: mtgpt lake show observation --city demo --limit 5")
def show(
    table: Annotated[str, typer.Argument(help="Table, such as observation.")],
    city: City = None,
    limit: Limit = 20,
    version: Annotated[int | None, typer.Option(min=0, help="An earlier version of the table.")] = None,
    as_json: Json = False,
) -> None:
    """Shows rows of a table, as they are now or as they were."""
    from mtgpt.lake.disk import refusals

    lake = _lake()
    with refusals(table):
        rows = lake.scan(table, city_id=city, version=version).head(limit).collect()
    at = lake.version(table) if version is None else version
    title = f"{table}, version {'none yet' if at is None else at}"
    emit({"table": table, "version": at, "rows": rows}, as_json=as_json, table=lambda: _rows_table(rows, title))


@app.command(epilog="Example: mtgpt lake quarantine --city demo")
def quarantine(
    city: City = None,
    batch: Annotated[str | None, typer.Option(help="Only this batch; the beginning of its id is enough.")] = None,
    limit: Limit = 20,
    as_json: Json = False,
) -> None:
    """Shows the rows that were refused: by rule with an example, then one by one with what was got and expected.

    What each rule means and what to do about it: mtgpt/lake/README.md.
    """
    import polars as pl

    lake = _lake()
    rows = lake.quarantine(city, None if batch is None else lake.batch_id(batch))
    rules = (
        rows.group_by("source_id", "table_name", "rule_id", maintain_order=True)
        .agg(pl.len().alias("rows"), *(pl.col(name).first() for name in ("batch_id", "row", "message", "raw")))
        .sort("rows", "source_id", "table_name", "rule_id", descending=[True, False, False, False])
    )
    data = {"total": rows.height, "by_rule": rules, "rows": rows.head(limit)}
    emit(data, as_json=as_json, table=lambda: _quarantine_text(rows, rules, limit))


@app.command(epilog="Example: mtgpt lake replay --held")
def replay(
    batch: Annotated[str | None, typer.Argument(help="Batch; the beginning of its id is enough.")] = None,
    held: Annotated[bool, typer.Option("--held", help="All batches that are held.")] = False,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="All batches with refused rows.")] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="Take the batch's values as right, however far they are from the past.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Reads raw files again and judges them with today's contracts; what is good now and not there yet lands."""
    from mtgpt.lake.derived.trip_counts import recount
    from mtgpt.lake.derived.visits import rederive
    from mtgpt.lake.replay import replay as replay_one
    from mtgpt.lake.replay import replay_many

    if (batch is None) == (not (held or quarantined)):
        raise UsageError("say what to replay", expected="a batch, or --held, or --quarantined")
    if accept and batch is None:
        raise UsageError("values are accepted batch by batch", expected="mtgpt lake replay BATCH --accept")
    now, lake = settings(), _lake()
    failures: list[dict[str, Any]] = []
    with progress("replay", quiet=as_json) as say:
        if batch is not None:
            results = [replay_one(lake.batch_id(batch), lake, settings=now, progress=say, accept=accept)]
        else:
            results = replay_many(
                lake,
                settings=now,
                held=held,
                quarantined=quarantined,
                progress=say,
                failed=lambda one, error: failures.append({"batch_id": one, "sentence": error.sentence()}),
            )
        for city in _cities(lake, results):
            results += recount(lake, city)
            results += rederive(lake, city)
    emit(
        {"batches": results, "failed": failures},
        as_json=as_json,
        table=lambda: _replay_tables(results, failures),
    )
    if failures or any(one.status == "held" for one in results):
        raise typer.Exit(1)


@app.command(epilog="Example: mtgpt lake compact observation")
def compact(
    table: Annotated[str | None, typer.Argument(help="Table; all if not given.")] = None,
    vacuum: Annotated[
        bool, typer.Option("--vacuum", help="Also delete what only old versions need; these are then gone.")
    ] = False,
    keep_days: Annotated[int, typer.Option(min=1, help="With --vacuum: versions of so many days stay.")] = 30,
    as_json: Json = False,
) -> None:
    """Makes few large files of many small ones. No row changes; with --vacuum old versions go."""
    from mtgpt.lake.lock import locked

    lake = _lake()
    names = sorted(lake.versions()) if table is None else [lake.table(table).name]
    rows = []
    with progress("compact", quiet=as_json) as say:
        for name in names:
            say(name)
            with locked(lake.lock(name)):
                done = lake.table(name).compact()
                deleted = lake.table(name).vacuum(keep_days=keep_days) if vacuum else 0
            rows.append({**done, "files_deleted": deleted})
    columns = ("table", "version", "files_before", "files_after", "files_deleted")
    emit(rows, as_json=as_json, table=lambda: rows_table(rows, columns))


def _lake() -> Lake:
    from mtgpt.lake.lake import Lake

    return Lake.open(settings().lake, create=False)


def _cities(lake: Lake, results: list[BatchResult]) -> list[str]:
    import polars as pl

    landed = [one.batch_id for one in results if one.status == "committed"]
    return lake.ledger().filter(pl.col("batch_id").is_in(landed))["city_id"].unique().sort().to_list()


def _status_tables(found: LakeStatus, ledger: pl.DataFrame) -> RenderableType:
    tables = [(one.table, one.version, one.rows, one.files, f"{one.bytes / 1e6:,.1f}") for one in found.tables]
    raw = f"{found.raw_files:,} raw files, {found.raw_bytes / 1e6:,.1f} MB"
    parts: list[RenderableType] = [
        rows_table(
            tables,
            ("table", "version", "rows", "files", "MB"),
            title=found.root,
            caption=f"{raw}; cities: {', '.join(found.cities) or 'none yet'}",
        ),
        Text(""),
        ledger_table(_lines(found, ledger), last="received", title="latest batches"),
    ]
    if found.held:
        parts.append(Text(f"\n{found.held} batches are held: mtgpt lake quarantine says why", style="red"))
    if found.quarantined:
        parts.append(Text(f"\n{found.quarantined:,} rows in quarantine: mtgpt lake quarantine", style="yellow"))
    if found.suspect:
        parts.append(Text(f"\n{suspect_text(found.suspect)}", style="yellow"))
    return Group(*parts)


def _lines(found: LakeStatus, ledger: pl.DataFrame) -> Iterator[Line]:
    for row in ledger.iter_rows(named=True):
        yield _line(row | {"status": SUPERSEDED} if row["batch_id"] in found.superseded else row)


def _line(row: dict[str, Any]) -> Line:
    return Line(
        source_id=row["source_id"],
        name=json.loads(row["files"])[0]["name"],
        status=row["status"],
        rows=(row["rows_in"], row["rows_good"], row["rows_quarantined"], row["rows_duplicate"]),
        batch_id=row["batch_id"],
        last=f"{row['received_at']:%m-%d %H:%M}",
    )


def _rows_table(rows: pl.DataFrame, title: str) -> RenderableType:
    # What is the same in all rows is said once, so that the rest fits on a screen.
    same = {name: rows[name][0] for name in rows.columns if rows.height > 1 and rows[name].n_unique() == 1}
    said = ", ".join(f"{name} {_cut(value)}" for name, value in same.items() if value is not None)
    columns = [name for name in rows.columns if name not in same]
    cells = ([_cut(value) for value in row] for row in rows.select(columns).iter_rows())
    return Group(rows_table(cells, columns, title=title), Text(f"in all rows: {said}" if said else "", "italic dim"))


def _cut(value: Any) -> Any:
    is_hash = isinstance(value, str) and len(value) == 64 and value.isalnum()
    return value[:SHORT] if is_hash else value


def _quarantine_text(rows: pl.DataFrame, rules: pl.DataFrame, limit: int) -> RenderableType:
    if not rows.height:
        return Text("Nothing in quarantine.")
    columns = ["source_id", "table_name", "rule_id", "rows"]
    counts = rules.select(columns).iter_rows()
    parts: list[RenderableType] = [rows_table(counts, columns, title=f"{rows.height:,} rows were refused")]
    for rule in rules.iter_rows(named=True):
        parts += [
            Text(f"\n{rule['table_name']} {rule['rule_id']} ({rule['source_id']}), for example", style="italic"),
            Text(f"  {rule['message']}"),
            Text(f"  {rule['raw']}", style="dim"),
        ]
    parts.append(Text(f"\nthe first {min(limit, rows.height):,}", style="italic"))
    for row in rows.head(limit).iter_rows(named=True):
        place = "" if row["row"] is None else f" row {row['row']:,}"
        again = "" if row["replayed_in"] is None else f" (judged again in {row['replayed_in'][:SHORT]})"
        parts += [
            Text(f"{row['source_id']} {row['batch_id'][:SHORT]}{place}: {row['message']}{again}"),
            Text(f"  {row['raw']}", style="dim"),
        ]
    return Group(*parts)


def _replay_tables(results: list[BatchResult], failures: list[dict[str, Any]]) -> RenderableType:
    if not results and not failures:
        return Text("Nothing waits for a replay.")
    failed = [Text(f"{one['batch_id'][:SHORT]}: failed. {one['sentence']}", style="red") for one in failures]
    return Group(results_table(results), *failed)
