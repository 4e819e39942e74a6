"""How a Pydantic AI agent's own calls get on the record: a model and a toolset that wrap the agent's.

Nothing of the agent changes. `RecordedModel` emits each model call and the tool it chose; `RecordedTools` emits each
tool call, and for a tool that writes: the proposal, the policy's verdict, and, in the durable mode, the start, so that
Kafka has "it is about to happen" before it happens. A write that the policy wants approved is handed back to Pydantic
AI as a deferred call, which the runtime answers (approval.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from genai_prices import Usage, calc_price
from pydantic_ai import ApprovalRequired, ModelMessagesTypeAdapter, RunContext, ToolFailed
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.wrapper import WrapperModel
from pydantic_ai.settings import ModelSettings
from pydantic_ai.toolsets import ToolsetTool, WrapperToolset

from tallystick.demo.shop import CURRENCY, ORDERS, POLICY_DIGEST, Shop, Ticket, decide, sha256_digest
from tallystick.emit import Run

PROVIDER: Final = "openai"
ATTEMPTS_MAX: Final = 2
DemoRun = Run[Coroutine[Any, Any, str]]


@dataclass(slots=True)
class Desk:
    """What an agent's tools may reach while it works on one ticket."""

    run: DemoRun
    actor: dict[str, str]
    shop: Shop
    ticket: Ticket
    delegate: Callable[[str], Awaitable[str]]
    spent: Decimal = Decimal(0)
    approved: dict[str, dict[str, Any]] = field(default_factory=dict)  # arguments by call


class WrongPaymentError(Exception):
    """A payment was made that does not fit the claim."""

    def __init__(self, call: str, event_id: str, tool: str, expected: Decimal, found: Decimal) -> None:
        super().__init__(f"{tool} paid {found}, the claim is over {expected}")
        self.call, self.event_id, self.expected, self.found = call, event_id, expected, found


class RecordedModel(WrapperModel):
    """Emits `model_call` for each request, and `tool_selection` for each tool that the answer calls."""

    def __init__(self, wrapped: Model, desk: Desk, role: str) -> None:
        super().__init__(wrapped)
        self._desk, self._role = desk, role

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        run = self._desk.run
        offered = [tool.name for tool in model_request_parameters.function_tools]
        said = json.loads(ModelMessagesTypeAdapter.dump_json(messages[-1:]))
        with run.model(
            provider=PROVIDER, model=self.model_name, operation="chat", messages=said, tools_offered=offered
        ) as call:
            response = await super().request(messages, model_settings, model_request_parameters)
            usage, calls = response.usage, [part for part in response.parts if isinstance(part, ToolCallPart)]
            cost = claimed_cost(self.model_name, usage.input_tokens, usage.output_tokens)
            self._desk.spent += cost
            call.set(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                finish_reason="tool_call" if calls else "stop",
                role=self._role,
                cost_claimed={"amount": cost, "currency": CURRENCY},
                output=json.loads(ModelMessagesTypeAdapter.dump_json([response])),
            )
        rationale = " ".join(part.content for part in response.parts if isinstance(part, TextPart))
        for chosen in calls:
            run.tool_selection(
                chosen=chosen.tool_name, offered=offered, rationale=rationale or None, parent=call.event_id
            )
        return response


def claimed_cost(model: str, input_tokens: int, output_tokens: int) -> Decimal:
    """What the runtime says a call cost. It reads the same public price table as the ledger, here; it need not."""
    usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
    return calc_price(usage, model, provider_id=PROVIDER).total_price


@dataclass
class RecordedTools(WrapperToolset[Desk]):
    """Emits what the agent's tools do. Tools without `access` in their metadata record themselves, as memory or
    retrieval."""

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Desk], tool: ToolsetTool[Desk]
    ) -> Any:
        facts = tool.tool_def.metadata or {}
        if facts.get("access") == "read":
            with ctx.deps.run.tool(name, call=ctx.tool_call_id, access="read", risk="low", input=tool_args) as call:
                found = await super().call_tool(name, tool_args, ctx, tool)
                call.set(output=found)
            return found
        if facts.get("access") != "write":
            return await super().call_tool(name, tool_args, ctx, tool)
        write = Write(ctx.deps, name, str(ctx.tool_call_id), tool_args, facts["action"], facts["risk"])
        if not ctx.tool_call_approved:
            write.propose()
        else:
            write.validate(ctx.deps.approved.get(write.call))

        async def pay() -> Any:
            return await self.wrapped.call_tool(name, tool_args, ctx, tool)

        return await write.execute(pay)


class Write:
    """One call of a tool that writes, through its phases."""

    def __init__(self, desk: Desk, tool: str, call: str, arguments: dict[str, Any], action: str, risk: str) -> None:
        self.run, self.call = desk.run, call
        self._desk, self._tool, self._arguments, self._action = desk, tool, arguments, action
        amount = Decimal(arguments["amount"])
        self.effect: dict[str, Any] = {
            "system": "payments",
            "resource": f"order/{arguments['order']}",
            "action": action,
            "count": 1,
            "amount": amount,
            "currency": CURRENCY,
        }
        self._facts: dict[str, Any] = {
            "tool": tool,
            "call": call,
            "access": "write",
            "risk": risk,
            "reversible": True,
            "idempotency_key": call,
            "effect": self.effect,
            "input": arguments,
        }

    def emit(self, phase: str, **more: Any) -> str:
        """A `tool_call` of that phase; its event id."""
        return self.run.event("tool_call", self._facts | {"phase": phase} | more)

    def propose(self) -> None:
        """Record the proposal and the policy's verdict. Raises ApprovalRequired or ToolFailed where not allowed."""
        amount = self.effect["amount"]
        proposed = self.emit("proposed", diff=f"order {self._arguments['order']}: {self._action} of {amount}")
        verdict = decide(self._action, amount)
        self.run.policy_decision(
            decision=verdict.decision,
            policy="refunds",
            rule=verdict.rule,
            bundle=POLICY_DIGEST,
            call=self.call,
            decided_by="policy-engine",
            input={"action": self._action, "amount": str(amount)},
            reason=verdict.text,
            refs=[{"what": "rule", "id": verdict.rule, "digest": sha256_digest(verdict.text.encode())}],
            parent=proposed,
        )
        if verdict.decision == "require_approval":
            raise ApprovalRequired({"rule": verdict.rule})
        if verdict.decision == "deny":
            self.emit("finished", status="denied", effect=None)
            raise ToolFailed(f"The policy denies it: {verdict.text}")

    def validate(self, approved: dict[str, Any] | None) -> None:
        """Record that these are the arguments that were approved. Raises ToolFailed where they are others."""
        same = approved == self._arguments
        self.run.validator(rule="arguments_as_approved", result="pass" if same else "fail", call=self.call)
        if not same:
            raise ToolFailed("These are not the arguments that were approved.")
        self.emit("validated")

    async def execute(self, pay: Callable[[], Awaitable[Any]]) -> Any:
        """Start, act, finish; once more, under the same idempotency key, where the answer got lost. Raises
        WrongPaymentError where the payment does not fit the claim."""
        self.run.credential_issued(
            credential=f"cred-{self.call}",
            mode="on_behalf_of",
            scopes=[self._tool],
            ttl_seconds=600,
            issuer="idp.example",
            tool=self._tool,
        )
        attempt = 1
        while True:
            # Returns only when Kafka has it: if this fails, nothing is paid.
            await self.run.durable().event("tool_call", self._facts | {"phase": "started", "attempt": attempt})
            began = time.perf_counter_ns()
            try:
                output = await pay()
            except TimeoutError as lost:
                took = (time.perf_counter_ns() - began) // 1000
                # No effect stands in this one: whether it took place is not known here.
                failed = self.emit("finished", attempt=attempt, status="timeout", latency_us=took, effect=None)
                self.run.error(class_="builtins.TimeoutError", of=failed, retryable=True, message=str(lost))
                if attempt == ATTEMPTS_MAX:
                    raise
                attempt += 1
                self.run.retry(of=failed, attempt=attempt, cause="no answer; the idempotency key is the same")
            else:
                took = (time.perf_counter_ns() - began) // 1000
                done = self.emit("finished", attempt=attempt, status="ok", latency_us=took, output=output)
                self._compare_with_claim(done)
                return output

    def _compare_with_claim(self, done: str) -> None:
        if self._action != "refund":
            return
        ticket = self._desk.ticket
        expected, found = ticket.pieces * ORDERS[ticket.order].unit_price, self.effect["amount"]
        self.run.validator(
            rule="refund_matches_claim",
            result="pass" if found == expected else "fail",
            call=self.call,
            expected=str(expected),
            found=str(found),
            parent=done,
        )
        if found != expected:
            raise WrongPaymentError(self.call, done, self._tool, expected, found)
