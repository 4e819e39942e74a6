"""What happens in the demo: three tickets, and what the helpdesk learns of them later.

T-501  right     refund, approved by a person who signs; the runtime signs too
T-502  wrong     the answer gets lost, is asked for again; then the amount is wrong: taken back, a person takes over
T-503  delegated another agent is asked, in a run below this one; then a credit

A fourth, T-504, is in by_otlp.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib import resources
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic_ai import DeferredToolRequests, DeferredToolResults
from pydantic_ai.messages import ModelMessage

from schemas.contract import Contract, load_contract
from tallystick.demo import agents
from tallystick.demo.approval import Reviewer, approve
from tallystick.demo.recorder import DemoRun, Desk, Write, WrongPaymentError
from tallystick.demo.shop import CURRENCY, OTLP_TICKET, POLICY, POLICY_DIGEST, TICKETS, Shop, Ticket, sha256_digest
from tallystick.emit import AsyncEmitter, Signer
from tallystick.emit.kinds import RunOptions

DESK, RISK = "support-desk", "risk-desk"
VERSIONS: Final = {DESK: "1.4.0", RISK: "2.0.1"}
CLERK: Final = "Ann Reyes"  # whose login the desk works on
LEAD: Final = "Mira Chen"
PRODUCER_KEY, REVIEWER_KEY = "desk-runtime-1", "mira-chen-1"
OUTCOMES: Final[dict[str, bool | str]] = {"T-501": True, "T-502": False, "T-503": "pending"}
PERSONS: Final = (CLERK, LEAD, *(ticket.customer for ticket in (*TICKETS, OTLP_TICKET)))


@dataclass(frozen=True, slots=True)
class Keys:
    """What the first runtime and the reviewer sign with. Both halves are known to the demo, which plays both."""

    producer: Ed25519PrivateKey
    reviewer: Ed25519PrivateKey


@dataclass(slots=True)
class Told:
    """What a run was, as the demo started it: for its headings, not for its counts."""

    run: str
    ticket: str
    agent: str
    status: str = ""
    parent: str | None = None


@dataclass(slots=True)
class Story:
    """Plays the tickets. `told`: the runs, in the order in which they began."""

    bootstrap: str
    tenant: str
    shop: Shop
    keys: Keys
    told: list[Told] = field(default_factory=list)

    async def play(self) -> None:
        """All three tickets, then what the helpdesk learns. Everything emitted is in Kafka when this returns."""
        signer = Signer(PRODUCER_KEY, self.keys.producer)
        signing = Reviewer(LEAD, "The photo shows a broken lamp.", REVIEWER_KEY, self.keys.reviewer)
        hasty = Reviewer(LEAD, "Looks like the last one.")
        async with AsyncExitStack() as stack:
            signed = await stack.enter_async_context(self._emitter("desk-runtime", signer))
            claimed = await stack.enter_async_context(self._emitter("desk-runtime-2"))
            helpdesk = await stack.enter_async_context(self._emitter("helpdesk"))
            right, wrong, late = TICKETS
            await self._settle(signed, right, signing)
            await self._settle(claimed, wrong, hasty)
            await self._settle(claimed, late, hasty)
            self._learn(helpdesk)

    async def apply(self, tenant: str) -> list[str]:
        """Apply the agents' contracts and publish the policy in a tenant, as an operator does; the digests."""
        digests = []
        async with AsyncEmitter(self.bootstrap, source="operator", tenant=tenant, topic="tally.control") as operator:
            for agent in (DESK, RISK):
                contract = contract_of(agent)
                members = {"name": agent, "version": VERSIONS[agent], "digest": contract.digest}
                members |= {"document": contract.document.decode(), "author": CLERK, "approver": LEAD}
                await operator.record("contract_applied", members)
                digests.append(contract.digest)
            published = {"name": "refunds", "version": "1", "digest": POLICY_DIGEST, "document": POLICY.decode()}
            await operator.record("policy_published", published | {"author": CLERK, "approver": LEAD})
        return [*digests, POLICY_DIGEST]

    def _emitter(self, source: str, signer: Signer | None = None) -> AsyncEmitter:
        return AsyncEmitter(self.bootstrap, source=source, tenant=self.tenant, signer=signer)

    async def _settle(self, emitter: AsyncEmitter, ticket: Ticket, reviewer: Reviewer) -> None:
        """One ticket, as one run."""
        options = _options(DESK, ticket, agents.PROMPT) | RunOptions(
            tool_schemas=agents.tool_schemas(agents.DESK_TOOLS), request=ticket.text
        )
        run = emitter.run(**options)
        desk = Desk(
            run, _actor(DESK, ticket), self.shop, ticket, lambda customer: self._ask_risk_desk(run, ticket, customer)
        )
        told = self._tell(run, ticket, DESK)
        with run:
            run.routing_decision(chosen=agents.MODEL, candidates=[agents.MODEL], tier="small", trigger="default")
            try:
                said = await self._talk(emitter, desk, reviewer)
            except WrongPaymentError as wrong:
                await self._undo(desk, wrong)
                said, told.status = "A colleague will settle this with you.", "handed_over"
            else:
                self._conclude(desk, said)
                told.status = "success"
            run.finish(
                "success" if told.status == "success" else "handed_over",
                output=said,
                cost_claimed={"amount": desk.spent, "currency": CURRENCY},
            )

    def _tell(self, run: DemoRun, ticket: Ticket, agent: str, parent: str | None = None) -> Told:
        self.told.append(Told(run.id, ticket.ticket, agent, parent=parent))
        return self.told[-1]

    async def _talk(self, emitter: AsyncEmitter, desk: Desk, reviewer: Reviewer) -> str:
        """The agent's turns, with a person's answer between two of them where a call has to be approved."""
        agent = agents.support_desk(desk)
        history: list[ModelMessage] = []
        answers: DeferredToolResults | None = None
        while True:
            prompt = desk.ticket.text if not history else None
            result = await agent.run(prompt, deps=desk, message_history=history, deferred_tool_results=answers)
            if not isinstance(result.output, DeferredToolRequests):
                return result.output
            answers = await approve(desk, emitter, self.tenant, reviewer, result.output)
            history = result.all_messages()

    async def _ask_risk_desk(self, run: DemoRun, ticket: Ticket, customer: str) -> str:
        """Delegate: the other agent works in a run below this one, within the scope and budget it is given."""
        options = _options(RISK, ticket, agents.RISK_PROMPT) | RunOptions(
            tool_schemas=agents.tool_schemas(agents.RISK_TOOLS), request=customer
        )
        child = run.child(**options)
        budget = {"max_steps": 5, "max_cost_usd_per_run": "0.05"}
        run.delegation(to_agent=RISK, to_run=child.id, scope=["claims.history"], depth=1, budget=budget)
        desk = Desk(child, _actor(RISK, ticket), self.shop, ticket, _nobody)
        told = self._tell(child, ticket, RISK, parent=run.id)
        with child:
            said = (await agents.risk_desk(desk).run(customer, deps=desk)).output
            told.status = "success"
            child.finish("success", output=said, cost_claimed={"amount": desk.spent, "currency": CURRENCY})
        return said

    def _conclude(self, desk: Desk, said: str) -> None:
        paid = next(payment for payment in self.shop.payments.made() if payment.order == desk.ticket.order)
        effect = {"action": paid.action, "count": 1, "amount": paid.amount, "currency": CURRENCY}
        effect |= {"system": "payments", "resource": f"order/{paid.order}"}
        desk.run.event("final_action", {"effect": effect, "call": paid.key, "summary": said})

    async def _undo(self, desk: Desk, wrong: WrongPaymentError) -> None:
        """Take the payment back, and hand over to a person."""
        run, order = desk.run, desk.ticket.order
        run.error(class_="wrong_payment", of=wrong.event_id, retryable=False, message=str(wrong))
        undo = Write(
            desk,
            "payments.reverse",
            f"undo-{wrong.call}",
            {"order": order, "amount": str(wrong.found)},
            "reverse",
            "medium",
        )
        undo.propose()

        async def pay() -> str:
            return (await self.shop.payments.pay(undo.call, "reverse", order, wrong.found)).id

        await undo.execute(pay)
        run.event("rollback", {"of": wrong.call, "status": "done", "effect": undo.effect})
        run.human_override(
            of=wrong.event_id,
            by=LEAD,
            before={"refund": str(wrong.found)},
            after={"refund": str(wrong.expected), "by": "hand"},
            reason="One bulb of ten was broken, not all of them.",
            refs=[{"what": "ticket", "id": desk.ticket.ticket}],
        )

    def _learn(self, helpdesk: AsyncEmitter) -> None:
        """What became of the tickets, as the helpdesk knows it later. Of no run: it joins runs by their work item."""
        for ticket, verified in OUTCOMES.items():
            item = {"system": "helpdesk", "id": ticket}
            helpdesk.emit(
                "outcome",
                {"outcome": "ticket_closed", "work_item": item, "verified": verified, "by_system": "helpdesk"},
            )


async def _nobody(customer: str) -> str:
    raise RuntimeError("the risk desk may not delegate")


def _actor(agent: str, ticket: Ticket) -> dict[str, str]:
    """Who acts, for whom: what each event of a run says."""
    return {"agent": agent, "version": VERSIONS[agent], "principal": CLERK, "on_behalf_of": ticket.customer}


def contract_of(agent: str) -> Contract:
    """The agent's contract, as it is shipped with the demo."""
    return load_contract((resources.files("tallystick.demo") / f"contract-{agent}.yaml").read_bytes())


def _options(agent: str, ticket: Ticket, prompt: str) -> RunOptions:
    contract = contract_of(agent)
    return RunOptions(
        agent=agent,
        version=VERSIONS[agent],
        principal=CLERK,
        on_behalf_of=ticket.customer,
        data_subjects=(ticket.customer,),
        session=ticket.ticket,
        workflow="refunds",
        environment="test",
        owner=contract.agent.owner,
        autonomy="execute_with_approval",
        contract=contract.digest,
        policy_bundle=POLICY_DIGEST,
        prompt={"name": agent, "version": "7", "digest": sha256_digest(prompt.encode())},
        model=agents.MODEL,
        budget=contract.agent.budgets.model_dump(exclude_none=True),
        work_item={"system": "helpdesk", "id": ticket.ticket},
        trace_level="full",
    )
