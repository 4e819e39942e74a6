"""Approvals: a deferred call becomes a request, a person's answer, and the result that Pydantic AI goes on with.

The person is a function here, since a demo must end by itself; the record can't tell, and the demo says so. Where the
reviewer has a key, the decision is attested: signed by the reviewer, not by the runtime that reports it.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic_ai import DeferredToolRequests, DeferredToolResults

from ledger.content import lp
from schemas.canonical import normal_form
from tallystick.demo.recorder import Desk
from tallystick.emit import AsyncEmitter
from tallystick.emit.encode import encode_data, uuid7

ATTESTATION_DOMAIN: Final = lp(b"tallystick/attestation/v1")
EXPIRES: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Reviewer:
    """A person who approves, and why. `key_id` and `key`: what they sign with, where they have one."""

    name: str
    reason: str
    key_id: str | None = None
    key: Ed25519PrivateKey | None = None


async def approve(
    desk: Desk, emitter: AsyncEmitter, tenant: str, reviewer: Reviewer, asked: DeferredToolRequests
) -> DeferredToolResults:
    """Ask the reviewer about every deferred call; what was asked and what was answered is on the record."""
    results = DeferredToolResults()
    for call in asked.approvals:
        arguments = call.args_as_dict()
        approval = f"approval-{call.tool_call_id}"
        began = time.perf_counter_ns()
        requested = desk.run.approval_request(
            approval=approval,
            call=call.tool_call_id,
            risk="medium",
            blast_radius="one customer, one payment",
            rollback_path="payments.reverse",
            trigger="rule",
            expires=datetime.now(UTC) + EXPIRES,
            input=arguments,
            context=desk.ticket.text,
            diff=f"order {arguments['order']}: {call.tool_name} of {arguments['amount']}",
            reason="The policy asks for a person.",
            refs=[{"what": "rule", "id": asked.metadata[call.tool_call_id]["rule"]}],
        )
        took = (time.perf_counter_ns() - began) // 1000
        data: dict[str, Any] = {
            "actor": desk.actor,
            "approval": approval,
            "call": call.tool_call_id,
            "decision": "approve",
            "reviewer": reviewer.name,
            "reviewer_kind": "human",
            "reason_code": "goods_broken",
            "handling_us": took,
            "reason": reviewer.reason,
            "refs": [{"what": "ticket", "id": desk.ticket.ticket}],
            "session": desk.ticket.ticket,
            "parent": requested,
        }
        event_id = uuid7()
        data |= attestation(reviewer, tenant, "approval_decision", event_id, data)
        # On the record before anything is done on the strength of it.
        await emitter.record(
            "approval_decision", data, run=desk.run.id, event_id=event_id, data_subjects=(desk.ticket.customer,)
        )
        desk.approved[call.tool_call_id] = arguments
        results.approvals[call.tool_call_id] = True
    return results


def attestation(
    reviewer: Reviewer, tenant: str, kind: str, event_id: str, data: dict[str, Any]
) -> dict[str, dict[str, str]]:
    """The member `attestation` of an event (docs/kinds.md), or nothing where the reviewer has no key."""
    if reviewer.key is None or reviewer.key_id is None:
        return {}
    parts = (tenant.encode(), kind.encode(), event_id.encode(), normal_form(encode_data(data)))
    signature = reviewer.key.sign(ATTESTATION_DOMAIN + b"".join(map(lp, parts)))
    value = base64.b64encode(signature).decode()
    return {"attestation": {"by": reviewer.name, "key": reviewer.key_id, "value": value}}
