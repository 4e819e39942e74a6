"""Which members of a kind are read from which names: the rules as data.

A public member is taken in a form (`forms`), content with its exact text. Members that are put together from several
fields, or that stand in a span itself, are filled by the module of their kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ingest.otlp.mapping import clear, forms
from ingest.otlp.mapping import precedence as names
from ingest.otlp.mapping.precedence import Names
from ingest.otlp.mapping.said import Form, Said
from schemas.event import Draft


@dataclass(frozen=True, slots=True)
class Member:
    """A public member of a kind. `keep`: what it is read from stays for /raw too, since it says more."""

    member: str
    names: Names
    form: Form[Any]
    keep: bool = False


@dataclass(frozen=True, slots=True)
class ContentMember:
    """A content member of a kind. `as_json`: the ledger's keyed digest is made of it, so it must be JSON."""

    member: str
    names: Names
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Members:
    """What a kind reads."""

    public: tuple[Member, ...] = ()
    content: tuple[ContentMember, ...] = ()


OPERATIONS: Final[dict[str, str]] = {
    "chat": "chat",
    "generate_content": "chat",
    "chat.completions": "chat",
    "text_completion": "completion",
    "text.completions": "completion",
    "completion": "completion",
    "acompletion": "completion",
    "aembedding": "embedding",
    "embeddings": "embedding",
    "embedding": "embedding",
    "EMBEDDING": "embedding",
    "ai.embed.doEmbed": "embedding",
    "ai.embedMany.doEmbed": "embedding",
}


# What people answer when they are asked; any other word leaves the decision open.
ANSWERS: Final[dict[str, str]] = {
    "approve": "approve",
    "approved": "approve",
    "accept": "approve",
    "accepted": "approve",
    "confirm": "approve",
    "confirmed": "approve",
    "reject": "reject",
    "rejected": "reject",
    "deny": "reject",
    "denied": "reject",
    "edit": "edit",
    "modify": "edit",
    "expired": "expire",
}


def _answer(value: Any) -> str | None:
    return ANSWERS.get(value.lower()) if type(value) is str and len(value) < 64 else None


def _operation(value: Any) -> str | None:
    return OPERATIONS.get(value) if type(value) is str else None


MEMBERS: Final[dict[str, Members]] = {
    "model_call": Members(
        (
            Member("provider", names.PROVIDER, forms.provider),
            Member("model", names.MODEL, forms.model),
            Member("model_requested", names.MODEL_REQUESTED, forms.model),
            Member(
                "operation",
                (
                    "openinference.span.kind",
                    "langsmith.span.kind",
                    "gen_ai.operation.name",
                    "llm.request.type",
                    "ai.operationId",
                ),
                _operation,
                keep=True,
            ),
            Member("input_tokens", names.INPUT_TOKENS, forms.count),
            Member("output_tokens", names.OUTPUT_TOKENS, forms.count),
            Member("cache_read_tokens", names.CACHE_READ, forms.count),
            Member("cache_write_tokens", names.CACHE_WRITE, forms.count),
            Member("reasoning_tokens", names.REASONING, forms.count),
            Member("first_token_us", names.FIRST_TOKEN_SECONDS, forms.seconds),
            Member("first_token_us", names.FIRST_TOKEN_MILLISECONDS, forms.milliseconds),
            Member("finish_reason", names.FINISH_REASON, clear.reasons),
            Member("region", names.REGION, forms.name),
            Member("tools_offered", names.TOOLS_OFFERED, forms.tool_names, keep=True),
        ),
        (ContentMember("messages", names.INPUT_MESSAGES), ContentMember("output", names.OUTPUT_MESSAGES)),
    ),
    "tool_call": Members(
        (Member("tool", names.TOOL, forms.name), Member("call", names.CALL, forms.call_id)),
        (
            ContentMember("input", names.TOOL_INPUT, as_json=True),
            ContentMember("output", names.TOOL_OUTPUT),
        ),
    ),
    "retrieval": Members(
        (Member("store", names.STORE, clear.place),),
        (ContentMember("query", names.QUERY), ContentMember("text", names.RETRIEVED)),
    ),
    "memory_read": Members(
        (Member("store", names.MEMORY_STORE, forms.name), Member("record", names.MEMORY_RECORD, forms.name)),
        (ContentMember("value", names.MEMORY_VALUE),),
    ),
    "policy_decision": Members(
        (
            Member("rule", names.GUARDRAIL, forms.name),
            Member("policy", names.POLICY, forms.name),
            Member("decided_by", names.DECIDED_BY, forms.name),
            Member("call", names.CALL, forms.call_id),
            Member("decision_id", names.DECISION_ID, forms.name),
        ),
        (
            ContentMember("input", (*names.GUARDED, *names.REQUEST), as_json=True),
            ContentMember("reason", names.VERDICT_REASON),
        ),
    ),
    "approval_request": Members(
        (Member("approval", names.APPROVAL, forms.name), Member("call", names.CALL, forms.call_id)),
        (ContentMember("context", names.ASKED),),
    ),
    "approval_decision": Members(
        (
            Member("approval", names.APPROVAL, forms.name),
            Member("call", names.CALL, forms.call_id),
            Member("decision", names.ANSWER, _answer),
        ),
        (ContentMember("reason", names.ANSWER_REASON),),
    ),
    "validator": Members(
        (Member("rule", names.EVALUATION, forms.name), Member("call", names.CALL, forms.call_id)),
    ),
    "run_started": Members(
        (
            Member("workflow", names.WORKFLOW, forms.name),
            Member("model", ("tallystick.model", *names.MODEL), forms.model),
        ),
        (ContentMember("request", names.REQUEST),),
    ),
    "run_finished": Members((), (ContentMember("output", names.RESULT),)),
    "span": Members(),
}
for _same in ("memory_write", "memory_delete"):
    MEMBERS[_same] = MEMBERS["memory_read"]


def fill(said: Said, draft: Draft, kind: str) -> None:
    """Put into the draft what the item says of this kind's members."""
    members = MEMBERS[kind]
    data = draft.data
    for one in members.public:
        if said.direct and said.is_direct(one.member):
            continue
        value = said.peek(one.names, one.form) if one.keep else said.first(one.names, one.form)
        if value is not None and one.member not in data:
            data[one.member] = value
    for content in members.content:
        found = said.content("/" + content.member, content.names, as_json=content.as_json)
        if found is not None:
            draft.content.append(found)
