"""Fixtures of the ingest tests."""

from __future__ import annotations

import pytest

from tests.ingest.http_feed import feed_server


@pytest.fixture
def feed():
    """A web server on loopback."""
    with feed_server() as server:
        yield server
