"""Model calls, tool calls, retrievals and memory: the kinds that a leaf span is."""

from __future__ import annotations

import re
from typing import Any, Final

from ingest.otlp.mapping import clear, forms
from ingest.otlp.mapping import precedence as names
from ingest.otlp.mapping.conventions import openai_agents, pydantic_ai
from ingest.otlp.mapping.item import Item
from ingest.otlp.mapping.members import fill
from ingest.otlp.mapping.said import Form
from schemas.event import Draft

DOCUMENTS_MAX: Final = 1024
# Told in US dollars.
_USD: Final = frozenset(names.COST) - {"gen_ai.usage.cost.amount"}
# Of the conventions that name tools and retrievers by their spans alone.
_NAMED_BY_SPAN: Final = (
    "openinference.span.kind",
    "langsmith.span.kind",
    "langfuse.observation.type",
    "mlflow.spanType",
)
_BEFORE_TOOL: Final = ("execute_tool ", "tools/call ", "running tool: ", "running output function: ")
_TIMEOUT: Final = re.compile(r"time.?out|timed.?out|deadline", re.IGNORECASE)
_TOOL_STATUS: Final = {"success": "ok", "ok": "ok", "error": "error", "denied": "denied", "timeout": "timeout"}


def status_of(item: Item) -> str:
    """ok, error, or timeout where the error's type says so."""
    if not item.failed:
        return "ok"
    told = item.said.get("error.type")
    return "timeout" if type(told) is str and len(told) < 256 and _TIMEOUT.search(told) else "error"


def model_call(item: Item) -> Draft:
    draft = item.draft("model_call")
    said, data = item.said, draft.data
    fill(said, draft, "model_call")
    if "finish_reason" not in data:
        told = finish_reason_of(said.get("gen_ai.output.messages"))
        if told is not None:
            data["finish_reason"] = told
    _latency(item, data)
    data["status"] = status_of(item)
    cost = claimed_cost(item)
    if cost is not None:
        data["cost_claimed"] = cost
    prompt = prompt_of(item)
    if prompt:
        data["prompt"] = prompt
    total = said.peek(names.TOTAL_TOKENS, forms.count)
    if total is not None and total == data.get("input_tokens", 0) + data.get("output_tokens", 0):
        said.first(names.TOTAL_TOKENS, forms.Equal(forms.count, total))
    return draft


def finish_reason_of(messages: Any) -> str | None:
    """The finish reasons in the model's messages, where they stand nowhere else."""
    if type(messages) is str:
        messages = forms.parsed(messages) if '"finish_reason"' in messages else None
    if type(messages) is not list:
        return None
    return clear.reasons([one.get("finish_reason") for one in messages if type(one) is dict])


def tool_call(item: Item) -> Draft:
    draft = item.draft("tool_call")
    said, data = item.said, draft.data
    fill(said, draft, "tool_call")
    if "tool" not in data:
        named = next((item.name[len(before) :] for before in _BEFORE_TOOL if item.name.startswith(before)), None)
        tool = clear.identifier(named)
        if tool is None:
            tool = said.first(("traceloop.entity.name",), forms.name) or _name_of_kind(item, clear.identifier)
        if tool is not None:
            data["tool"] = tool
    _latency(item, data)
    data["phase"] = "finished"
    status = status_of(item)
    told = said.first(names.TOOL_STATUS, _tool_status)
    data["status"] = told if told is not None and status == "ok" else status
    if said.attributes.get(pydantic_ai.FAILURE_STAGE) == "validation":
        data["phase"] = "proposed"  # its arguments were refused, it never ran
        said.used.add(pydantic_ai.FAILURE_STAGE)
    elif openai_agents.only_proposed(item):
        data["phase"] = "proposed"
        data["status"] = "unknown"
    elif said.attributes.get(pydantic_ai.DEFERRAL) == "CallDeferred":
        data["phase"] = "proposed"  # somebody else will make the call
        data["status"] = "unknown"
        said.used.add(pydantic_ai.DEFERRAL)
    return draft


def retrieval(item: Item) -> Draft:
    draft = item.draft("retrieval")
    fill(item.said, draft, "retrieval")
    _latency(item, draft.data)
    if "store" not in draft.data:
        name = _name_of_kind(item, clear.term)
        if name is not None:
            draft.data["store"] = name
    _keep_whole(item, names.STORE, draft.data.get("store"))
    documents = item.said.peek(names.DOCUMENTS, _documents)
    if documents:
        draft.data["documents"] = documents
    return draft


def memory(item: Item, kind: str) -> Draft:
    draft = item.draft(kind)
    fill(item.said, draft, kind)
    return draft


def claimed_cost(item: Item) -> dict[str, str] | None:
    """What the runtime says that it cost. An amount of no known currency stays for /raw."""
    said = item.said
    claimed: dict[str, str] | None = None
    for name in names.COST:
        amount = forms.decimal(said.get(name))
        if amount is None:
            continue
        if claimed is None:
            currency = "USD" if name in _USD else said.first(names.COST_CURRENCY, forms.currency)
            if currency is None:
                continue
            claimed = {"amount": amount, "currency": currency}
        elif claimed["amount"] != amount:
            continue
        said.use(name)
    return claimed


def prompt_of(item: Item) -> dict[str, str]:
    """Name, version and digest of the prompt, as far as told."""
    parts = {
        "name": item.envelope(names.PROMPT_NAME, forms.label),
        "version": item.envelope(names.PROMPT_VERSION, forms.label),
        "digest": item.envelope(names.PROMPT_DIGEST, forms.label),
    }
    return {part: value for part, value in parts.items() if value is not None}


def _latency(item: Item, data: dict[str, Any]) -> None:
    if item.latency_us is not None:
        data["latency_us"] = item.latency_us


def _tool_status(value: Any) -> str | None:
    return _TOOL_STATUS.get(value) if type(value) is str else None


def _keep_whole(item: Item, sources: names.Names, told: str | None) -> None:
    """Leave for /raw what stands in clear only in part."""
    attributes = item.said.attributes
    item.said.used.difference_update(name for name in sources if name in attributes and attributes[name] != told)


def _name_of_kind(item: Item, form: Form[str]) -> str | None:
    """The span's name, where the convention names the tool or retriever by it."""
    attributes = item.said.attributes
    return None if attributes.keys().isdisjoint(_NAMED_BY_SPAN) else form(item.name)


def _document_id(value: Any) -> str | None:
    return forms.label(value) if type(value) is int else clear.place(value)


def _documents(value: Any) -> list[dict[str, str]] | None:
    """Ids and scores of retrieved documents."""
    items = forms.parsed(value)
    if type(items) is not list:
        return None
    found = []
    for item in items[:DOCUMENTS_MAX]:
        if type(item) is not dict:
            continue
        document = item["document"] if type(item.get("document")) is dict else item
        told = {"id": _document_id(document.get("id")), "score": forms.decimal(document.get("score"))}
        present = {member: text for member, text in told.items() if text is not None}
        if present:
            found.append(present)
    return found or None
