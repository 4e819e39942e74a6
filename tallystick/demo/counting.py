"""What the demo counts in the ledger's entries: links, money, who vouches. Pure, and from leaves alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

from ledger.leaf import Leaf
from tallystick.demo.shop import Payment

# Which way money goes, from the customer's side.
SIGN: Final = {"refund": 1, "credit": 1, "reverse": -1}


def moved(leaves: Iterable[Leaf]) -> dict[str, Decimal]:
    """Money by action, as the entries have it: what calls that finished well say they did; of a call that says no
    effect itself, as one told by a span, what the final action says of it."""
    said: dict[str, dict[str, Any]] = {}
    in_the_end: dict[str, dict[str, Any]] = {}
    for leaf in leaves:
        data = leaf.data
        effect = data.get("effect")
        if effect is None or effect.get("amount") is None:
            continue
        if leaf.kind == "tool_call" and data.get("phase") == "finished" and data.get("status") == "ok":
            said[data["call"]] = effect
        elif leaf.kind == "final_action" and "call" in data:
            in_the_end[data["call"]] = effect
    sums: dict[str, Decimal] = {}
    for effect in (in_the_end | said).values():
        action = effect["action"]
        sums[action] = sums.get(action, Decimal(0)) + Decimal(effect["amount"])
    return sums


def paid(payments: Iterable[Payment]) -> dict[str, Decimal]:
    """Money by action, as the payment provider has it."""
    sums: dict[str, Decimal] = {}
    for payment in payments:
        sums[payment.action] = sums.get(payment.action, Decimal(0)) + payment.amount
    return sums


def net(sums: dict[str, Decimal]) -> Decimal:
    """What is left with the customers."""
    return sum((SIGN[action] * amount for action, amount in sums.items()), Decimal(0))


def vouched(leaves: Iterable[Leaf]) -> Counter[str]:
    """How many entries are claimed, signed, attested."""
    return Counter(leaf.data["vouched"] for leaf in leaves if "vouched" in leaf.data)


def cost(leaves: Sequence[Leaf]) -> tuple[Decimal, Decimal]:
    """What the model calls cost: as the ledger priced them when it sealed them, and as the runtime claimed."""
    calls = [leaf.data for leaf in leaves if leaf.kind == "model_call"]
    priced = sum((Decimal(call["price"]["amount"]) for call in calls if "price" in call), Decimal(0))
    claimed = sum((Decimal(call["cost_claimed"]["amount"]) for call in calls if "cost_claimed" in call), Decimal(0))
    return priced, claimed


def announced(leaves: Iterable[Leaf], payments: Iterable[Payment]) -> bool:
    """Whether each payment has an entry that says it was about to be made, before any that says it was."""
    seen: dict[str, list[str]] = {}
    for leaf in leaves:
        if leaf.kind == "tool_call":
            seen.setdefault(leaf.data["call"], []).append(leaf.data["phase"])
    phases = [seen.get(payment.key, []) for payment in payments]
    return bool(phases) and all(
        "started" in of and "finished" in of and of.index("started") < of.index("finished") for of in phases
    )


def outcomes(leaves: Iterable[Leaf]) -> dict[str, bool | str]:
    """What became of each work item: true, false or "pending", by its id."""
    return {leaf.data["work_item"]["id"]: leaf.data["verified"] for leaf in leaves if leaf.kind == "outcome"}


def approved_as_executed(leaves: Iterable[Leaf]) -> bool:
    """Whether every call that was started after an approval has the arguments that the approval was asked for: their
    keyed digests are equal. False where there was no such call."""
    asked, started = {}, []
    for leaf in leaves:
        if leaf.kind == "approval_request":
            asked[leaf.data["call"]] = leaf.data.get("arguments")
        elif leaf.kind == "tool_call" and leaf.data["phase"] == "started" and leaf.data["call"] in asked:
            started.append((asked[leaf.data["call"]], leaf.data.get("arguments")))
    return bool(started) and all(one is not None and one == other for one, other in started)


def answers(leaves: Iterable[Leaf], call: str) -> dict[str, str]:
    """Which principal authorized a call, which policy permitted it, what shows that it happened; "" where the entries
    don't say."""
    found = {"principal": "", "policy": "", "evidence": ""}
    for leaf in leaves:
        data = leaf.data
        if data.get("call") != call:
            continue
        if leaf.kind == "tool_call" and data.get("status") == "ok":
            found["principal"] = (leaf.actor or {}).get("principal", "")
            found["evidence"] = f"{data['tool']} {data['status']}, told by its own {data['from']}"
        elif leaf.kind == "policy_decision" and data.get("decision") == "allow":
            found["policy"] = f"rule {data['rule']} of {data['bundle'][:15]}…"
    return found
