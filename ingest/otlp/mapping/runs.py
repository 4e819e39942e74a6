"""Runs and agents: what began and ended, with which envelope, who handed to whom; and spans without a kind of their
own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from ingest.otlp.mapping import clear, forms
from ingest.otlp.mapping import precedence as names
from ingest.otlp.mapping.calls import prompt_of
from ingest.otlp.mapping.classify import Role, handoff_between
from ingest.otlp.mapping.conventions import agent_framework, google_adk, openai_agents, pydantic_ai, strands
from ingest.otlp.mapping.item import Item
from ingest.otlp.mapping.members import fill
from schemas.event import Draft

_AGENT_NAMES: Final = re.compile(r"invoke_agent (.+)|agent_run \[(.+)\]|(.+)\.run", re.DOTALL)
_CANCELLED: Final = frozenset({"CancelledError", "KeyboardInterrupt", "GeneratorExit"})

# The envelope of a run: what the item says, else its resource.
ENVELOPE: Final[tuple[tuple[str, names.Names, Any], ...]] = (
    ("workflow", names.WORKFLOW, forms.name),
    (
        "environment",
        ("tallystick.environment", "deployment.environment.name", "deployment.environment"),
        forms.OneOf(frozenset({"production", "staging", "development", "test"})),
    ),
    ("owner", ("tallystick.owner",), forms.name),
    (
        "autonomy",
        ("tallystick.autonomy",),
        forms.OneOf(frozenset({"observe", "draft", "execute_with_approval", "execute"})),
    ),
    ("contract", ("tallystick.contract",), forms.digest),
    ("policy_bundle", ("tallystick.policy_bundle",), forms.digest),
    ("budget", ("tallystick.budget",), forms.open_object),
    ("parent_run", ("tallystick.parent_run",), forms.run_id),
    ("root_run", ("tallystick.root_run",), forms.run_id),
    ("depth", ("tallystick.depth",), forms.count),
    ("release", ("tallystick.release",), forms.label),
    ("trace_level", ("tallystick.trace_level",), forms.label),
)
# Of these, any that is said makes a root span of any kind the start of a run.
_EXPLICIT: Final = tuple(name for _, source, _ in ENVELOPE for name in source if name.startswith("tallystick."))


def run_finished(item: Item) -> Draft:
    """The root agent's or workflow's own entry: at its end."""
    draft = item.draft("run_finished")
    draft.time = item.end
    fill(item.said, draft, "run_finished")
    draft.data["status"] = _outcome(item)
    if item.latency_us is not None:
        draft.data["total_latency_us"] = item.latency_us
    return draft


def run_started(item: Item) -> None:
    """What a root span says of its run's beginning, at its start."""
    draft = item.derive("run_started")
    data = draft.data
    data.pop("parent", None)
    for member, source, form in ENVELOPE:
        value = item.envelope(source, form)
        if value is not None:
            data[member] = value
    fill(item.said, draft, "run_started")
    if not draft.content and (request := pydantic_ai.request(item.said)) is not None:
        draft.content.append(forms.content("/request", request))
    model = item.envelope(("tallystick.model",), forms.name)
    if model is not None:
        data["model"] = model
    prompt = prompt_of(item)
    if prompt:
        data["prompt"] = prompt
    system = item.envelope(("tallystick.work_item.system",), forms.label)
    reference = item.envelope(("tallystick.work_item.id",), forms.label)
    if system is not None and reference is not None:
        data["work_item"] = {"system": system, "id": reference}
    tools = item.said.peek(names.TOOLS_OFFERED, forms.tool_names)
    if tools is not None:
        data["tool_schemas"] = [{"name": tool} for tool in tools]


def has_envelope(item: Item) -> bool:
    """Whether the item or its resource plainly describes a run."""
    attributes, resource = item.said.attributes, item.origin.resource
    return any(name in attributes or name in resource for name in _EXPLICIT)


def delegation(item: Item, role: Role) -> Draft:
    """An agent or workflow inside another span, or a handoff. Its actor is who delegates, where that is told."""
    draft = item.draft("delegation")
    to, giver = _handed_over(item) if role == "handoff" else _called(item, role)
    if to is not None:
        draft.data["to_agent"] = to
    giver = giver or item.said.first(names.AGENT[:1], forms.name) or _agent_of(item.origin.resource)
    draft.actor = {name: told for name, told in draft.actor.items() if name != "agent"}
    if giver is not None and giver != to:
        draft.actor["agent"] = giver
    return draft


def _agent_of(resource: Mapping[str, Any]) -> str | None:
    """Whose process it is."""
    return next((found for name in names.AGENT_OF_RESOURCE if (found := forms.service(resource.get(name)))), None)


def _called(item: Item, role: Role) -> tuple[str | None, str | None]:
    """(to whom, by whom) an agent's or workflow's own span tells: it names the agent that was called."""
    said = item.said
    giver = said.first(names.HANDOFF_FROM, forms.name)
    to = said.first(names.WORKFLOW[1:], forms.name) if role == "workflow" else None
    to = to or said.first(names.AGENT[1:], forms.name) or said.first(("traceloop.entity.name",), forms.name)
    if to is None:
        match = _AGENT_NAMES.fullmatch(item.name)
        to = clear.term(next((part for part in match.groups() if part), None) if match else item.name)
    return to, giver


def _handed_over(item: Item) -> tuple[str | None, str | None]:
    """(to whom, by whom) a handoff tells: its span belongs to the agent that hands over."""
    said = item.said
    from_name, to_name = handoff_between(item.name)
    to = clear.term(to_name) or google_adk.transfer_to(said) or said.first(names.HANDOFF_TO, clear.term)
    giver = said.first(names.HANDOFF_FROM, clear.term)
    if openai_agents.tells_handoffs(item):  # anybody else's tool may be named so, and have anything as its input
        giver = giver or said.first(("input.value",), clear.agent)
        said.first(("output.value",), forms.Equal(clear.agent, to))
    return to, giver or clear.term(from_name) or item.common.actor.get("agent")


def plain_span(item: Item, role: Role) -> Draft:
    """What has no kind of its own: structure, or nothing that an agent does."""
    draft = item.draft("span")
    data = draft.data
    name = clear.span_name(item.name)
    if name is not None:
        data["name"] = name
    data["class"] = "structure" if role == "structure" else "other"
    data["status"] = "error" if item.failed else "ok"
    if item.latency_us is not None:
        data["latency_us"] = item.latency_us
    return draft


def _outcome(item: Item) -> str:
    if item.failed:
        told = item.error_class or ""
        return "aborted" if told.rpartition(".")[2] in _CANCELLED else "failure"
    said = item.said
    waits = any(pydantic_ai.deferred(said)) or agent_framework.requested(said) or strands.interrupts(item)
    return "handed_over" if waits or item.interrupted else "success"
