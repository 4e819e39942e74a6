"""Who may say what (kinds.md): which tenant an event is of, and whether its topic may carry its kind. Pure.

The topic decides first, then the producer's key, then (where unauthenticated intake is on) the event. Two that disagree
are a refusal, never a choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ingest.errors import Refused
from ledger.registry import Tenant
from schemas.event import Event

EVENTS = "tally.events"
OTLP_SPANS = "tally.otlp.spans"
OTLP_LOGS = "tally.otlp.logs"
GATEWAY_SPANS = "tally.gateway.spans"
GATEWAY_LOGS = "tally.gateway.logs"
CONTROL = "tally.control"
FINDINGS = "tally.findings"
# Topics that speak for one tenant by setting, or for whoever a record names; with `.<slug>`, for that tenant.
SHARED = frozenset({EVENTS, OTLP_SPANS, OTLP_LOGS})
GATEWAY = frozenset({GATEWAY_SPANS, GATEWAY_LOGS})  # speak for the tenant in the gateway's header
TOPIC_PATTERN = (
    r"^tally\.((events|otlp\.spans|otlp\.logs)(\.[a-z0-9][a-z0-9-]{0,62})?|gateway\.(spans|logs)|control|findings)$"
)
CONTROL_KINDS = frozenset({"contract_applied", "tool_registered", "policy_published", "kill_switch", "incident"})
FINDING_KINDS = frozenset({"budget_breach", "violation"})


def is_otlp(topic: str) -> bool:
    """Whether a topic's records are OTLP requests."""
    return topic.startswith(("tally.otlp.", "tally.gateway."))


def signal_of(topic: str) -> Literal["spans", "logs"]:
    """Which of the two requests the records of an OTLP topic are."""
    return "logs" if topic.startswith((OTLP_LOGS, GATEWAY_LOGS)) else "spans"


@dataclass(frozen=True, slots=True)
class Authority:
    """The tenants and settings that decide. `events_tenant`: whom SHARED topics speak for; None: whoever they name."""

    tenants: Mapping[str, Tenant]
    events_tenant: str | None = None
    default_tenant: str | None = "default"
    unauthenticated: bool = False
    by_slug: Mapping[str, Tenant] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_slug", {tenant.slug: tenant for tenant in self.tenants.values()})

    def of_topic(self, topic: str) -> Tenant | None:
        """The tenant that a topic speaks for, or None where events say it themselves. Raises Refused."""
        shared, _, slug = topic.rpartition(".")
        if shared in SHARED:
            tenant = self.by_slug.get(slug)
            if tenant is None:
                raise Refused("unknown_tenant", f"no tenant has the slug of topic {topic}")
            return tenant
        if topic in SHARED and self.events_tenant is not None:
            return self._registered(self.events_tenant)
        return None

    def tenant_of(self, topic: str, named: str | None, spoken_for: str | None) -> Tenant:
        """The tenant of an event: what its topic, its sender and the event itself agree on. Raises Refused.

        `spoken_for`: whom the producer's key speaks for, or the gateway's header.
        """
        if topic in SHARED and self.events_tenant is None:
            fixed = None
            if spoken_for is None and named is not None and self.unauthenticated:
                return self._registered(named)  # the usual case of a stack that trusts its loopback
        else:
            fixed = self.of_topic(topic)
        claims = {claim for claim in (fixed.tenant if fixed else None, spoken_for, named) if claim is not None}
        if len(claims) > 1:
            raise Refused("tenant_mismatch", "the topic, the sender and the event name different tenants")
        if fixed is not None:
            return fixed
        if spoken_for is not None:
            return self._registered(spoken_for)
        if topic in GATEWAY:
            raise Refused("unauthenticated", f"{topic}: expected the gateway's header that names the tenant")
        if topic in SHARED and not self.unauthenticated:
            raise Refused("unauthenticated", f"{topic} is bound to no tenant, and unauthenticated intake is off")
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
