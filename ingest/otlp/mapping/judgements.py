"""Who judged, and what was found: guardrails, evaluators, checks that failed, feedback of people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ingest.otlp.mapping import clear, forms
from ingest.otlp.mapping import precedence as names
from ingest.otlp.mapping.conventions import openinference, pydantic_ai
from ingest.otlp.mapping.forms import content
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
    "escalate": "require_approval",
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

FEEDBACK_MAX: Final = 64  # annotations of one span that become entries
# What a guardrail looked at: a tool's call, where the first says so.
_TARGETS: Final = (
    ("gen_ai.guardrail.target.subtype", "gen_ai.guardrail.target.id"),
    ("gen_ai.security.target.type", "gen_ai.security.target.id"),
)
_VERDICTS_SAID: Final = (*names.VERDICT, *names.TRIGGERED)
_EVALUATIONS_SAID: Final = (*names.EVALUATION, *names.EVALUATION_LABEL)


def policy_decision(item: Item) -> Draft:
    """A guardrail's span."""
    draft = item.draft("policy_decision")
    judge(item.said, draft)
    if "rule" not in draft.data:
        name = clear.term(item.name)
        if name is not None:
            draft.data["rule"] = name
    return draft


def judge(said: Said, draft: Draft) -> None:
    """The verdict that is said; unknown where none is."""
    fill(said, draft, "policy_decision")
    if "call" not in draft.data:
        for type_, id_ in _TARGETS:
            if said.attributes.get(type_) == "tool_call" and (call := said.first((id_,), forms.call_id)) is not None:
                draft.data["call"] = call
                said.used.add(type_)
                break
    draft.data["decision"] = _decision(said)


def _decision(said: Said) -> str:
    triggered = said.first(names.TRIGGERED, forms.boolean)
    told = None if triggered is None else "deny" if triggered else "allow"
    return said.first(names.VERDICT, _verdict) or told or "unknown"


def validator(item: Item) -> Draft:
    """An evaluator's span."""
    draft = item.draft("validator")
    evaluate(item.said, draft)
    if "rule" not in draft.data:
        name = clear.term(item.name)
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


def retries(item: Item) -> None:
    """Why output or a call was asked for again: the check that failed, and the retry where there was one more."""
    said = item.said
    for beginning in pydantic_ai.RETRIES:
        told = said.get(f"{beginning}.cause")
        if type(told) is not str or not told:
            continue
        cause = said.first((f"{beginning}.cause",), clear.term)  # None: a text, which stays in /raw
        if beginning == pydantic_ai.OUTPUT_RETRY or cause == "validation_error":  # else the tool itself asked again
            failed = item.derive("validator")
            failed.data["result"] = "fail"
            if cause is not None:
                failed.data["rule"] = cause
            call = said.first(names.CALL, forms.call_id)
            if call is not None:
                failed.data["call"] = call
        attempt = said.first((f"{beginning}.attempt",), forms.count)
        if attempt is not None:
            again = item.derive("retry")
            again.data.update(of=item.id, attempt=attempt)
            if cause is not None:
                again.data["cause"] = cause


def beside(item: Item, own_kind: str) -> None:
    """Verdicts and evaluations that a span of another kind carries."""
    attributes = item.said.attributes
    if own_kind != "policy_decision" and not attributes.keys().isdisjoint(_VERDICTS_SAID):
        draft = item.derive("policy_decision")
        for member, source in (("rule", names.GUARDRAIL), ("policy", names.POLICY), ("decided_by", names.DECIDED_BY)):
            value = item.said.first(source, forms.name)
            if value is not None:
                draft.data[member] = value
        draft.data["decision"] = _decision(item.said)
    if own_kind != "validator" and not attributes.keys().isdisjoint(_EVALUATIONS_SAID):
        evaluate(item.said, item.derive("validator"))
    if _is_human(attributes.get("annotation.annotator_kind")) or _is_human(attributes.get("evaluation.annotator_kind")):
        _override(item, item.parent or item.id if own_kind == "validator" else item.id, _flat(attributes))


def feedback(item: Item) -> None:
    """What people and evaluators said of the span afterwards, in lists: a person's is an override, any other a
    validator. What would be too much stays for /raw."""
    told = openinference.feedback(item.said)
    if len(told) > FEEDBACK_MAX:
        return
    openinference.take_feedback(item.said)
    for one in told:
        if _is_human(one.get("annotator_kind")):
            _override(item, item.id, one)
            continue
        draft = item.derive("validator")
        rule, result = forms.name(one.get("name")), _result(one.get("label"))
        if rule is not None:
            draft.data["rule"] = rule
        if result is not None:
            draft.data["result"] = result
        draft.content.append(content("/found", one))


def _override(item: Item, of: str, said: Mapping[str, Any]) -> None:
    draft = item.derive("human_override")
    draft.data["of"] = of
    draft.content.append(content("/after", dict(said)))


def _flat(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if name.startswith(("annotation.", "evaluation."))}


def _is_human(kind: Any) -> bool:
    return type(kind) is str and kind.upper() == "HUMAN"


def _verdict(value: Any) -> str | None:
    return VERDICTS.get(value.lower()) if type(value) is str and len(value) < 64 else None


def _result(value: Any) -> str | None:
    return RESULTS.get(value.lower()) if type(value) is str and len(value) < 64 else None
