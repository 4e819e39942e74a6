"""The members of the kinds, for editors and type checkers: the ledger's published schemas are what decides.

Names are the schema's; `class_` and `from_` stand for members whose name is a Python keyword. None means absent.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Generic, Literal, TypedDict, TypeVar, Unpack

R = TypeVar("R")

Amount = Decimal | str | int
Access = Literal["read", "write"]
Risk = Literal["low", "medium", "high", "critical"]
Status = Literal["ok", "error", "timeout"]


class Money(TypedDict):
    amount: Amount
    currency: str


class Effect(TypedDict, total=False):
    system: str
    resource: str
    action: str
    count: int
    amount: Amount
    currency: str


class Envelope(TypedDict, total=False):
    """What an event carries beside kind and data. `run`: its run's id (none: an event of no run). `event_id`: a UUID
    (version 4 or 7) of the caller's. `at`: its time (now). `data_subjects`: whose data its content is."""

    run: str | None
    event_id: str | None
    at: dt.datetime | None
    traceparent: str | None
    data_subjects: Iterable[str]


class Common(TypedDict, total=False):
    event_id: str | None
    at: dt.datetime | None
    traceparent: str | None
    data_subjects: Iterable[str]
    step: str | int
    parent: str | None
    refs: Sequence[Mapping[str, str]]
    reason: Any
    session: str
    attestation: Mapping[str, str]


class RunOptions(TypedDict, total=False):
    """Of a run: who (agent, version, principal, on_behalf_of: said by each of its events) and run_started's members."""

    agent: str | None
    version: str | None
    principal: str | None
    on_behalf_of: str | None
    traceparent: str | None
    data_subjects: Iterable[str]
    workflow: str
    environment: Literal["production", "staging", "development", "test"]
    owner: str
    autonomy: Literal["observe", "draft", "execute_with_approval", "execute"]
    contract: str
    policy_bundle: str
    prompt: Mapping[str, str]
    model: str
    tool_schemas: Sequence[Mapping[str, str]]
    budget: Mapping[str, Any]
    work_item: Mapping[str, str]
    parent_run: str
    root_run: str
    depth: int
    release: str
    trace_level: str
    request: Any
    session: str


class ModelCall(Common, total=False):
    model_requested: str
    operation: Literal["chat", "completion", "embedding"]
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    latency_us: int
    first_token_us: int
    finish_reason: str
    attempt: int
    status: Status
    region: str
    prompt: Mapping[str, str]
    role: Literal["plan", "act", "judge", "route"]
    cost_claimed: Money
    messages: Any
    output: Any
    tools_offered: Sequence[str]


class Retrieval(Common, total=False):
    documents: Sequence[Mapping[str, Any]]
    latency_us: int
    origin: Literal["trusted", "untrusted"]
    query: Any
    text: Any


class Memory(Common, total=False):
    purpose: str
    readers: Sequence[str]
    retention_days: int
    origin: Literal["trusted", "untrusted"]
    data_classes: Sequence[str]
    value: Any


class ToolSelection(Common, total=False):
    offered: Sequence[str]
    rationale: Any


class ToolCall(Common, total=False):
    schema_version: str
    access: Access
    risk: Risk
    reversible: bool
    idempotency_key: str
    attempt: int
    latency_us: int
    status: Literal["ok", "error", "timeout", "denied", "unknown"]
    effect: Effect
    data_classes: Sequence[str]
    destination: str
    dry_run: bool
    cost: Money
    input: Any
    output: Any
    diff: Any


class PolicyDecision(Common, total=False):
    policy: str
    rule: str
    bundle: str
    decision_id: str
    call: str
    decided_by: str
    input_digest: str
    input: Any


class ApprovalRequest(Common, total=False):
    risk: Risk
    blast_radius: str
    rollback_path: str
    trigger: Literal["rule", "risk", "anomaly", "missing_evidence", "budget"]
    expires: dt.datetime | str
    input: Any
    context: Any
    diff: Any


class ApprovalDecision(Common, total=False):
    call: str
    reviewer: str
    reviewer_kind: Literal["human", "system"]
    reason_code: str
    handling_us: int
    viewed_us: int
    input: Any


class Validator(Common, total=False):
    call: str
    expected: Any
    found: Any


class RoutingDecision(Common, total=False):
    candidates: Sequence[str]
    tier: str
    trigger: str
    fallback_from: str


class Delegation(Common, total=False):
    to_run: str
    scope: Sequence[str]
    depth: int
    budget: Mapping[str, Any]


class CredentialIssued(Common, total=False):
    mode: Literal["on_behalf_of", "workload", "static"]
    scopes: Sequence[str]
    ttl_seconds: int
    issuer: str
    environment: str
    tool: str


class HumanOverride(Common, total=False):
    by: str
    before: Any
    after: Any


class Retry(Common, total=False):
    cause: str


class ErrorMembers(Common, total=False):
    of: str
    retryable: bool
    message: Any


class FinalAction(Common, total=False):
    effect: Effect
    call: str
    summary: Any


class Rollback(Common, total=False):
    status: Literal["done", "failed", "partial"]
    effect: Effect


class Outcome(Common, total=False):
    by_system: str
    value: Money
    reopened: bool


class RunFinished(TypedDict, total=False):
    cost_claimed: Money
    output: Any
    reason: Any
    at: dt.datetime | None


class Kinds(Generic[R]):
    """A method a kind. R: what sending gives, the event's id or an awaitable of it."""

    def _send(self, kind: str, members: dict[str, Any]) -> R:
        raise NotImplementedError

    def model_call(self, *, provider: str, model: str, **more: Unpack[ModelCall]) -> R:
        return self._send("model_call", {"provider": provider, "model": model, **more})

    def retrieval(self, *, store: str, **more: Unpack[Retrieval]) -> R:
        return self._send("retrieval", {"store": store, **more})

    def memory_read(self, *, store: str, class_: str, record: str, **more: Unpack[Memory]) -> R:
        return self._send("memory_read", {"store": store, "class_": class_, "record": record, **more})

    def memory_write(self, *, store: str, class_: str, record: str, **more: Unpack[Memory]) -> R:
        return self._send("memory_write", {"store": store, "class_": class_, "record": record, **more})

    def memory_delete(self, *, store: str, class_: str, record: str, **more: Unpack[Memory]) -> R:
        return self._send("memory_delete", {"store": store, "class_": class_, "record": record, **more})

    def tool_selection(self, *, chosen: str, **more: Unpack[ToolSelection]) -> R:
        return self._send("tool_selection", {"chosen": chosen, **more})

    def tool_call(
        self,
        *,
        tool: str,
        call: str,
        phase: Literal["proposed", "validated", "started", "finished"] = "finished",
        **more: Unpack[ToolCall],
    ) -> R:
        return self._send("tool_call", {"tool": tool, "call": call, "phase": phase, **more})

    def policy_decision(
        self, *, decision: Literal["allow", "deny", "require_approval", "unknown"], **more: Unpack[PolicyDecision]
    ) -> R:
        return self._send("policy_decision", {"decision": decision, **more})

    def approval_request(self, *, approval: str, call: str, **more: Unpack[ApprovalRequest]) -> R:
        return self._send("approval_request", {"approval": approval, "call": call, **more})

    def approval_decision(
        self,
        *,
        approval: str,
        decision: Literal["approve", "reject", "edit", "expire"],
        **more: Unpack[ApprovalDecision],
    ) -> R:
        return self._send("approval_decision", {"approval": approval, "decision": decision, **more})

    def validator(self, *, rule: str, result: Literal["pass", "fail", "error"], **more: Unpack[Validator]) -> R:
        return self._send("validator", {"rule": rule, "result": result, **more})

    def routing_decision(self, *, chosen: str, **more: Unpack[RoutingDecision]) -> R:
        return self._send("routing_decision", {"chosen": chosen, **more})

    def delegation(self, *, to_agent: str, **more: Unpack[Delegation]) -> R:
        return self._send("delegation", {"to_agent": to_agent, **more})

    def credential_issued(self, *, credential: str, **more: Unpack[CredentialIssued]) -> R:
        return self._send("credential_issued", {"credential": credential, **more})

    def credential_revoked(self, *, credential: str, **more: Unpack[CredentialIssued]) -> R:
        return self._send("credential_revoked", {"credential": credential, **more})

    def human_override(self, *, of: str, **more: Unpack[HumanOverride]) -> R:
        return self._send("human_override", {"of": of, **more})

    def retry(self, *, of: str, attempt: int, **more: Unpack[Retry]) -> R:
        return self._send("retry", {"of": of, "attempt": attempt, **more})

    def error(self, *, class_: str, **more: Unpack[ErrorMembers]) -> R:
        return self._send("error", {"class_": class_, **more})

    def final_action(self, **more: Unpack[FinalAction]) -> R:
        return self._send("final_action", dict(more))

    def rollback(self, *, of: str, **more: Unpack[Rollback]) -> R:
        return self._send("rollback", {"of": of, **more})

    def outcome(
        self,
        *,
        outcome: str,
        work_item: Mapping[str, str],
        verified: Literal["true", "false", "pending"],
        **more: Unpack[Outcome],
    ) -> R:
        return self._send("outcome", {"outcome": outcome, "work_item": work_item, "verified": verified, **more})

    def event(self, kind: str, data: Mapping[str, Any], **more: Unpack[Common]) -> R:
        """Any kind, for those that have no method of their own."""
        return self._send(kind, {**data, **more})
