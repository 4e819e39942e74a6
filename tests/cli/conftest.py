"""Fixtures of the command line's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.support import Site, make_site
from tests.support.servers import Database


@pytest.fixture
async def site(database: Database, kafka: str, tmp_path: Path) -> Site:
    """A tenant with a topic of its own on the session's servers."""
    return await make_site(database.url(), kafka, tmp_path)
