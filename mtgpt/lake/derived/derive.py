"""What follows from rows that landed: values that are not in any feed but in several rows of it together.

Each derivation replaces its own rows as a whole, so running one again is harmless.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtgpt.lake.derived.road_links import derive_road_links
from mtgpt.lake.derived.schedule_changes import derive_schedule_changes
from mtgpt.lake.derived.transfer_links import derive_transfer_links
from mtgpt.lake.derived.trip_counts import derive_trip_counts
from mtgpt.lake.derived.visits import derive_visits

if TYPE_CHECKING:
    from collections.abc import Callable

    from mtgpt.ingest.manifest import CityManifest
    from mtgpt.lake.batch import BatchResult
    from mtgpt.lake.lake import Lake


def derive(lake: Lake, manifest: CityManifest, *, progress: Callable[[str], None]) -> list[BatchResult]:
    """Brings everything derived up to what the city's tables hold now; does nothing where nothing changed.

    Raises:
        LakeError: The disk refused, or another process kept writing.
    """
    results = derive_trip_counts(lake, manifest.city, interval_s=manifest.panel.interval_s, progress=progress)
    results += derive_transfer_links(lake, manifest.city, within_m=manifest.panel.transfer_m, progress=progress)
    results += derive_road_links(lake, manifest.city, progress=progress)
    results += derive_visits(lake, manifest.city, interval_s=manifest.panel.interval_s, progress=progress)
    results += derive_schedule_changes(lake, manifest.city, time_zone=manifest.time_zone, progress=progress)
    return results
