"""The demo's agents: Pydantic AI, with its offline FunctionModel in the place of a language model.

The model is a function that reads what the tools returned and says what to do next. It decides as a prompt would: from
the messages, not from the tickets it is going to get. It has one fault, as a prompt may have: it refunds the whole
order, also where a part of it was broken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from pydantic_ai import Agent, DeferredToolRequests, RunContext, Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.toolsets import FunctionToolset

from schemas.canonical import canonical_bytes
from tallystick.demo.recorder import Desk, RecordedModel, RecordedTools
from tallystick.demo.shop import ORDERS, Action, find_documents, sha256_digest

MODEL: Final = "gpt-4.1-mini"
PROMPT: Final = "You settle tickets about broken and late goods. Look up the order and the rules before you pay."
RISK_PROMPT: Final = "You say how likely a customer's claim is to be abuse. You only read."
NOTES: Final = "customer-notes"
DeskAgent = Agent[Desk, str | DeferredToolRequests]


# ---- What the models say ---------------------------------------------------------------------------------------------


def _returns(messages: Sequence[ModelMessage]) -> dict[str, Any]:
    """What the tools have returned so far, by tool."""
    parts = [part for message in messages for part in message.parts]
    return {part.tool_name: part.content for part in parts if isinstance(part, ToolReturnPart)}


def _asked(messages: Sequence[ModelMessage]) -> str:
    parts = [part for message in messages for part in message.parts if isinstance(part, UserPromptPart)]
    return str(parts[0].content)


def _use(why: str, tool: str, **arguments: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(why), ToolCallPart(tool, arguments)])


def _settle(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """What the support desk's model says next."""
    known = _returns(messages)
    found = re.search(r"A-\d+", _asked(messages))
    order_id = found[0] if found else ""
    if "orders.get" not in known:
        return _use("I need the order first.", "orders.get", order=order_id)
    order = known["orders.get"]
    if "notes.read" not in known:
        return _use("What do we know of this customer?", "notes.read", customer=order["customer"])
    if "handbook.search" not in known:
        words = "late delivery" if "late" in _asked(messages) else "refund broken"
        return _use("What do the rules say?", "handbook.search", query=words)
    if "store credit" in known["handbook.search"][0]:
        return _settle_late(known, order_id, order["customer"])
    if "payments.refund" not in known:
        # The fault: the total, whatever part of the order the customer wrote about.
        return _use("Broken goods are refunded.", "payments.refund", order=order_id, amount=order["total"])
    if "notes.write" not in known:
        note = f"Refunded {order['total']} for {order_id}."
        return _use("This is worth remembering.", "notes.write", customer=order["customer"], note=note)
    return ModelResponse(parts=[TextPart(f"I refunded {order['total']} for the broken {order['item']}.")])


def _settle_late(known: dict[str, Any], order_id: str, customer: str) -> ModelResponse:
    if "risk.assess" not in known:
        return _use("Past claims are looked at by the risk desk.", "risk.assess", customer=customer)
    if "low risk" not in known["risk.assess"]:
        return ModelResponse(parts=[TextPart("A colleague will get back to you.")])
    if "payments.credit" not in known:
        return _use("Low risk: a credit is in order.", "payments.credit", order=order_id, amount="5.00")
    return ModelResponse(parts=[TextPart("Sorry for the wait. You have a store credit of 5.00.")])


def _assess(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """What the risk desk's model says next."""
    known = _returns(messages)
    customer = _asked(messages)
    if "claims.history" not in known:
        return _use("How often did they claim?", "claims.history", customer=customer)
    claims = int(known["claims.history"]["claims_in_a_year"])
    return ModelResponse(parts=[TextPart("low risk" if claims < 3 else "high risk")])


# ---- What the tools do ----------------------------------------------------------------------------------------------


def _orders_get(ctx: RunContext[Desk], order: str) -> dict[str, str]:
    """An order."""
    found = ORDERS[order]
    return {
        "customer": found.customer,
        "item": found.item,
        "quantity": str(found.quantity),
        "unit_price": str(found.unit_price),
        "total": str(found.total),
    }


def _notes_read(ctx: RunContext[Desk], customer: str) -> str:
    """What is remembered of a customer."""
    note = ctx.deps.shop.notes.get(customer, "Nothing yet.")
    record = _record(customer)
    ctx.deps.run.memory_read(
        store=NOTES, class_="durable", record=record, purpose="settle a ticket", origin="trusted", value=note
    )
    return note


def _notes_write(ctx: RunContext[Desk], customer: str, note: str) -> str:
    """Remember something of a customer."""
    ctx.deps.shop.notes[customer] = note
    ctx.deps.run.memory_write(
        store=NOTES,
        class_="durable",
        record=_record(customer),
        purpose="next ticket",
        readers=["support-desk"],
        retention_days=365,
        origin="trusted",
        data_classes=["customer"],
        value=note,
    )
    return "noted"


def _record(customer: str) -> str:
    """A memory record's public name, which must not be a person's."""
    return "note-" + sha256_digest(customer.encode())[-12:]


def _handbook_search(ctx: RunContext[Desk], query: str) -> list[str]:
    """The handbook's pages for a query."""
    with ctx.deps.run.retrieve(store="handbook", origin="trusted", query=query) as retrieval:
        found = find_documents(query)
        texts = [page.text for page, _ in found]
        retrieval.set(
            documents=[
                {"id": page.id, "version": page.version, "digest": page.digest, "score": score} for page, score in found
            ],
            text=texts,
        )
    return texts


def _pay(action: Action) -> Callable[..., Any]:
    async def pay(ctx: RunContext[Desk], order: str, amount: str) -> str:
        """Pay an amount for an order."""
        payment = await ctx.deps.shop.payments.pay(str(ctx.tool_call_id), action, order, Decimal(amount))
        return payment.id

    return pay


def _claims_history(ctx: RunContext[Desk], customer: str) -> dict[str, int]:
    """How often a customer claimed something."""
    return {"claims_in_a_year": 1}


async def _risk_assess(ctx: RunContext[Desk], customer: str) -> str:
    """Ask the risk desk about a customer."""
    return await ctx.deps.delegate(customer)


# ---- The agents ------------------------------------------------------------------------------------------------------

_WRITE: Final = {"access": "write", "risk": "medium"}
DESK_TOOLS: Final = (
    Tool(_orders_get, name="orders.get", metadata={"access": "read"}),
    Tool(_notes_read, name="notes.read"),
    Tool(_notes_write, name="notes.write"),
    Tool(_handbook_search, name="handbook.search"),
    Tool(_risk_assess, name="risk.assess"),
    Tool(_pay("refund"), name="payments.refund", metadata=_WRITE | {"action": "refund"}),
    Tool(_pay("credit"), name="payments.credit", metadata=_WRITE | {"action": "credit"}),
)
RISK_TOOLS: Final = (Tool(_claims_history, name="claims.history", metadata={"access": "read"}),)


def support_desk(desk: Desk) -> DeskAgent:
    """The agent that settles a ticket."""
    return Agent(
        RecordedModel(FunctionModel(_settle, model_name=MODEL), desk, "plan"),
        deps_type=Desk,
        output_type=[str, DeferredToolRequests],
        instructions=PROMPT,
        toolsets=[RecordedTools(FunctionToolset(DESK_TOOLS))],
    )


def risk_desk(desk: Desk) -> Agent[Desk, str]:
    """The agent that is asked about a customer. It has one tool, which reads."""
    return Agent(
        RecordedModel(FunctionModel(_assess, model_name=MODEL), desk, "judge"),
        deps_type=Desk,
        output_type=str,
        instructions=RISK_PROMPT,
        toolsets=[RecordedTools(FunctionToolset(RISK_TOOLS))],
    )


def tool_schemas(tools: Sequence[Tool[Desk]]) -> list[dict[str, str]]:
    """The tools' parameters, by digest, as a run cites them."""
    return [
        {"name": tool.name, "version": "1", "digest": sha256_digest(canonical_bytes(tool.function_schema.json_schema))}
        for tool in tools
    ]
