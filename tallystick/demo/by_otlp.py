"""The fourth ticket: an agent that knows OpenTelemetry and nothing of the ledger, but for what no convention can say.

Pydantic AI tells by itself what the model was asked, which tools ran and what came of them; the envelope says for whom,
the helper which policy allowed it and what was done in the end. All of it goes over OTLP to the gateway.

Guarantees: everything was handed to the exporter when `settle` returns. Doesn't: announce a payment before it is made;
spans are sent when they have ended.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from pydantic_ai import Agent, InstrumentationSettings, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from tallystick import otel
from tallystick.demo import agents
from tallystick.demo.recorder import PROVIDER
from tallystick.demo.shop import CURRENCY, ORDERS, OTLP_TICKET, POLICY_DIGEST, Shop, Ticket, decide
from tallystick.demo.story import CLERK, DESK, VERSIONS, contract_of
from tallystick.otel import EnvelopeLogProcessor, EnvelopeSpanProcessor

HELPDESK: Final = "helpdesk"


@dataclass(frozen=True, slots=True)
class ByOtlp:
    """What was sent: the run, the ticket it was for, and the key of the payment it made."""

    run: str
    ticket: str
    key: str


async def settle(gateway: str, shop: Shop) -> ByOtlp:
    """Settle the ticket, everything told by OTLP to the gateway at this URL; then what the helpdesk learns of it."""
    resource = Resource.create(otel.resource_attributes(service="desk-runtime-3", version=VERSIONS[DESK], agent=DESK))
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(EnvelopeSpanProcessor())
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{gateway}/v1/traces")))
    loggers = LoggerProvider(resource=resource, shutdown_on_exit=False)
    loggers.add_log_record_processor(EnvelopeLogProcessor())
    loggers.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{gateway}/v1/logs")))
    otel.use(loggers)
    try:
        run = await _run(_agent(tracers), shop, OTLP_TICKET)
        item = {"system": HELPDESK, "id": OTLP_TICKET.ticket}
        otel.outcome("ticket_closed", item, "true", by_system=HELPDESK)
    finally:
        otel.use(None)
        await asyncio.to_thread(tracers.shutdown)  # which flushes; the gateway answers on this very loop
        await asyncio.to_thread(loggers.shutdown)
    paid = next(payment for payment in shop.payments.made() if payment.order == OTLP_TICKET.order)
    return ByOtlp(run, OTLP_TICKET.ticket, paid.key)


async def _run(agent: Agent[Shop, str], shop: Shop, ticket: Ticket) -> str:
    contract = contract_of(DESK)
    with otel.envelope(
        principal=CLERK,
        on_behalf_of=ticket.customer,
        data_subjects=[ticket.customer],
        session=ticket.ticket,
        workflow="refunds",
        environment="test",
        owner=contract.agent.owner,
        autonomy="execute_with_approval",
        contract=contract.digest,
        policy_bundle=POLICY_DIGEST,
        budget=contract.agent.budgets.model_dump(exclude_none=True),
        work_item={"system": HELPDESK, "id": ticket.ticket},
        trace_level="full",
    ) as entered:
        await agent.run(ticket.text, deps=shop)
    return entered.run_id


# ---- The agent, as it would be without a ledger, but for two calls in the tool that pays -----------------------------


class _Model(FunctionModel):
    """A function in the place of a model of this provider: the name under which the ledger finds its prices."""

    @property
    def system(self) -> str:
        return PROVIDER


def _agent(tracers: TracerProvider) -> Agent[Shop, str]:
    agent = Agent(
        _Model(_answer, model_name=agents.MODEL),
        name=DESK,
        deps_type=Shop,
        output_type=str,
        instructions=agents.PROMPT,
    )
    agent.instrument = InstrumentationSettings(tracer_provider=tracers)
    agent.tool(name="orders.get")(_orders_get)
    agent.tool(name="payments.refund")(_refund)
    return agent


def _answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """What the model says next."""
    known = _returns(messages)
    order = re.search(r"A-\d+", OTLP_TICKET.text)
    arguments = {"order": order[0] if order else ""}
    if "orders.get" not in known:
        return ModelResponse(parts=[TextPart("I need the order first."), ToolCallPart("orders.get", arguments)])
    if "payments.refund" not in known:
        arguments["amount"] = known["orders.get"]["total"]
        return ModelResponse(parts=[TextPart("Broken goods are refunded."), ToolCallPart("payments.refund", arguments)])
    return ModelResponse(parts=[TextPart(f"I refunded {known['orders.get']['total']}.")])


def _returns(messages: Sequence[ModelMessage]) -> dict[str, Any]:
    parts = [part for message in messages for part in message.parts]
    return {part.tool_name: part.content for part in parts if isinstance(part, ToolReturnPart)}


def _orders_get(ctx: RunContext[Shop], order: str) -> dict[str, str]:
    """An order."""
    found = ORDERS[order]
    return {"item": found.item, "total": str(found.total)}


async def _refund(ctx: RunContext[Shop], order: str, amount: str) -> dict[str, str]:
    """Pay an amount back."""
    call, verdict = str(ctx.tool_call_id), decide("refund", Decimal(amount))
    otel.policy_decision(
        verdict.decision,
        policy="refunds",
        rule=verdict.rule,
        bundle=POLICY_DIGEST,
        call=call,
        decided_by="policy-engine",
        input={"action": "refund", "amount": amount},
        reason=verdict.text,
    )
    if verdict.decision != "allow":
        return {"refused": verdict.text}
    effect = otel.Effect(system="payments", resource=f"order/{order}", action="refund", count=1)
    effect |= {"amount": amount, "currency": CURRENCY}
    otel.describe_call(access="write", risk="medium", reversible=True, idempotency_key=call, effect=effect)
    payment = await ctx.deps.payments.pay(call, "refund", order, Decimal(amount))
    otel.final_action(call=call, effect=effect)
    return {"payment": payment.id}
