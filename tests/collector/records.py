"""What a real Collector wrote, as tests/fixtures/collector/README.md says; and what had been sent to it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest import decode as decoding
from ingest.authority import Authority
from ingest.decode import Decoder
from ledger.registry import Tenant
from ledger.seal import Pending

FOLDER = Path(__file__).parents[1] / "fixtures" / "collector"
TENANTS = {name: Tenant(name, name, (f"p/{name}",)) for name in ("default", "acme")}
NOW = "2026-11-21T12:00:00Z"
DECODER = Decoder(Authority(TENANTS, unauthenticated=True), {})


@dataclass(frozen=True, slots=True)
class Record:
    """A Kafka record with the exporter's settings that made it, and the requests that the Collector had been sent."""

    file: str
    topic: str
    key: bytes | None
    headers: list[tuple[str, bytes]]
    value: bytes
    sent: tuple[str, ...]
    exporter: dict[str, Any] | str  # or the file that configured the whole Collector


def load() -> dict[str, Record]:
    """All records by file name, in the order they were written."""
    index = json.loads((FOLDER / "records.json").read_text(encoding="utf-8"))
    return {
        one["file"]: Record(
            one["file"],
            one["topic"],
            None if one["key"] is None else bytes.fromhex(one["key"]),
            [(name, value.encode()) for name, value in one["headers"]],
            (FOLDER / one["file"]).read_bytes(),
            tuple(one["sent"]),
            one["exporter"],
        )
        for one in index
    }


RECORDS = load()


def sent(file: str) -> bytes:
    """A request as the Collector got it."""
    return (FOLDER / file).read_bytes()


def decode(record: Record) -> list[Pending]:
    """The entries that a record gives."""
    read = decoding.Record(
        "c", record.topic, None, 0, 0, record.value, record.headers, record.key, "p/_intake/t/0", NOW
    )
    return list(DECODER.decode_request(read))


def decode_as_gateway(file: str, tenant: str = "default") -> list[Pending]:
    """The entries that a request gives when it comes by the gateway."""
    topic = "tally.gateway.logs" if "logs" in file else "tally.gateway.spans"
    headers = [("tallystick-tenant", tenant.encode())]
    read = decoding.Record("c", topic, None, 0, 0, sent(file), headers, None, "p/_intake/t/0", NOW)
    return list(DECODER.decode_request(read))


def recognized(pendings: list[Pending]) -> Counter[tuple[str, bytes | None]]:
    """What makes entries one event: their ids, and the bytes that the fingerprint is of."""
    return Counter((one.event.id, one.event.wire) for one in pendings)


def said(pending: Pending) -> dict[str, Any]:
    """All that an entry says, without where it was read."""
    event = pending.event
    return {
        name: getattr(event, name)
        for name in ("id", "kind", "tenant", "run", "src", "time", "actor", "data", "content", "persons", "subjects")
    } | {"raw_unmapped": event.raw_unmapped, "wire": event.wire, "received": pending.received}


def of_run(pendings: list[Pending], run: str) -> Counter[tuple[str, bytes | None]]:
    """What is recognized of one run."""
    return recognized([one for one in pendings if one.event.run == run])
