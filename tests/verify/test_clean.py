"""A ledger that nobody touched has no finding, whatever way it is verified."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger.verify import ranges, spool
from ledger.verify.work import RANGE_ENTRIES
from tests.support.servers import Database
from tests.verify.support import small, world


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("range_entries", [256, 512, RANGE_ENTRIES])
async def test_a_clean_ledger_has_no_finding(
    database: Database, tmp_path: Path, workers: int, range_entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "RANGE_ENTRIES", range_entries)
    monkeypatch.setattr(spool, "PARTITION_ENTRIES", 100 if range_entries == 256 else 1000)
    await small(database, tmp_path)
    async with world(database, tmp_path) as made:
        report = await made.verify(workers=workers)
        assert report.findings == []
        assert (report.integrity, report.completeness, report.independence) == ("ok", "ok", "unwitnessed")
        assert report.exit_status == 0
        cursor = await made.conn.execute("SELECT log, tree_size, encode(root_hash, 'hex') FROM logs ORDER BY log")
        assert [(log.origin, log.size, log.root) for log in report.logs] == await cursor.fetchall()
        shown = json.loads(report.to_json())
        assert list(shown) == ["integrity", "completeness", "independence", "logs", "findings"]
        assert list(shown["logs"][0]) == ["origin", "size", "root"]
