"""Who may say what (kinds.md): which tenant an event is of, and whether its topic may carry its kind. Pure.

The topic decides first, then the producer's key, then (where unauthenticated intake is on) the event. Two that disagree
are a refusal, never a choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ingest.errors import Refused
from ledger.registry import Tenant
from schemas.event import Event

EVENTS = "tally.events"
CONTROL = "tally.control"
FINDINGS = "tally.findings"
TOPIC_PATTERN = r"^tally\.(events(\.[a-z0-9][a-z0-9-]{0,62})?|control|findings)$"
CONTROL_KINDS = frozenset({"contract_applied", "tool_registered", "policy_published", "kill_switch", "incident"})
FINDING_KINDS = frozenset({"budget_breach", "violation"})


@dataclass(frozen=True, slots=True)
class Authority:
    """The tenants and settings that decide. `events_tenant`: whom `tally.events` speaks for; None: whoever it names."""

    tenants: Mapping[str, Tenant]
    events_tenant: str | None = None
    default_tenant: str | None = "default"
    unauthenticated: bool = False
    by_slug: Mapping[str, Tenant] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_slug", {tenant.slug: tenant for tenant in self.tenants.values()})

    def of_topic(self, topic: str) -> Tenant | None:
        """The tenant that a topic speaks for, or None where events say it themselves. Raises Refused."""
        if topic.startswith(EVENTS + "."):
            slug = topic[len(EVENTS) + 1 :]
            tenant = self.by_slug.get(slug)
            if tenant is None:
                raise Refused("unknown_tenant", f"no tenant has the slug of topic {topic}")
            return tenant
        if topic == EVENTS and self.events_tenant is not None:
            return self._registered(self.events_tenant)
        return None

    def tenant_of(self, topic: str, named: str | None, signed_for: str | None) -> Tenant:
        """The tenant of an event: what its topic, its producer's key and the event itself agree on. Raises Refused."""
        fixed = self.of_topic(topic) if topic != EVENTS or self.events_tenant is not None else None
        if fixed is None and signed_for is None and named is not None and (self.unauthenticated or topic != EVENTS):
            return self._registered(named)  # the usual case of a stack that trusts its loopback
        claims = {claim for claim in (fixed.tenant if fixed else None, signed_for, named) if claim is not None}
        if len(claims) > 1:
            raise Refused("tenant_mismatch", "the topic, the producer's key and the event name different tenants")
        if fixed is not None:
            return fixed
        if signed_for is not None:
            return self._registered(signed_for)
        if topic == EVENTS and not self.unauthenticated:
            raise Refused("unauthenticated", f"{EVENTS} is bound to no tenant, and unauthenticated intake is off")
        name = named if named is not None else self.default_tenant
        if name is None:
            raise Refused("unknown_tenant", "the event names no tenant, and there is no default")
        return self._registered(name)

    def check_kind(self, topic: str, event: Event) -> None:
        """Raise Refused where a topic may not carry a kind."""
        if event.kind in CONTROL_KINDS and topic != CONTROL:
            raise Refused("reserved_kind", f"{event.kind} is said only in {CONTROL}")
        if event.kind in FINDING_KINDS and topic != FINDINGS:
            raise Refused("reserved_kind", f"{event.kind} is said only in {FINDINGS}")
        if topic == FINDINGS and event.kind not in FINDING_KINDS:
            raise Refused("reserved_kind", f"{FINDINGS} carries findings only, not {event.kind}")

    def _registered(self, name: str) -> Tenant:
        tenant = self.tenants.get(name)
        if tenant is None:
            raise Refused("unknown_tenant", "the tenant is not registered; see `tally tenant add`")
        return tenant
