"""Who may say what, as a table (kinds.md)."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from ingest.authority import CONTROL_KINDS, FINDING_KINDS, TOPIC_PATTERN, Authority
from ingest.errors import Refused
from ledger.registry import Tenant
from schemas.kinds import KINDS
from tests.ledger.appending import make_event

ACME = Tenant("acme", "a-slug", ("p/a-slug", "p/a-slug/1"))
GLOBEX = Tenant("globex", "g-slug", ("p/g-slug",))
DEFAULT = Tenant("default", "default", ("p/default",))
OPEN = Authority({tenant.tenant: tenant for tenant in (ACME, GLOBEX, DEFAULT)}, unauthenticated=True)
CLOSED = replace(OPEN, unauthenticated=False)
BOUND = replace(CLOSED, events_tenant="acme")
BOUND_TO_NOBODY = replace(CLOSED, events_tenant="gone")
NO_DEFAULT = replace(OPEN, default_tenant=None)
EVENTS, OF_ACME, CONTROL, FINDINGS = "tally.events", "tally.events.a-slug", "tally.control", "tally.findings"


@pytest.mark.parametrize(
    ("authority", "topic", "named", "signed_for", "expected"),
    [
        # The embedded stack: whoever the event names, else the default.
        (OPEN, EVENTS, None, None, "default"),
        (OPEN, EVENTS, "globex", None, "globex"),
        (OPEN, EVENTS, "nobody", None, "unknown_tenant"),
        (NO_DEFAULT, EVENTS, None, None, "unknown_tenant"),
        # A producer's key fixes the tenant.
        (OPEN, EVENTS, None, "acme", "acme"),
        (OPEN, EVENTS, "acme", "acme", "acme"),
        (OPEN, EVENTS, "globex", "acme", "tenant_mismatch"),
        (CLOSED, EVENTS, None, "acme", "acme"),
        (CLOSED, EVENTS, "globex", "acme", "tenant_mismatch"),
        (CLOSED, EVENTS, None, "nobody", "unknown_tenant"),
        # Unauthenticated intake is off.
        (CLOSED, EVENTS, None, None, "unauthenticated"),
        (CLOSED, EVENTS, "acme", None, "unauthenticated"),
        # The topic is bound by a setting.
        (BOUND, EVENTS, None, None, "acme"),
        (BOUND, EVENTS, "acme", "acme", "acme"),
        (BOUND, EVENTS, "globex", None, "tenant_mismatch"),
        (BOUND, EVENTS, None, "globex", "tenant_mismatch"),
        (BOUND_TO_NOBODY, EVENTS, None, None, "unknown_tenant"),
        # The topic is bound by its name, whatever the settings.
        (OPEN, OF_ACME, None, None, "acme"),
        (CLOSED, OF_ACME, None, None, "acme"),
        (CLOSED, OF_ACME, "acme", None, "acme"),
        (OPEN, OF_ACME, "globex", None, "tenant_mismatch"),
        (OPEN, OF_ACME, None, "globex", "tenant_mismatch"),
        (BOUND, "tally.events.g-slug", None, None, "globex"),
        (OPEN, "tally.events.acme", None, None, "unknown_tenant"),  # a tenant's name is not its slug
        (OPEN, "tally.events.", None, None, "unknown_tenant"),
        # A Collector's topics are bound like tally.events.
        (OPEN, "tally.otlp.spans", "globex", None, "globex"),
        (OPEN, "tally.otlp.logs", None, None, "default"),
        (CLOSED, "tally.otlp.spans", "globex", None, "unauthenticated"),
        (BOUND, "tally.otlp.logs", None, None, "acme"),
        (BOUND, "tally.otlp.spans", "globex", None, "tenant_mismatch"),
        (CLOSED, "tally.otlp.spans.a-slug", None, None, "acme"),
        (OPEN, "tally.otlp.logs.a-slug", "globex", None, "tenant_mismatch"),
        # The gateway says for whom it speaks, and a span may not say otherwise.
        (CLOSED, "tally.gateway.spans", None, "acme", "acme"),
        (CLOSED, "tally.gateway.logs", "acme", "acme", "acme"),
        (OPEN, "tally.gateway.spans", "globex", "acme", "tenant_mismatch"),
        (OPEN, "tally.gateway.spans", None, None, "unauthenticated"),
        (OPEN, "tally.gateway.spans", "acme", None, "unauthenticated"),
        (OPEN, "tally.gateway.logs", None, "nobody", "unknown_tenant"),
        # Operators and projections name whom they speak of.
        (CLOSED, CONTROL, "globex", None, "globex"),
        (CLOSED, CONTROL, "nobody", None, "unknown_tenant"),
        (CLOSED, FINDINGS, "acme", None, "acme"),
        (CLOSED, FINDINGS, "acme", "globex", "tenant_mismatch"),
    ],
)
def test_whose_an_event_is(
    authority: Authority, topic: str, named: str | None, signed_for: str | None, expected: str
) -> None:
    detail = ""
    try:
        found = authority.tenant_of(topic, named, signed_for).tenant
    except Refused as refused:
        found, detail = refused.code, refused.detail
    assert found == expected
    for name in (named, signed_for):
        assert name is None or name not in detail  # the detail stands in a public leaf


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if not kind.ledger_only])
def test_which_topic_carries_a_kind(kind: str) -> None:
    carried = {topic for topic in (EVENTS, OF_ACME, CONTROL, FINDINGS) if _carries(topic, kind)}
    if kind in FINDING_KINDS:
        assert carried == {FINDINGS}
    elif kind in CONTROL_KINDS:
        assert carried == {CONTROL}
    else:
        assert carried == {EVENTS, OF_ACME, CONTROL}


def _carries(topic: str, kind: str) -> bool:
    try:
        OPEN.check_kind(topic, make_event("run-1", kind=kind))
    except Refused as refused:
        return refused.code != "reserved_kind"
    return True


def test_the_kinds_that_are_bound_are_those_the_schemas_say() -> None:
    assert {name for name, kind in KINDS.items() if kind.control_only} == CONTROL_KINDS
    assert {name for name, kind in KINDS.items() if kind.findings_only} == FINDING_KINDS


def test_a_run_is_placed_by_its_source_partition() -> None:
    assert [ACME.origin_of(partition) for partition in range(4)] == ["p/a-slug", "p/a-slug/1"] * 2
    assert GLOBEX.origin_of(17) == "p/g-slug"


@pytest.mark.parametrize(
    ("topic", "read"),
    [
        ("tally.events", True),
        ("tally.events.a-slug", True),
        ("tally.control", True),
        ("tally.findings", True),
        ("tally.otlp.spans", True),
        ("tally.otlp.logs.a-slug", True),
        ("tally.gateway.spans", True),
        ("tally.gateway.logs", True),
        ("tally.gateway.spans.a-slug", False),
        ("tally.otlp.metrics", False),
        ("tally.events.", False),
        ("tally.events.UPPER", False),
        ("tally.events.a.b", False),
        ("tally.eventsx", False),
        ("xtally.events", False),
        ("tally.control.x", False),
    ],
)
def test_which_topics_are_read(topic: str, read: bool) -> None:
    assert bool(re.match(TOPIC_PATTERN, topic)) is read
