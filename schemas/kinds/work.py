"""Kinds of a run and its steps: what an agent did, with which model, tool, memory and text."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.fields import (
    Boolean,
    ByLedger,
    Content,
    Count,
    Currency,
    Decimal,
    Digest,
    EventRef,
    Microseconds,
    Moment,
    Name,
    Open,
    RunId,
    Text,
    Verified,
)
from schemas.kinds.common import (
    Amount,
    Autonomy,
    Common,
    Effect,
    Environment,
    Object,
    Origin,
    Risk,
    Versioned,
    WorkItem,
)


class Span(Common):
    name: Name
    class_: Literal["structure", "other", "log"] | None = Field(default=None, alias="class")
    latency_us: Microseconds | None = None
    status: Text | None = None


class RunStarted(Common):
    workflow: Text | None = None
    environment: Environment | None = None
    owner: Text | None = None
    autonomy: Autonomy | None = None
    contract: Digest | None = None
    policy_bundle: Digest | None = None
    prompt: Versioned | None = None
    model: Text | None = None
    tool_schemas: list[Versioned] | None = None
    budget: Open | None = None
    work_item: WorkItem | None = None
    parent_run: RunId | None = None
    root_run: RunId | None = None
    depth: Count | None = None
    release: Text | None = None
    trace_level: Text | None = None
    request: Content | None = None


class Price(Object):
    """What the ledger priced the call at, when it sealed it."""

    table: Name
    version: Name
    at: Moment
    currency: Currency
    input: Decimal
    output: Decimal
    amount: Decimal


class ModelCall(Common):
    provider: Name
    model: Name
    model_requested: Text | None = None
    operation: Literal["chat", "completion", "embedding"] | None = None
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    latency_us: Microseconds | None = None
    first_token_us: Microseconds | None = None
    finish_reason: Text | None = None
    attempt: Count | None = None
    status: Literal["ok", "error", "timeout"] | None = None
    region: Text | None = None
    prompt: Versioned | None = None
    role: Literal["plan", "act", "judge", "route"] | None = None
    cost_claimed: Amount | None = None
    price: Annotated[Price | None, ByLedger()] = None
    messages: Content | None = None
    output: Content | None = None
    tools_offered: list[Name] | None = None


class Document(Object):
    id: Text | None = None
    digest: Text | None = None
    version: Text | None = None
    score: Decimal | None = None


class Retrieval(Common):
    store: Name
    documents: list[Document] | None = None
    latency_us: Microseconds | None = None
    origin: Origin | None = None
    query: Content | None = None
    text: Content | None = None


class Memory(Common):
    """memory_read, memory_write and memory_delete."""

    store: Name
    class_: Literal["working", "session", "durable", "shared", "forbidden"] = Field(alias="class")
    record: Name
    purpose: Text | None = None
    readers: list[Name] | None = None
    retention_days: Count | None = None
    origin: Origin | None = None
    data_classes: list[Name] | None = None
    value: Content | None = None


class ToolSelection(Common):
    offered: list[Name] | None = None
    chosen: Name
    rationale: Content | None = None


class ToolCall(Common):
    tool: Name
    phase: Literal["proposed", "validated", "started", "finished"]
    call: Name
    schema_version: Text | None = None
    access: Literal["read", "write"] | None = None
    risk: Risk | None = None
    reversible: Boolean | None = None
    idempotency_key: Text | None = None
    attempt: Count | None = None
    latency_us: Microseconds | None = None
    status: Literal["ok", "error", "timeout", "denied", "unknown"] | None = None
    effect: Effect | None = None
    data_classes: list[Name] | None = None
    destination: Text | None = None
    arguments: Annotated[Text | None, ByLedger()] = None
    dry_run: Boolean | None = None
    cost: Amount | None = None
    input: Content | None = None
    output: Content | None = None
    diff: Content | None = None


class Validator(Common):
    rule: Name
    result: Literal["pass", "fail", "error"]
    call: Text | None = None
    expected: Content | None = None
    found: Content | None = None


class RoutingDecision(Common):
    candidates: list[Name] | None = None
    chosen: Name
    tier: Text | None = None
    trigger: Text | None = None
    fallback_from: Text | None = None


class Delegation(Common):
    to_agent: Name
    to_run: RunId | None = None
    scope: list[Name] | None = None
    depth: Count | None = None
    budget: Open | None = None


class Retry(Common):
    of: EventRef
    attempt: Count
    cause: Text | None = None


class Error(Common):
    class_: Name = Field(alias="class")
    of: EventRef | None = None
    retryable: Boolean | None = None
    message: Content | None = None


class FinalAction(Common):
    effect: Effect | None = None
    call: Text | None = None
    summary: Content | None = None


class Rollback(Common):
    of: Name  # a call, not an event
    status: Literal["done", "failed", "partial"] | None = None
    effect: Effect | None = None


class RunFinished(Common):
    status: Literal["success", "failure", "aborted", "handed_over"]
    cost_claimed: Amount | None = None
    total_latency_us: Microseconds | None = None
    output: Content | None = None


class Outcome(Common):
    outcome: Name
    work_item: WorkItem
    verified: Verified
    by_system: Text | None = None
    value: Amount | None = None
    reopened: Boolean | None = None
    at: Moment | None = None
