"""Judges a batch again, from its raw bytes, with today's contracts; what is good now and not there yet lands."""

from __future__ import annotations

import dataclasses
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.errors import ContractError, FeedError, MTGPTError, NotFound, UsageError
from mtgpt.ingest.adapter import FeedContext, FeedFile
from mtgpt.ingest.adapters import adapters
from mtgpt.lake.batch import SOURCE_ROLE, Batch, BatchResult, replay_id
from mtgpt.lake.lake import BATCH, QUARANTINE
from mtgpt.lake.landing import Landing, known_result, land
from mtgpt.lake.reading import read_batch
from mtgpt.lake.staging import Staging, workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mtgpt.ingest.adapter import Adapter
    from mtgpt.lake.lake import Lake
    from mtgpt.settings import Settings

_DERIVED = "derived:"


def replay(
    batch_id: str,
    lake: Lake,
    *,
    settings: Settings,
    progress: Callable[[str], None] | None = None,
    kinds: Mapping[str, Adapter] | None = None,
    accept: bool = False,
) -> BatchResult:
    """Reads a batch's raw files again and judges them with today's contracts and adapter.

    Args:
        batch_id: A batch of the ledger.
        lake: The lake.
        settings: The salt of trip keys.
        progress: Called with what is going on.
        kinds: Adapters by kind; the built-in ones if not given.
        accept: Take its values as right, however far they are from the source's past: they land unmarked and become
            part of that past.

    Returns:
        The replay's own result: ``committed``, with its own id and row in the ledger, where the original is then
        ``replayed``; ``held`` where the batch still breaks a batch rule (nothing was written); ``replay`` where
        neither contracts nor adapter changed since it was judged.

    Raises:
        NotFound: No such batch, or its raw bytes are gone.
        UsageError: The batch was derived from others and has no raw bytes.
        FeedError: The bytes cannot be read by today's adapter.
        LakeError: The lake cannot be written.
    """
    started = time.monotonic()
    row = _row(batch_id, lake)
    if row["source_id"].startswith(_DERIVED):
        raise UsageError(
            "the batch was derived from others", where=batch_id, next_step="replay the batches that it was derived from"
        )
    recipe = _recipe(row, lake)
    adapter = (adapters() if kinds is None else kinds).get(row["kind"])
    if adapter is None:
        raise NotFound("no adapter reads this kind any more", where=batch_id, got=row["kind"])
    batch = _again(row, lake, adapter_version=adapter.version)
    before = None if accept and row["status"] == "held" else _judged_before(row, batch, lake)
    if before is not None:
        return dataclasses.replace(before, seconds=time.monotonic() - started)
    options = adapter.Options.model_validate_json(json.dumps(recipe["options"]))
    context = FeedContext(
        city_id=batch.city_id,
        time_zone=recipe["time_zone"],
        source_id=batch.source_id,
        received_at=batch.received_at,
        salt=settings.salt.get_secret_value().encode(),
    )
    with workspace(lake.staging) as folder:
        staged = Staging(folder=folder)
        say = progress or (lambda _: None)
        past = lake.past(batch.city_id, batch.source_id)
        judged = read_batch(
            adapter, options, batch, lake, context=context, staged=staged, progress=say, past=past, accept=accept
        )
        result = land(batch, judged, lake, landing=Landing(replayed=row))
        past.save()
    return dataclasses.replace(result, seconds=time.monotonic() - started)


def replay_many(
    lake: Lake,
    *,
    settings: Settings,
    held: bool = False,
    quarantined: bool = False,
    progress: Callable[[str], None] | None = None,
    failed: Callable[[str, MTGPTError], None] | None = None,
    kinds: Mapping[str, Adapter] | None = None,
) -> list[BatchResult]:
    """Replays every batch that is held, or that has rows in quarantine that were not judged again.

    Args:
        lake: The lake.
        settings: The salt of trip keys.
        held: Batches that are held.
        quarantined: Batches with refused rows.
        progress: Called with what is going on.
        failed: Called with a batch whose bytes or contracts fail, after which the others go on.
        kinds: Adapters by kind; the built-in ones if not given.

    Raises:
        LakeError: The lake cannot be read or written.
        MTGPTError: A batch failed and ``failed`` was not given.
    """
    results = []
    for batch_id in waiting(lake, held=held, quarantined=quarantined):
        try:
            results.append(replay(batch_id, lake, settings=settings, progress=progress, kinds=kinds))
        except (ContractError, FeedError, NotFound) as error:
            if failed is None:
                raise
            failed(batch_id, error)
    return results


def waiting(lake: Lake, *, held: bool, quarantined: bool) -> list[str]:
    """Ids of the batches that a replay might help, the oldest first."""
    ledger = lake.ledger().filter(~pl.col("source_id").str.starts_with(_DERIVED))
    wanted = pl.lit(False)
    if held:
        wanted |= pl.col("status") == "held"
    if quarantined:
        refused = lake.scan(QUARANTINE).filter(pl.col("replayed_in").is_null()).select(pl.col("batch_id").unique())
        wanted |= pl.col("batch_id").is_in(refused.collect()["batch_id"].to_list())
    return ledger.filter(wanted)["batch_id"].to_list()


def _row(batch_id: str, lake: Lake) -> dict[str, Any]:
    found = lake.scan(BATCH).filter(pl.col("batch_id") == batch_id).collect()
    if not found.height:
        raise NotFound("no such batch", where="ledger", got=batch_id, next_step="mtgpt lake status lists the batches")
    return found.row(0, named=True)


def _recipe(row: Mapping[str, Any], lake: Lake) -> dict[str, Any]:
    for file in json.loads(row["files"]):
        if file["role"] == SOURCE_ROLE:
            return json.loads(lake.bronze.path(file["sha256"]).read_text("utf-8"))
    raise NotFound("the ledger does not say how the batch was read", where=row["batch_id"])


def _again(row: Mapping[str, Any], lake: Lake, *, adapter_version: int) -> Batch:
    files = [
        FeedFile(
            role=one["role"],
            path=lake.bronze.path(one["sha256"]),
            name=one["name"],
            sha256=one["sha256"],
            size=one["size"],
        )
        for one in json.loads(row["files"])
    ]
    judges = {name: lake.table(name).contract for name in json.loads(row["contracts"])}
    return Batch(
        batch_id=replay_id(row["batch_id"], adapter_version=adapter_version, contracts=judges),
        city_id=row["city_id"],
        source_id=row["source_id"],
        kind=row["kind"],
        adapter_version=adapter_version,
        received_at=datetime.now(UTC),
        files=tuple(files),
        facts={},
        replay_of=row["batch_id"],
    )


def _judged_before(row: Mapping[str, Any], batch: Batch, lake: Lake) -> BatchResult | None:
    """The result that stands, where judging again could not change it."""
    today = {name: lake.table(name).contract.sha256 for name in json.loads(row["contracts"])}
    if today == json.loads(row["contracts"]) and row["adapter_version"] == str(batch.adapter_version):
        return known_result(row["batch_id"], lake)
    ledger = lake.table(BATCH)
    if ledger.appended(ledger.open(), batch.batch_id) is not None:
        return known_result(batch.batch_id, lake)
    return None
