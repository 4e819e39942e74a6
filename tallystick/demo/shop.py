"""The business around the demo's agents: orders, a handbook, notes, a policy and a payment provider.

All of it is plain Python on this machine. The payment provider keeps its own list of what it did, in a file that is
neither the agent's nor the ledger's: the demo compares the ledger with it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal

CURRENCY: Final = "USD"
Action = Literal["refund", "credit", "reverse"]


@dataclass(frozen=True, slots=True)
class Order:
    """An order of `quantity` pieces of one thing."""

    order: str
    customer: str
    item: str
    quantity: int
    unit_price: Decimal

    @property
    def total(self) -> Decimal:
        return self.quantity * self.unit_price


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a customer wrote, and how many pieces of the order it is about (0: none, it is about the delivery)."""

    ticket: str
    customer: str
    order: str
    pieces: int
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A page of the handbook."""

    id: str
    version: str
    text: str

    @property
    def digest(self) -> str:
        return sha256_digest(self.text.encode())


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policy says of a payment, and by which rule."""

    decision: Literal["allow", "deny", "require_approval"]
    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class Payment:
    """One line of the provider's list."""

    id: str
    key: str
    action: Action
    order: str
    amount: Decimal


def sha256_digest(value: bytes) -> str:
    """`sha256:` and hex."""
    return "sha256:" + hashlib.sha256(value).hexdigest()


ORDERS: Final = {
    order.order: order
    for order in (
        Order("A-1042", "Jo Marsh", "desk lamp", 1, Decimal("12.90")),
        Order("A-1077", "Lena Ortiz", "light bulb", 10, Decimal("18.40")),
        Order("A-1103", "Sam Idowu", "shelf", 1, Decimal("64.00")),
        Order("A-1120", "Ada Quist", "mug", 1, Decimal("8.50")),
    )
}
TICKETS: Final = (
    Ticket("T-501", "Jo Marsh", "A-1042", 1, "Order A-1042: the lamp arrived broken. Please refund it."),
    Ticket(
        "T-502", "Lena Ortiz", "A-1077", 1, "Order A-1077: one of the ten bulbs was broken. Please refund that one."
    ),
    Ticket("T-503", "Sam Idowu", "A-1103", 0, "Order A-1103 came nine days late. What can you do for me?"),
)
OTLP_TICKET: Final = Ticket(
    "T-504", "Ada Quist", "A-1120", 1, "Order A-1120: the mug arrived chipped. Please refund it."
)
HANDBOOK: Final = (
    Document("refunds", "3", "Broken goods: refund the broken pieces at the price paid. A photo is not needed."),
    Document(
        "late-delivery", "1", "More than seven days late: offer 5.00 as store credit after a look at past claims."
    ),
)
RULES: Final = {
    "refund-small": "A refund of up to 10.00 is allowed.",
    "refund-approved": "A refund over 10.00 needs the approval of a person.",
    "credit-small": "A store credit of up to 20.00 is allowed.",
    "reverse": "A payment that should not have been made may be taken back.",
    "otherwise": "Anything else is denied.",
}
POLICY: Final = json.dumps(RULES, indent=1).encode()
POLICY_DIGEST: Final = sha256_digest(POLICY)


def decide(action: str, amount: Decimal) -> Verdict:
    """The policy's verdict on a payment."""
    if action == "refund":
        rule = "refund-small" if amount <= 10 else "refund-approved"
        return Verdict("allow" if amount <= 10 else "require_approval", rule, RULES[rule])
    if action == "credit" and amount <= 20:
        return Verdict("allow", "credit-small", RULES["credit-small"])
    if action == "reverse":
        return Verdict("allow", "reverse", RULES["reverse"])
    return Verdict("deny", "otherwise", RULES["otherwise"])


def find_documents(query: str) -> list[tuple[Document, Decimal]]:
    """The handbook's pages that share a word with the query, best first, with the share of the query's words."""
    words = set(query.lower().split())
    scored = []
    for page in HANDBOOK:
        found = words & set(f"{page.id} {page.text}".lower().replace(".", " ").replace(":", " ").split())
        if found:
            scored.append((page, (Decimal(len(found)) / len(words)).quantize(Decimal("0.01"))))
    return sorted(scored, key=lambda pair: pair[1], reverse=True)


class Payments:
    """The payment provider. A key that was used before pays nothing again. `lose_reply`: keys of orders whose first
    payment is made, but the answer gets lost on the way."""

    def __init__(self, journal: Path, lose_reply: set[str]) -> None:
        self._journal = journal
        self._lose_reply = lose_reply
        self._by_key: dict[str, Payment] = {}

    async def pay(self, key: str, action: Action, order: str, amount: Decimal) -> Payment:
        """Move money, once per key. Raises TimeoutError where the answer is lost; the money has moved then."""
        known = self._by_key.get(key)
        if known is not None:
            return known
        payment = Payment(f"pay-{key}", key, action, order, amount)
        self._by_key[key] = payment
        with self._journal.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(asdict(payment) | {"amount": str(amount), "currency": CURRENCY}) + "\n")
        if order in self._lose_reply:
            self._lose_reply.discard(order)
            raise TimeoutError("the payment provider did not answer")
        return payment

    def made(self) -> list[Payment]:
        """What was paid by this provider since it was made, in order."""
        return list(self._by_key.values())


@dataclass(slots=True)
class Shop:
    """One business: what it knows, and what it remembers of its customers."""

    payments: Payments
    notes: dict[str, str] = field(default_factory=lambda: {"Jo Marsh": "Prefers refunds over replacements."})
