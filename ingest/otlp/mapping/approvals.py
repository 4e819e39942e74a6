"""Approvals that runtimes ask for and answer (rules 2 and 3), calls left to others, and where a graph goes next."""

from __future__ import annotations

from typing import Any, Final

from ingest.otlp.mapping import clear, forms
from ingest.otlp.mapping import precedence as names
from ingest.otlp.mapping.conventions import agent_framework, google_adk, langgraph, pydantic_ai, strands
from ingest.otlp.mapping.forms import Json, content
from ingest.otlp.mapping.item import Item
from ingest.otlp.mapping.members import fill
from ingest.otlp.mapping.said import Said
from schemas.event import Draft

GOTO_MAX: Final = 64  # nodes that one command goes to


def of_tool(item: Item) -> Draft | None:
    """The entry of a tool's span that only asked for approval or was refused; None for one that ran."""
    said = item.said
    if said.attributes.get(pydantic_ai.DEFERRAL) == "ApprovalRequired":
        return _asked(item)
    confirmation = google_adk.confirmation(said)
    if confirmation is None:
        return None
    return _asked(item) if confirmation == "asked" else _refused(item)


def _asked(item: Item) -> Draft:
    draft = _of_call(item, "approval_request")
    arguments = item.said.content("/input", names.TOOL_INPUT, as_json=True)
    if arguments is not None:
        draft.content.append(arguments)
    draft.content.append(content("/context", _asking(item.said)))
    item.said.used.add(pydantic_ai.DEFERRAL)
    return draft


def _refused(item: Item) -> Draft:
    draft = _of_call(item, "approval_decision")
    draft.data["decision"] = "reject"
    draft.time = item.end
    reason = item.said.content("/reason", names.TOOL_OUTPUT)
    if reason is not None:
        draft.content.append(reason)
    return draft


def _of_call(item: Item, kind: str) -> Draft:
    draft = item.draft(kind)
    call = item.said.first(names.CALL, forms.call_id)
    if call is not None:
        draft.data["approval"] = draft.data["call"] = call
    return draft


def asked(item: Item) -> Draft:
    """The entry of a span that is a question to a person."""
    draft = item.draft("approval_request")
    fill(item.said, draft, "approval_request")
    return draft


def decided(item: Item) -> Draft:
    """The entry of a span that is the answer to such a question, or question and answer in one."""
    draft = item.draft("approval_decision")
    draft.time = item.end
    fill(item.said, draft, "approval_decision")
    if "approval" not in draft.data and "call" in draft.data:
        draft.data["approval"] = draft.data["call"]
    if draft.data.get("decision") == "edit":
        override = item.derive("human_override", time=item.end)
        override.data["of"] = draft.id
        override.content += [content("/after", one.value.decode()) for one in draft.content]
    return draft


def _asking(said: Said) -> dict[str, Any]:
    """Which tool asked, and with which words."""
    asking: dict[str, Any] = {}
    tool = said.first(names.TOOL, forms.name)
    if tool is not None:
        asking["tool"] = tool
    for name in (pydantic_ai.DEFERRAL_METADATA, *names.TOOL_OUTPUT[:1], "gcp.vertex.agent.tool_response"):
        if name in said.attributes:
            asking[name] = said.attributes[name]
            said.used.add(name)
    return asking


def deferred_calls(item: Item) -> None:
    """Approvals that a run ended with, and calls that it left to others."""
    for call in pydantic_ai.deferred(item.said):
        if item.full:
            return
        if call.approval:
            draft = item.derive("approval_request", time=item.end)
            draft.content.append(content("/context", Json(call.text)))
            if call.call is not None:
                draft.data["approval"] = call.call
        else:
            draft = item.derive("tool_call", time=item.end)
            draft.data.update(phase="proposed", status="unknown")
            if call.tool is not None:
                draft.data["tool"] = call.tool
        if call.call is not None:
            draft.data["call"] = call.call
        if call.arguments is not None:
            draft.content.append(content("/input", call.arguments, as_json=True))
    for interrupt in strands.interrupts(item):
        if item.full:
            return
        draft = item.derive("approval_request", time=item.end)
        draft.data["approval"] = interrupt.approval
        if interrupt.call is not None:
            draft.data["call"] = interrupt.call
    for asked in agent_framework.requested(item.said):
        if item.full:
            return
        _approval(item.derive("approval_request", time=item.end), asked)


def _approval(draft: Draft, told: agent_framework.Approval) -> None:
    if told.approval is not None:
        draft.data["approval"] = told.approval
    if told.call is not None:
        draft.data["call"] = told.call
    if told.arguments is not None:
        draft.content.append(content("/input", told.arguments, as_json=True))


def answered_calls(item: Item) -> None:
    """Answers with which a run went on: decisions about approvals asked for by an earlier one."""
    for given in agent_framework.answered(item.said):
        if item.full:
            return
        draft = item.derive("approval_decision", time=None if given.approved else item.end)
        draft.data["decision"] = "approve" if given.approved else "reject"
        _approval(draft, given)
    for answer in pydantic_ai.answers(item.said):
        if item.full:
            return
        # A denial stands at the end; what was decided of another answer isn't known, and it stood in this run's input.
        draft = item.derive("approval_decision", time=item.end if answer.denied else None)
        draft.data["approval"] = draft.data["call"] = answer.call
        if answer.denied:
            draft.data["decision"] = "reject"
            if answer.text is not None:
                draft.content.append(content("/reason", answer.text))
    for approval in strands.answered(item):
        if item.full:
            return
        item.derive("approval_decision").data["approval"] = approval
    resumed_graphs(item)


def resumed_graphs(item: Item) -> None:
    """The answers with which a graph was resumed, which may be an agent's or any other's."""
    for resumed in langgraph.resumed(item.said):
        if item.full:
            return
        draft = item.derive("approval_decision")
        if resumed.approval is not None:
            draft.data["approval"] = resumed.approval
        if resumed.decision is not None:
            draft.data["decision"] = resumed.decision
        draft.content.append(content("/reason", Json(resumed.answer)))
        if resumed.edited:  # only an edit has arguments of its own
            draft.content.append(content("/input", Json(resumed.edited)))
        if resumed.decision == "edit":
            override = item.derive("human_override")
            override.data["of"] = draft.id
            override.content.append(content("/after", Json(resumed.answer)))


def routing(item: Item) -> None:
    """Where a graph's node went next."""
    found = item.said.peek(names.GOTO, clear.terms)
    if found is None or len(found) > GOTO_MAX:
        return
    item.said.first(names.GOTO, forms.Equal(clear.only_terms, found))
    candidates = item.said.first(names.CANDIDATES, clear.only_terms)
    for goto in found:
        data = item.derive("routing_decision").data
        data["chosen"] = goto
        if candidates is not None:
            data["candidates"] = candidates
