"""Every kind of kinds.md is there, with its members and marks; examples hold; published schemas are the models'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas import publish
from schemas.compile import Shape
from schemas.errors import Rejection, SchemaError
from schemas.event import Event
from schemas.kinds import KINDS, TYPES
from schemas.normalize import normalize_structured
from schemas.sealed import check_leaf_data

EXAMPLES = Path(publish.__file__).parent / "examples"
FILES = sorted(EXAMPLES.glob("*/*.json"))

# kinds.md, row by row: `*` content, `@` person, `!` required, `+` set by the ledger.
TABLE = """
span: name! class latency_us status
run_started: workflow environment owner autonomy contract policy_bundle prompt model tool_schemas budget work_item
  parent_run root_run depth release trace_level request* session
model_call: provider! model! model_requested operation input_tokens output_tokens cache_read_tokens cache_write_tokens
  reasoning_tokens latency_us first_token_us finish_reason attempt status region prompt role cost_claimed price+
  messages* output* tools_offered
retrieval: store! documents latency_us origin query* text*
memory_read memory_write memory_delete: store! class! record! purpose readers retention_days origin data_classes value*
tool_selection: offered chosen! rationale*
tool_call: tool! phase! call! schema_version access risk reversible idempotency_key attempt latency_us status effect
  data_classes destination arguments+ dry_run cost input* output* diff*
policy_decision: decision! policy rule bundle decision_id call decided_by input_digest input*
approval_request: approval! call! risk blast_radius rollback_path trigger expires arguments+ input* context* diff*
approval_decision: approval! call decision! reviewer@ reviewer_kind reason_code arguments+ handling_us viewed_us input*
validator: rule! result! call expected* found*
routing_decision: candidates chosen! tier trigger fallback_from
delegation: to_agent! to_run scope depth budget
credential_issued credential_revoked: credential! mode scopes ttl_seconds issuer environment tool
human_override: of! by@ before* after*
retry: of! attempt! cause
error: class! of retryable message*
final_action: effect call summary*
rollback: of! status effect
run_finished: status! cost_claimed total_latency_us output*
outcome: outcome! work_item! verified! by_system value reopened at
evaluation: suite! subject! score threshold pass cases run_kind
release: agent! version! stage share changed evaluations
contract_applied tool_registered policy_published: name! version digest! commit author@ approver@ document*
autonomy_changed: agent! from to! trigger by@
kill_switch: target! action! state! by@ drill
incident: incident! state! findings by@
producer_gap: src! from! to! count cause
budget_breach violation: rule! rule_version severity subject_of entries! limit value
"""
COMMON = [
    "actor",
    "trace",
    "session",
    "step",
    "parent",
    "refs",
    "reason*",
    "attestation",
    "ce_source+",
    "missing+",
    "overflow+",
    "vouched+",
    "from+",
]
LEDGER_ONLY = [
    "rejected",
    "conflict",
    "intake",
    "source_gap",
    "erasure",
    "legal_hold",
    "key_rotated",
    "producer_key",
    "tenant",
    "run_head",
    "export_made",
    "content_disclosed",
    "log_continued",
    "prune",
    "period_closed",
    "correction",
]


def _rows() -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    for line in TABLE.strip().replace("\n  ", " ").splitlines():
        kinds, _, members = line.partition(":")
        rows |= {kind: members.split() for kind in kinds.split()}
    return rows


def test_every_kind_is_there_and_says_who_may_send_it() -> None:
    assert set(KINDS) == set(_rows()) | set(LEDGER_ONLY)
    assert {name for name, kind in KINDS.items() if kind.ledger_only} == set(LEDGER_ONLY)
    assert {name for name, kind in KINDS.items() if kind.control_only} == {
        "contract_applied",
        "tool_registered",
        "policy_published",
        "kill_switch",
        "incident",
    }
    assert {name for name, kind in KINDS.items() if kind.findings_only} == {"budget_breach", "violation"}
    assert TYPES["tallystick.tool_call.v1"] is KINDS["tool_call"]


@pytest.mark.parametrize(("kind", "members"), _rows().items())
def test_members_and_marks_are_those_of_the_specification(kind: str, members: list[str]) -> None:
    own = {member.rstrip("!*@+") for member in members}
    stated = members + [member for member in COMMON if member.rstrip("*+") not in own]
    known = KINDS[kind]
    assert known.members == {member.rstrip("!*@+") for member in stated}
    assert known.content_fields == {member[:-1] for member in stated if member.endswith("*")}
    assert known.person_fields == {member[:-1] for member in stated if member.endswith("@")}
    assert set(known.required) == {member[:-1] for member in stated if member.endswith("!")}
    assert set(known.shape.by_ledger) == {member[:-1] for member in stated if member.endswith("+")}


def test_each_kind_has_a_golden_and_three_refused_examples() -> None:
    for name in KINDS:
        files = [path.name for path in FILES if path.parent.name == name]
        assert "golden.json" in files
        assert sum(file.startswith("refused-") for file in files) == 3
    assert {path.parent.name for path in FILES} == set(KINDS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_examples(path: Path) -> None:
    example = json.loads(path.read_bytes())
    if "refused" in example and "record" in example:
        with pytest.raises(Rejection) as caught:
            normalize_structured(json.dumps(example["record"]).encode())
        assert caught.value.code == example["refused"]
    elif "refused" in example:
        with pytest.raises(SchemaError):
            check_leaf_data(path.parent.name, example["data"])
    elif "record" in example:
        event = normalize_structured(json.dumps(example["record"], separators=(",", ":")).encode())
        assert _shown(event) == example["becomes"]
        check_leaf_data(event.kind, _with_references(event))
    else:
        check_leaf_data(path.parent.name, example["data"])


def _shown(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "kind": event.kind,
        "run": event.run,
        "src": event.src,
        "time": event.time,
        "tenant": event.tenant,
        "actor": event.actor,
        "data": event.data,
        "content": {content.pointer: content.value.decode() for content in event.content},
        "persons": dict(event.persons),
        "subjects": list(event.subjects),
        "raw_unmapped": event.raw_unmapped,
    }


def _with_references(event: Event) -> dict[str, Any]:
    """`data` as the ledger seals it: persons as references."""
    data = dict(event.data)
    for pointer, _ in event.persons:
        if pointer.count("/") == 1:
            data[pointer[1:]] = "p:" + "0" * 32
    return data


def test_sealed_data_refuses_what_a_leaf_may_not_hold() -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"name": "x", "reason": "y"}, "content"),
        ({"name": "x", "colour": "y"}, "known member"),
        ({"name": "x", "trace": {"colour": "y"}}, "unknown members"),
        ({"name": "x", "latency_us": None}, "integer"),
        ({"name": "x", "status": 1}, "string"),
        ({}, "missing"),
    ]
    for data, expected in refused:
        with pytest.raises(SchemaError, match=expected):
            check_leaf_data("span", data)
    with pytest.raises(SchemaError, match="normal form"):
        check_leaf_data("run_finished", {"status": "success", "cost_claimed": {"amount": "1e3", "currency": "USD"}})
    with pytest.raises(SchemaError, match="known kind"):
        check_leaf_data("thought", {})
    check_leaf_data("span", {"missing": ["name"], "vouched": "claimed", "from": "span"})


def test_published_schemas_have_not_drifted() -> None:
    made = {name: publish.text(document) for name, document in publish.documents().items()}
    there = {path.name: path.read_text() for path in publish.PUBLISHED.glob("*.json")}
    assert there == made, "run: python -m schemas"


def test_writing_them_again_changes_nothing_and_removes_what_is_gone(tmp_path: Path) -> None:
    (tmp_path / "thought.v1.json").write_text("{}")
    assert len(publish.write(tmp_path)) == len(publish.documents()) + 1
    assert publish.write(tmp_path) == []
    assert not (tmp_path / "thought.v1.json").exists()


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_the_published_schema_tells_public_content_and_person_apart(kind: Any) -> None:
    schema = json.loads((publish.PUBLISHED / f"{kind.name}.v1.json").read_text())
    assert schema["x-tallystick-speaker"] == kind.speaker
    marks = {name: property_["x-tallystick"] for name, property_ in schema["properties"].items()}
    assert set(marks) == kind.members
    assert {name for name, mark in marks.items() if mark == "content"} == kind.content_fields
    assert {name for name, mark in marks.items() if mark == "person"} == kind.person_fields
    assert {name for name, one in schema["properties"].items() if one.get("readOnly")} == set(kind.shape.by_ledger)
    assert set(schema.get("required", [])) == set(kind.required)
    assert schema["$defs"]["Actor"]["properties"]["principal"]["x-tallystick"] == "person"
    assert schema["$defs"]["Attestation"]["properties"]["by"]["x-tallystick"] == "person"


def test_no_content_hides_inside_a_public_object() -> None:
    """Only `data`'s own members are content; the split relies on it."""

    def walk(shape: Shape) -> None:
        for nested in shape.nested.values():
            assert not nested.shape.content
            walk(nested.shape)

    for kind in KINDS.values():
        walk(kind.shape)
        named = {name for name, nested in kind.shape.nested.items() if nested.shape.persons}
        assert named == {"actor", "attestation"}
