"""The envelope of a run: for whom it acts, under what, and as which run. Set for a block, seen by whatever runs in it.

It stands in OpenTelemetry's context, as the current span does, so it follows async tasks but not new threads, and it
does not leave the process. Baggage would: every instrumented HTTP client sends all of it along, to whatever host is
asked, also to those of other companies. So it is put there only on request (`carry`), and only the opaque ids of the
run unless everything is asked for. What comes in as baggage was said by whoever sent the request: it is believed only
on request too (`accept`).

Guarantees: nothing here raises because of a value; what can't be sent is left out with a warning of the logger
`tallystick.otel`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, TypedDict, Unpack

from opentelemetry import baggage, context, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext

from .names import (
    DEPTH,
    PARENT_RUN,
    PREFIX,
    ROOT_RUN,
    RUN_ID,
    RUN_NAMES,
    Attribute,
    envelope_attributes,
)

Reach: TypeAlias = Literal["nothing", "run", "everything"]
"""How much of an envelope crosses to another process: nothing, the ids of the run and of those above it, or all."""

Environment: TypeAlias = Literal["production", "staging", "development", "test"]
Autonomy: TypeAlias = Literal["observe", "draft", "execute_with_approval", "execute"]

_KEY: Final = context.create_key("tallystick-envelope")
# What says which agent it is: a run below has another one.
_OF_THE_AGENT: Final = ("agent", "agent_version", "owner", "contract", "autonomy", "model", "prompt.", "release")


class Below(TypedDict, total=False):
    """What a run below can say of itself, beside its agent."""

    tenant: str | None
    version: str | None
    principal: str | None
    on_behalf_of: str | None
    data_subjects: str | Iterable[str] | None
    workflow: str | None
    owner: str | None
    environment: Environment | None
    autonomy: Autonomy | None
    contract: str | None
    policy_bundle: str | None
    prompt: Mapping[str, str] | None
    model: str | None
    budget: Mapping[str, Any] | None
    work_item: Mapping[str, str] | None
    release: str | None
    trace_level: str | None
    session: str | None


class Members(Below, total=False):
    """What an envelope can say. `version`: the agent's. `data_subjects`: whose data the content is; that person's
    erasure covers it. `contract`, `policy_bundle`: `sha256:` and hex. The names are those of `tallystick.emit`."""

    agent: str | None
    parent_run: str | None
    root_run: str | None
    depth: int | None


@dataclass(frozen=True, slots=True)
class Envelope:
    """What holds in a block: the run's id, and the attributes that spans and log records get."""

    run_id: str
    attributes: Mapping[str, Attribute]


def attributes_in(at: Context | None = None, accept: Reach = "nothing") -> dict[str, Attribute]:
    """The envelope's attributes in a context (the current one). What the process itself said wins over baggage."""
    found: dict[str, Attribute] = {}
    if accept != "nothing":
        for name, value in baggage.get_all(at).items():
            if _reaches(name, accept):
                found[name] = str(value)
    held = context.get_value(_KEY, at)
    if isinstance(held, _Held):
        found |= held.attributes
    return found


@contextmanager
def envelope(
    run_id: str | None = None,
    *,
    carry: Reach | None = None,
    accept: Reach = "nothing",
    own_trace: bool = True,
    **members: Unpack[Members],
) -> Iterator[Envelope]:
    """Everything in the block is of this run. Members add to those of the envelope around it.

    Without `run_id` it is the run of the envelope around it, else a new one. `carry`: what goes along as baggage with
    every request made in the block (as in the envelope around it, else nothing). `accept`: what counts of the baggage
    that came with the request that is served. `own_trace`: a new run that begins inside a span, such as a web
    server's, has a trace of its own, linked to that span. So it has a root, which the ledger reads its beginning and
    end from; and what is recorded doesn't depend on whether whoever called had its trace sampled.
    """
    around = attributes_in(accept=accept)
    own = envelope_attributes({"run_id": run_id, **members})
    if RUN_ID not in own and RUN_ID not in around:
        own[RUN_ID] = str(uuid.uuid4())
    begins = own_trace and own.get(RUN_ID, around.get(RUN_ID)) != around.get(RUN_ID)
    with _attached(around | own, carry, begins) as entered:
        yield entered


@contextmanager
def child(
    agent: str, run_id: str | None = None, *, carry: Reach | None = None, **members: Unpack[Below]
) -> Iterator[Envelope]:
    """A run of another agent below the current one: `parent_run`, `root_run` and `depth` are set, and principal,
    budget, policy bundle and work item are inherited. Its spans begin a trace of their own, so that each of the two
    runs has a root. Say the delegation itself with `delegation(to_agent=…, to_run=…)`, in the run above."""
    around = attributes_in()
    above = around.get(RUN_ID) or _current_trace_id()
    own = envelope_attributes({"run_id": run_id, "agent": agent, **members})
    own.setdefault(RUN_ID, str(uuid.uuid4()))
    inherited = {name: value for name, value in around.items() if not _is_of_the_agent(name)}
    if above is not None:
        inherited |= {PARENT_RUN: above, ROOT_RUN: around.get(ROOT_RUN, above), DEPTH: _depth(around) + 1}
    with _attached(inherited | own, carry, begins=True) as entered:
        yield entered


@dataclass(frozen=True, slots=True)
class _Held:
    """What stands in the context."""

    attributes: Mapping[str, Attribute]
    carry: Reach
    called_in: SpanContext | None  # of the span that the run was begun in, in another trace


def called_in(at: Context | None = None) -> SpanContext | None:
    """The span in which the current run was begun, where that is in another trace."""
    held = context.get_value(_KEY, at)
    return held.called_in if isinstance(held, _Held) else None


@contextmanager
def _attached(attributes: dict[str, Attribute], carry: Reach | None, begins: bool) -> Iterator[Envelope]:
    held = context.get_value(_KEY)
    around = held if isinstance(held, _Held) else _Held({}, "nothing", None)
    reach = carry or around.carry
    here, caller = context.get_current(), around.called_in
    if begins:
        current = trace.get_current_span().get_span_context()
        caller = current if current.is_valid else None
        here = trace.set_span_in_context(trace.INVALID_SPAN, here)
    here = context.set_value(_KEY, _Held(attributes, reach, caller), here)
    for name in baggage.get_all(here):  # what came in, or was set around this, goes no further than `reach` says
        if name.startswith(PREFIX) and not (name in attributes and _reaches(name, reach)):
            here = baggage.remove_baggage(name, here)
    for name, value in attributes.items():
        if _reaches(name, reach):
            here = baggage.set_baggage(name, value, here)
    token = context.attach(here)
    try:
        yield Envelope(str(attributes[RUN_ID]), attributes)
    finally:
        context.detach(token)


def _reaches(name: str, reach: Reach) -> bool:
    return reach != "nothing" and (name in RUN_NAMES or (reach == "everything" and name.startswith(PREFIX)))


def _is_of_the_agent(name: str) -> bool:
    return name.removeprefix(PREFIX).startswith(_OF_THE_AGENT)


def _depth(attributes: Mapping[str, Attribute]) -> int:
    found = attributes.get(DEPTH, 0)
    return int(found) if isinstance(found, int | str) and str(found).isdecimal() else 0


def _current_trace_id() -> str | None:
    at = trace.get_current_span().get_span_context()
    return trace.format_trace_id(at.trace_id) if at.is_valid else None


def resource_attributes(*, service: str | None = None, **members: Unpack[Members]) -> dict[str, Attribute]:
    """What holds for a whole process, for `Resource.create`: agent, version, owner, environment, contract … `service`
    is `service.name`. What an envelope or a span says itself wins over it."""
    found: dict[str, Attribute] = {} if service is None else {"service.name": service}
    return found | envelope_attributes(members)
