"""Who was asked, who judged, what was found: guardrails, validators, approvals, retries, routing, feedback."""

from __future__ import annotations

from typing import Any, Final

from ingest.otlp.mapping import forms
from ingest.otlp.mapping import precedence as names
from ingest.otlp.mapping.conventions import agent_framework, langgraph, openinference, pydantic_ai, strands
from ingest.otlp.mapping.forms import Json, content
from ingest.otlp.mapping.item import Item
from ingest.otlp.mapping.members import fill
from ingest.otlp.mapping.said import Said
from schemas.event import Draft

# What guardrails say, as our verdicts. Whatever else they say is no verdict (rule 10).
VERDICTS: Final[dict[str, str]] = {
    "allow": "allow",
    "allowed": "allow",
    "pass": "allow",
    "passed": "allow",
    "permit": "allow",
    "block": "deny",
    "blocked": "deny",
    "denied": "deny",
    "deny": "deny",
    "guardrail_intervened": "deny",
    "reject": "deny",
    "rejected": "deny",
    "require_approval": "require_approval",
}
RESULTS: Final[dict[str, str]] = {
    "pass": "pass",
    "passed": "pass",
    "fail": "fail",
    "failed": "fail",
    "error": "error",
}


def policy_decision(item: Item) -> Draft:
    """A guardrail's span."""
    draft = item.draft("policy_decision")
    judge(item.said, draft)
    if "rule" not in draft.data:
        name = forms.name(item.name)
        if name is not None:
            draft.data["rule"] = name
    return draft


def judge(said: Said, draft: Draft) -> None:
    """The verdict that is said; unknown where none is."""
    fill(said, draft, "policy_decision")
    triggered = said.first(names.TRIGGERED, forms.boolean)
    told = None if triggered is None else "deny" if triggered else "allow"
    draft.data["decision"] = said.first(names.VERDICT, _verdict) or told or "unknown"


def validator(item: Item) -> Draft:
    """An evaluator's span."""
    draft = item.draft("validator")
    evaluate(item.said, draft)
    if "rule" not in draft.data:
        name = forms.name(item.name)
        if name is not None:
            draft.data["rule"] = name
    return draft


def evaluate(said: Said, draft: Draft) -> None:
    """An evaluation's name and result. Score, label and explanation are its finding; only a label that says so is a
    result."""
    fill(said, draft, "validator")
    found: dict[str, Any] = {}
    for name in (*names.EVALUATION_LABEL, *names.EVALUATION_PARTS):
        if name in said.attributes:
            found[name] = said.attributes[name]
            said.used.add(name)
    result = next((result for name in names.EVALUATION_LABEL if (result := _result(found.get(name)))), None)
    if result is not None:
        draft.data["result"] = result
    if found:
        draft.content.append(content("/found", found))


def approval_of_span(item: Item, decision: str | None) -> Draft:
    """A tool's span that only asked for approval, or (with a decision) was refused: the tool did not run."""
    said = item.said
    draft = item.draft("approval_request" if decision is None else "approval_decision")
    call = said.first(names.CALL, forms.call_id)
    if call is not None:
        draft.data["approval"] = draft.data["call"] = call
    arguments = said.content("/input", names.TOOL_INPUT, as_json=True)
    if decision is None:
        if arguments is not None:
            draft.content.append(arguments)
        draft.content.append(content("/context", _asking(said)))
        said.used.add(pydantic_ai.DEFERRAL)
    else:
        draft.data["decision"] = decision
        draft.time = item.end
        reason = said.content("/reason", names.TOOL_OUTPUT)
        if reason is not None:
            draft.content.append(reason)
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
        draft = item.derive("approval_decision", time=item.end)
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


def retries(item: Item) -> None:
    """Why output or a call was asked for again: the check that failed, and the retry where there was one more."""
    said = item.said
    for beginning in pydantic_ai.RETRIES:
        cause = said.first((f"{beginning}.cause",), forms.name)
        if cause is None:
            continue
        if beginning == pydantic_ai.OUTPUT_RETRY or cause == "validation_error":  # else the tool itself asked again
            failed = item.derive("validator")
            failed.data.update(rule=cause, result="fail")
            call = said.first(names.CALL, forms.call_id)
            if call is not None:
                failed.data["call"] = call
        attempt = said.first((f"{beginning}.attempt",), forms.count)
        if attempt is not None:
            again = item.derive("retry")
            again.data.update(of=item.id, attempt=attempt, cause=cause)


def routing(item: Item) -> None:
    """Where a graph's node went next."""
    for goto in item.said.first(names.GOTO, forms.names) or ():
        if item.full:
            return
        item.derive("routing_decision").data["chosen"] = goto


def feedback(item: Item) -> None:
    """What people and evaluators said of the span afterwards: a person's is an override, any other a validator."""
    for told in openinference.feedback(item.said):
        if item.full:
            return
        kind = told.get("annotator_kind")
        if type(kind) is str and kind.upper() == "HUMAN":
            draft = item.derive("human_override")
            draft.data["of"] = item.id
            draft.content.append(content("/after", told))
            continue
        draft = item.derive("validator")
        rule, result = forms.name(told.get("name")), _result(told.get("label"))
        if rule is not None:
            draft.data["rule"] = rule
        if result is not None:
            draft.data["result"] = result
        draft.content.append(content("/found", told))


def _verdict(value: Any) -> str | None:
    return VERDICTS.get(value.lower()) if type(value) is str and len(value) < 64 else None


def _result(value: Any) -> str | None:
    return RESULTS.get(value.lower()) if type(value) is str and len(value) < 64 else None
