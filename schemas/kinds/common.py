"""What every kind can carry, and the objects that several kinds share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.compile import property_marks
from schemas.fields import ByLedger, Content, Count, Currency, Decimal, EventRef, Name, Open, Person, Step, Text

Risk = Literal["low", "medium", "high", "critical"]
Environment = Literal["production", "staging", "development", "test"]
Origin = Literal["trusted", "untrusted"]
Autonomy = Literal["observe", "draft", "execute_with_approval", "execute"]


def _publish_marks(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Say of every property whether it is public, content or person, and whether the ledger sets it."""
    for name, (mark, by_ledger) in property_marks(model).items():
        schema["properties"][name]["x-tallystick"] = mark
        if by_ledger:
            schema["properties"][name]["readOnly"] = True


class Object(BaseModel):
    """An object of named members. Unknown ones are not refused here: they are moved to /raw before."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=(), json_schema_extra=_publish_marks)


class Actor(Object):
    agent: Name | None = None
    version: Text | None = None
    principal: Person | None = None
    on_behalf_of: Person | None = None


class Trace(Object):
    trace_id: Name | None = None
    span_id: Name | None = None
    parent_span_id: Name | None = None


class Reference(Object):
    what: Text | None = None
    id: Text | None = None
    digest: Text | None = None


class Attestation(Object):
    by: Person | None = None
    key: Name
    value: Name


class Versioned(Object):
    """A prompt or a tool schema."""

    name: Text | None = None
    version: Text | None = None
    digest: Text | None = None


class WorkItem(Object):
    system: Name
    id: Name


class Amount(Object):
    amount: Decimal
    currency: Currency


class Effect(Object):
    """What a write did, or would do, in the world."""

    system: Text | None = None
    resource: Text | None = None
    action: Text | None = None
    count: Count | None = None
    amount: Decimal | None = None
    currency: Currency | None = None


class Data(Object):
    """`data` of any kind."""

    actor: Actor | None = None
    trace: Trace | None = None
    session: Name | None = None
    step: Step | None = None
    parent: EventRef | None = None
    refs: list[Reference] | None = None
    attestation: Attestation | None = None
    ce_source: Annotated[Text | None, ByLedger()] = None
    missing: Annotated[list[Name] | None, ByLedger()] = None
    overflow: Annotated[Open | None, ByLedger()] = None
    vouched: Annotated[Literal["claimed", "signed", "attested"] | None, ByLedger()] = None


class Explained(Data):
    """`data` of the kinds whose own members leave the name `reason` free."""

    reason: Content | None = None


class Common(Explained):
    """`data` of the kinds whose own members leave the name `from` free too."""

    from_: Annotated[Literal["event", "span", "span_event", "log", "line"] | None, ByLedger()] = Field(
        default=None, alias="from"
    )
