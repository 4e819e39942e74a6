"""What coding agents tell in log records, as drafts: model calls, tool calls and who let them happen."""

from __future__ import annotations

from ingest.otlp.mapping import calls, errors, forms
from ingest.otlp.mapping import precedence as names
from ingest.otlp.mapping.conventions import coding_agents
from ingest.otlp.mapping.item import Item
from schemas.event import Draft


def own(item: Item, event: coding_agents.Event) -> Draft:
    """The record's own draft; what follows from it is derived."""
    said = item.said
    item.latency_us = coding_agents.latency_us(said)
    item.failed = event.failed or coding_agents.succeeded(said) is False
    if event.kind == coding_agents.DECISION:
        return _decision(item)
    if event.kind == coding_agents.TOOL_CALL:
        return _tool_call(item)
    draft = calls.model_call(item)
    errors.errors(item, [])
    return draft


def _tool_call(item: Item) -> Draft:
    """A call that its runtime didn't let happen is no failure: it was proposed, and denied."""
    decided = coding_agents.decided(item.said) if "function_name" in item.said.attributes else None
    refused = decided is not None and decided.approved is False
    if refused:
        item.failed = False
    draft = calls.tool_call(item)
    if refused:
        draft.data.update(phase="proposed", status="denied")
    if decided is not None and decided.approved is not None:  # Gemini CLI: accepted by itself is another word
        answer = item.derive("approval_decision")
        answer.data["decision"] = "edit" if decided.edited else "approve" if decided.approved else "reject"
        answer.data["reviewer_kind"] = "human"
    errors.errors(item, [])
    return draft


def _decision(item: Item) -> Draft:
    """A person's is the answer to a question; a setting's or a hook's, a policy's."""
    decided = coding_agents.decided(item.said)
    draft = item.draft("approval_decision" if decided.by_person else "policy_decision")
    data = draft.data
    call = item.said.first(names.CALL, forms.call_id)
    if call is not None:
        data["call"] = call
    if decided.by_person:
        data["reviewer_kind"] = "human"
        if call is not None:
            data["approval"] = call
        if decided.approved is not None:
            data["decision"] = "approve" if decided.approved else "reject"
        if decided.source is not None:
            data["reason_code"] = decided.source
    else:
        data["decision"] = "unknown" if decided.approved is None else "allow" if decided.approved else "deny"
        if decided.source is not None:
            data["decided_by"] = decided.source
    return draft
