"""One Prefect server for all flow tests: it needs twenty seconds to start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from flows import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def prefect_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prefect server of the tests' own; nothing may import Prefect before it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in runtime.environment(tmp_path_factory.mktemp("workspace")).items():
            patch.setenv(name, value)
        from prefect.settings import PREFECT_API_URL
        from prefect.testing.utilities import prefect_test_harness

        with prefect_test_harness(server_startup_timeout=180):
            yield PREFECT_API_URL.value()
