"""A live message with far fewer entities than those just before it: held, because its end may be missing.

Some formats (GTFS-Realtime) read as well when they are cut between two records. Over HTTP the transfer itself is
measured; for files there is only this: what the same source sent in the half hour before. Cuts that leave more than
the source's ``min_share``, and cuts of small feeds, cannot be seen this way. A drop that lasts longer than half an hour
is taken for what the feed has now.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

import polars as pl

from mtgpt.ingest.adapter import DATA
from mtgpt.lake.disk import refusals
from mtgpt.lake.lake import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mtgpt.lake.batch import Batch
    from mtgpt.lake.lake import Lake

_WINDOW = timedelta(minutes=30)
_LOOKED_AT = 200
_MESSAGES = 5
_LEAST_MESSAGES = 3
_LEAST_ENTITIES = 20


def shrunk(batch: Batch, facts: Mapping[str, Any], lake: Lake) -> str | None:
    """Why a batch must be held for having lost entities, or None.

    Args:
        batch: The batch.
        facts: Its data file's: ``watched`` (number of entities), ``min_share`` and ``feed_time``; None of them for
            feeds that this does not concern.
        lake: Its ledger says what came before.

    Raises:
        LakeError: The ledger cannot be read.
    """
    share = facts.get("min_share")
    if not share:
        return None
    earlier = list(_earlier(batch, datetime.fromisoformat(facts["feed_time"]), lake))
    if len(earlier) < _LEAST_MESSAGES:
        return None
    usual = median(earlier)
    if usual < _LEAST_ENTITIES or facts["watched"] >= share * usual:
        return None
    return (
        f"entity_drop: {facts['watched']} trips and vehicles where the last {len(earlier)} messages had {usual:g} "
        f"(at least {100 * share:g} % expected): its end may be missing. If the feed has so few now, "
        "its messages are taken once half an hour has passed; mtgpt lake replay --accept takes this one"
    )


def _earlier(batch: Batch, feed_time: datetime, lake: Lake) -> Iterator[int]:
    rows = lake.scan(BATCH, city_id=batch.city_id).filter(
        (pl.col("source_id") == batch.source_id) & (pl.col("status") != "held")
    )
    with refusals(BATCH):
        files = rows.sort("received_at").select("files").tail(_LOOKED_AT).collect()["files"].to_list()
    told = [file for text in files for file in json.loads(text) if file["role"] == DATA and "watched" in file]
    times = [(datetime.fromisoformat(file["feed_time"]), file["watched"]) for file in told]
    near = sorted(pair for pair in times if timedelta() < feed_time - pair[0] <= _WINDOW)
    return (watched for _, watched in near[-_MESSAGES:])
