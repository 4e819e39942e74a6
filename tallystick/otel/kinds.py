"""What no convention of OpenTelemetry has yet: the policy's verdict, the person's, what was done in the end, what
became of it. Each function emits one log record, in the current span's trace and the current envelope's run.

Guarantees: they return at once, and raise nothing but the TypeError of a call with wrong arguments. What the ledger's
schema refuses becomes part of the entry's /raw there, and what it misses is named there; a kind that it rejects, a
value outside a closed set, and a float as an amount of money, are warned of here, once. Don't: tell whether
the record has arrived; OTLP is sent in batches, later. Where an action must not happen unless its authority is on the
record, use `tallystick.emit`.

Members are those of docs/kinds.md: `*` there is content, sealed and erasable in the ledger; `reviewer` and `by` are
persons, a reference in the ledger. On the way to it both stand in the log record: where the process also sends its logs
to another backend, `use` a provider that sends to the ledger only.
`class_` stands for `class`. `call` is the tool call's id (`gen_ai.tool.call.id`), which joins all that is about it.
"""

from __future__ import annotations

import datetime as dt
import inspect
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, Final, Literal, TypeAlias, TypedDict, Unpack, get_args, get_origin, get_type_hints

from opentelemetry import trace
from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber, get_logger
from opentelemetry.trace import Span

from .names import DATA, KIND, KINDS, PREFIX, Attribute, data_attributes, envelope_attributes, logger, warn_once

Amount: TypeAlias = Decimal | str | int
Risk: TypeAlias = Literal["low", "medium", "high", "critical"]
Origin: TypeAlias = Literal["trusted", "untrusted"]
MemoryClass: TypeAlias = Literal["working", "session", "durable", "shared", "forbidden"]

_SCOPE: Final = "tallystick.otel"
_told: Final[list[str]] = []
_used: Final[list[LoggerProvider]] = []
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://tallystick/ns/v1")  # docs/log-format.md, Ids


def use(logger_provider: LoggerProvider | None) -> None:
    """Emit through this provider from now on, in all threads; None: through the process's own, as at first."""
    _used[:] = [] if logger_provider is None else [logger_provider]


class Money(TypedDict):
    amount: Amount
    currency: str


class Effect(TypedDict, total=False):
    """What an action did in the world; all of it is public."""

    system: str
    resource: str
    action: str
    count: int
    amount: Amount
    currency: str


class Common(TypedDict, total=False):
    """What every kind can say. `run` and `at`: instead of the envelope's run and now. `data_subjects`: whose data it
    is, instead of the envelope's. `refs`: {"what", "id", "digest"} of documents, rules and clauses that justify it."""

    run: str | None
    at: dt.datetime | None
    data_subjects: str | Iterable[str] | None
    step: str | int | None
    refs: Sequence[Mapping[str, str]] | None
    reason: Any


class ToolCall(TypedDict, total=False):
    """What a tool's span can be told besides. All of it is public, but for `diff`."""

    access: Literal["read", "write"] | None
    risk: Risk | None
    reversible: bool | None
    idempotency_key: str | None
    attempt: int | None
    schema_version: str | None
    effect: Effect | None
    data_classes: Sequence[str] | None
    destination: str | None
    dry_run: bool | None
    cost: Money | None
    diff: Any


class PolicyDecision(Common, total=False):
    policy: str | None
    rule: str | None
    bundle: str | None
    decision_id: str | None
    call: str | None
    decided_by: str | None
    input_digest: str | None
    input: Any


class ApprovalRequest(Common, total=False):
    risk: Risk | None
    blast_radius: str | None
    rollback_path: str | None
    trigger: Literal["rule", "risk", "anomaly", "missing_evidence", "budget"] | None
    expires: dt.datetime | str | None
    input: Any
    context: Any
    diff: Any


class ApprovalDecision(Common, total=False):
    call: str | None
    reviewer: str | None
    reviewer_kind: Literal["human", "system"] | None
    reason_code: str | None
    handling_us: int | None
    viewed_us: int | None
    input: Any


class Memory(Common, total=False):
    purpose: str | None
    readers: Sequence[str] | None
    retention_days: int | None
    origin: Origin | None
    data_classes: Sequence[str] | None
    value: Any


class ToolSelection(Common, total=False):
    offered: Sequence[str] | None
    rationale: Any


class Validator(Common, total=False):
    call: str | None
    expected: Any
    found: Any


class RoutingDecision(Common, total=False):
    candidates: Sequence[str] | None
    tier: str | None
    trigger: str | None
    fallback_from: str | None


class Delegation(Common, total=False):
    to_run: str | None
    scope: Sequence[str] | None
    depth: int | None
    budget: Mapping[str, Any] | None


class Credential(Common, total=False):
    mode: Literal["on_behalf_of", "workload", "static"] | None
    scopes: Sequence[str] | None
    ttl_seconds: int | None
    issuer: str | None
    environment: Literal["production", "staging", "development", "test"] | None
    tool: str | None


class HumanOverride(Common, total=False):
    by: str | None
    before: Any
    after: Any


class FinalAction(Common, total=False):
    effect: Effect | None
    call: str | None
    summary: Any


class Rollback(Common, total=False):
    status: Literal["done", "failed", "partial"] | None
    effect: Effect | None


class Outcome(Common, total=False):
    by_system: str | None
    value: Money | None
    reopened: bool | None


def policy_decision(
    decision: Literal["allow", "deny", "require_approval", "unknown"], **more: Unpack[PolicyDecision]
) -> None:
    """What the policy said, by which rule of which bundle, about which call."""
    event("policy_decision", decision=decision, **more)


def approval_request(approval: str, call: str, **more: Unpack[ApprovalRequest]) -> None:
    """A person is asked about a call. `input`: its exact arguments; the ledger keeps their keyed digest in the clear,
    so that what was approved can be compared with what was executed."""
    event("approval_request", approval=approval, call=call, **more)


def approval_decision(
    approval: str, decision: Literal["approve", "reject", "edit", "expire"], **more: Unpack[ApprovalDecision]
) -> None:
    """What the reviewer answered. `approval` is the request's, also where the answer comes in another trace."""
    event("approval_decision", approval=approval, decision=decision, **more)


def describe_call(span: Span | None = None, **more: Unpack[ToolCall]) -> None:
    """Say of a tool call, in the tool, what its span (the current one) doesn't: that it writes, with which effect."""
    try:
        data = data_attributes("tool_call", more)
        _check("tool_call", data)
        (span or trace.get_current_span()).set_attributes(data)
    except Exception:  # as in `event`
        logger.warning("tool_call: not described", exc_info=True)


def final_action(**more: Unpack[FinalAction]) -> None:
    """What the run did in the end, in the world."""
    event("final_action", **more)


def rollback(of: str, **more: Unpack[Rollback]) -> None:
    """An action is undone. `of`: the call's id."""
    event("rollback", of=of, **more)


def outcome(
    outcome: str,
    work_item: Mapping[str, str],
    verified: Literal["true", "false", "pending"] | bool,
    **more: Unpack[Outcome],
) -> None:
    """What became of a work item, as the system says that keeps it. It joins runs by work item, also days later, also
    from another process."""
    event("outcome", outcome=outcome, work_item=work_item, verified=verified, **more)


def memory_read(store: str, class_: MemoryClass, record: str, **more: Unpack[Memory]) -> None:
    """A record was read from memory. `record` is public: an id, not a person's name."""
    event("memory_read", store=store, class_=class_, record=record, **more)


def memory_write(store: str, class_: MemoryClass, record: str, **more: Unpack[Memory]) -> None:
    """A record was written to memory."""
    event("memory_write", store=store, class_=class_, record=record, **more)


def memory_delete(store: str, class_: MemoryClass, record: str, **more: Unpack[Memory]) -> None:
    """A record was deleted from memory."""
    event("memory_delete", store=store, class_=class_, record=record, **more)


def tool_selection(chosen: str, **more: Unpack[ToolSelection]) -> None:
    """Which tool the agent chose, of which."""
    event("tool_selection", chosen=chosen, **more)


def validator(rule: str, result: Literal["pass", "fail", "error"], **more: Unpack[Validator]) -> None:
    """What a check of a result said."""
    event("validator", rule=rule, result=result, **more)


def routing_decision(chosen: str, **more: Unpack[RoutingDecision]) -> None:
    """Which model was chosen, or fallen back to."""
    event("routing_decision", chosen=chosen, **more)


def delegation(to_agent: str, **more: Unpack[Delegation]) -> None:
    """Work is handed to another agent, in the run `to_run`."""
    event("delegation", to_agent=to_agent, **more)


def credential_issued(credential: str, **more: Unpack[Credential]) -> None:
    """The agent was given a credential. `credential` is its id, never the secret."""
    event("credential_issued", credential=credential, **more)


def credential_revoked(credential: str, **more: Unpack[Credential]) -> None:
    """A credential ended before its time."""
    event("credential_revoked", credential=credential, **more)


def human_override(of: str, **more: Unpack[HumanOverride]) -> None:
    """A person put something else in the place of what the agent did. `of`: `event_id` of that span."""
    event("human_override", of=of, **more)


def event(
    kind: str,
    *,
    run: str | None = None,
    at: dt.datetime | None = None,
    data_subjects: str | Iterable[str] | None = None,
    **members: Any,
) -> None:
    """Any kind that a runtime may say, with its members: for those that have no function of their own.

    `event("error", class_="timeout", retryable=True, message="The bank did not answer.")`
    """
    try:
        said = envelope_attributes({"run_id": run, "data_subjects": data_subjects})
        data = data_attributes(kind, members)
        _check(kind, data)
        attributes: dict[str, Attribute] = {KIND: kind, **said, **data}
        record = LogRecord(
            timestamp=time.time_ns() if at is None else int(at.timestamp()) * 10**9 + at.microsecond * 1000,
            severity_number=SeverityNumber.INFO,
            attributes=attributes,
            event_name=PREFIX + kind,
        )
        sink = get_logger(_SCOPE, logger_provider=_used[0] if _used else None)
        sink.emit(record)
        if (enabled := getattr(sink, "enabled", None)) is not None and not enabled():  # from 1.45 on
            _tell_once(kind)
    except Exception:  # an exporter's, a processor's, an object's own code: none of it may reach the agent
        logger.warning("%s: not emitted", kind, exc_info=True)


def _check(kind: str, data: Mapping[str, Attribute]) -> None:
    """Warn of a kind that the ledger rejects, and of a value that the kind does not have: the ledger would keep it in
    /raw, as if nothing had been said."""
    if kind not in KINDS:
        warn_once(f"{kind:.100}", "no kind that a runtime may say; the ledger rejects it. docs/kinds.md has them")
    for name, words in _vocabulary(kind).items():
        value = data.get(DATA + name)
        if value is not None and value not in words:
            expected = ", ".join(str(word) for word in words if not isinstance(word, bool))
            warn_once(f"{kind}: {name}", f"expected one of {expected}, got {value!r:.200}; the ledger keeps it in /raw")


@cache
def _vocabulary(kind: str) -> dict[str, tuple[str | bool, ...]]:
    """The members of a kind that have closed sets of values, as its helper's signature says them."""
    function = describe_call if kind == "tool_call" else globals().get(kind)
    if kind in ("event", "use") or not inspect.isfunction(function):
        return {}
    hints = get_type_hints(function, include_extras=True)
    more = hints.pop("more", None)
    members = hints | (get_type_hints(more.__args__[0]) if more is not None else {})
    found = {name.rstrip("_"): _words(hint) for name, hint in members.items()}
    return {name: words for name, words in found.items() if words}


def _words(hint: Any) -> tuple[str | bool, ...]:
    """The values that a Literal, optional or with bool beside it, allows; none where any text is taken."""
    words: list[str | bool] = []
    for one in (hint, *get_args(hint)) if get_origin(hint) is not Literal else (hint,):
        if get_origin(one) is Literal:
            words += get_args(one)
        elif one is bool and hint is not bool:
            words += (True, False)
    return tuple(words) if any(isinstance(word, str) for word in words) else ()


def _tell_once(kind: str) -> None:
    if not _told:
        _told.append(kind)
        logger.warning("%s: there is no LoggerProvider that exports; nothing of the kind is recorded", kind)


def event_id(span: Span | None = None) -> str | None:
    """The id that the ledger gives to a span (the current one): what `of` and `refs` name. None outside any span."""
    at = (span or trace.get_current_span()).get_span_context()
    if not at.is_valid:
        return None
    ids = f"otlp\n{trace.format_trace_id(at.trace_id)}\n{trace.format_span_id(at.span_id)}"
    return str(uuid.uuid5(_NAMESPACE, ids))
