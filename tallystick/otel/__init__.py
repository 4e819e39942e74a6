"""What an agent runtime that speaks OpenTelemetry adds to it: whose run it is, and what no convention can say.

    from tallystick import otel

    otel.start(service="support", agent="support-desk", version="1.4.0")  # or add the processors to your providers
    with otel.envelope(principal="ann@example.org", work_item={"system": "desk", "id": "T-1881"}):
        ...  # the agent, instrumented as it is
        otel.policy_decision("allow", rule="refund-small", bundle="sha256:…", call=tool_call_id)

Imports opentelemetry-api, -sdk and, in `start`, the OTLP exporters (the extra `tallystick[otel]`), and nothing of ours.
docs/runtimes/index.md is the guide, docs/otlp-attributes.md lists the attributes.

Reading order: names (attributes), envelope (what holds in a block), processors, kinds (what is emitted), setup.
"""

from .names import install_hint

try:
    from .envelope import Envelope, Members, Reach, child, envelope, resource_attributes
    from .kinds import (
        Effect,
        Money,
        approval_decision,
        approval_request,
        credential_issued,
        credential_revoked,
        delegation,
        describe_call,
        event,
        event_id,
        final_action,
        human_override,
        memory_delete,
        memory_read,
        memory_write,
        outcome,
        policy_decision,
        rollback,
        routing_decision,
        tool_selection,
        use,
        validator,
    )
    from .processors import EnvelopeLogProcessor, EnvelopeSpanProcessor
    from .setup import Telemetry, start
except ModuleNotFoundError as error:
    raise install_hint(error) from error

__all__ = [
    "Effect",
    "Envelope",
    "EnvelopeLogProcessor",
    "EnvelopeSpanProcessor",
    "Members",
    "Money",
    "Reach",
    "Telemetry",
    "approval_decision",
    "approval_request",
    "child",
    "credential_issued",
    "credential_revoked",
    "delegation",
    "describe_call",
    "envelope",
    "event",
    "event_id",
    "final_action",
    "human_override",
    "memory_delete",
    "memory_read",
    "memory_write",
    "outcome",
    "policy_decision",
    "resource_attributes",
    "rollback",
    "routing_decision",
    "start",
    "tool_selection",
    "use",
    "validator",
]
