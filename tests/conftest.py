"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtgpt.settings import settings, share_cores

share_cores()

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repo() -> Path:
    """The checkout's top folder."""
    return REPO


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the published data sets, or a skip that says what is missing."""
    folder = REPO / settings().real_data  # an absolute setting wins over the left side
    if not folder.is_dir():
        pytest.skip("the published data sets are not here: set MTGPT_REAL_DATA to their folder")
    return folder.resolve()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace that MTGPT_HOME points at."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("MTGPT_HOME", str(folder))
    return folder
