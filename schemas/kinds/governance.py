"""Kinds of permission and judgement: who allowed it, under which policy, what was found about it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.fields import (
    Boolean,
    ByLedger,
    Content,
    Count,
    Decimal,
    Digest,
    EventRef,
    Microseconds,
    Moment,
    Name,
    Ordinal,
    Person,
    RunId,
    Text,
)
from schemas.kinds.common import Common, Environment, Explained, Object, Risk


class PolicyDecision(Common):
    decision: Literal["allow", "deny", "require_approval", "unknown"]
    policy: Text | None = None
    rule: Text | None = None
    bundle: Digest | None = None
    decision_id: Text | None = None
    call: Text | None = None
    decided_by: Text | None = None
    input_digest: Text | None = None
    input: Content | None = None


class ApprovalRequest(Common):
    approval: Name
    call: Name
    risk: Risk | None = None
    blast_radius: Text | None = None
    rollback_path: Text | None = None
    trigger: Literal["rule", "risk", "anomaly", "missing_evidence", "budget"] | None = None
    expires: Moment | None = None
    arguments: Annotated[Text | None, ByLedger()] = None
    input: Content | None = None
    context: Content | None = None
    diff: Content | None = None


class ApprovalDecision(Common):
    approval: Name
    call: Text | None = None
    decision: Literal["approve", "reject", "edit", "expire"]
    reviewer: Person | None = None
    reviewer_kind: Literal["human", "system"] | None = None
    reason_code: Text | None = None
    arguments: Annotated[Text | None, ByLedger()] = None
    handling_us: Microseconds | None = None
    viewed_us: Microseconds | None = None
    input: Content | None = None


class Credential(Common):
    """credential_issued and credential_revoked."""

    credential: Name
    mode: Literal["on_behalf_of", "workload", "static"] | None = None
    scopes: list[Name] | None = None
    ttl_seconds: Count | None = None
    issuer: Text | None = None
    environment: Environment | None = None
    tool: Text | None = None


class HumanOverride(Common):
    of: EventRef
    by: Person | None = None
    before: Content | None = None
    after: Content | None = None


class Evaluated(Object):
    agent: Name
    version: Name


class Evaluation(Common):
    suite: Name
    subject: Evaluated
    score: Decimal | None = None
    threshold: Decimal | None = None
    pass_: Boolean | None = Field(default=None, alias="pass")
    cases: Count | None = None
    run_kind: Literal["golden", "scenario", "adversarial", "online"] | None = None


class Release(Common):
    agent: Name
    version: Name
    stage: Literal["canary", "full", "rolled_back"] | None = None
    share: Decimal | None = None
    changed: list[Literal["model", "prompt", "tool", "retrieval", "code"]] | None = None
    evaluations: list[EventRef] | None = None


class Registered(Common):
    """contract_applied, tool_registered and policy_published."""

    name: Name
    version: Text | None = None
    digest: Digest
    commit: Text | None = None
    author: Person | None = None
    approver: Person | None = None
    document: Content | None = None


class AutonomyChanged(Explained):
    agent: Name
    from_: Text | None = Field(default=None, alias="from")
    to: Name
    trigger: Text | None = None
    by: Person | None = None


class Target(Object):
    kind: Literal["run", "agent", "tenant"]
    id: Name


class KillSwitch(Common):
    target: Target
    action: Literal[
        "stop_run",
        "revoke_tools",
        "freeze_memory",
        "prevent_retries",
        "block_delegation",
        "preserve_trace",
        "notify_owner",
        "safe_state",
    ]
    state: Literal["requested", "confirmed", "not_confirmed"]
    by: Person | None = None
    drill: Boolean | None = None


class Incident(Common):
    incident: Name
    state: Literal["opened", "acknowledged", "resolved", "false_alarm"]
    findings: list[Name] | None = None  # ids of entries that the ledger holds, as they stand there
    by: Person | None = None


class ProducerGap(Explained):
    src: Name
    from_: Ordinal = Field(alias="from")
    to: Ordinal
    count: Count | None = None
    cause: Text | None = None


class SubjectOf(Object):
    run: RunId | None = None
    agent: Text | None = None
    workflow: Text | None = None
    tenant: Text | None = None


class EntryPlace(Object):
    log: Name
    index: Count


class Finding(Common):
    """budget_breach and violation."""

    rule: Name
    rule_version: Text | None = None
    severity: Text | None = None
    subject_of: SubjectOf | None = None
    entries: list[EntryPlace]
    limit: Decimal | None = None
    value: Decimal | None = None
