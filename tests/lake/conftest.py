"""A city of small CSV feeds and an empty lake."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from mtgpt.ingest.manifest import CityManifest
from mtgpt.lake.intake import ingest_city
from mtgpt.lake.lake import Lake
from mtgpt.settings import Settings
from tests.lake.feeds import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from mtgpt.lake.batch import BatchResult


@dataclass
class City:
    """A city whose sources are added one by one, and its lake."""

    folder: Path
    lake: Lake
    settings: Settings
    sources: list[dict[str, Any]] = field(default_factory=list)

    def add(self, source_id: str, path: str, *, table: str = "observation", **more: Any) -> None:
        options = {"table": table, **more.pop("options", {})}
        self.sources.append({"id": source_id, "kind": "rows", "path": path, "options": options, **more})

    def manifest(self) -> CityManifest:
        manifest = CityManifest.model_validate(
            {
                "city": "testville",
                "name": "Testville",
                "time_zone": "UTC",
                "sources": tuple(self.sources),
                "panel": {"interval_s": 300},
            }
        )
        manifest._file = self.folder / "testville.yaml"
        return manifest

    def ingest(self, **more: Any) -> list[BatchResult]:
        return ingest_city(self.manifest(), self.lake, settings=self.settings, **{"kinds": KINDS, **more})

    def write(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def city(tmp_path: Path) -> City:
    """A city without sources, over an empty lake."""
    settings = Settings(home=tmp_path / "home")
    return City(folder=tmp_path / "feeds", lake=Lake.open(settings.lake), settings=settings)
