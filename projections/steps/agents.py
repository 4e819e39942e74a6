"""Who was handed the work: a delegation told several times, and an agent's span that is none. Pure.

An agent's span says which agent it is, and not whether somebody delegated to it: that shows only in what is around it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from projections.reading import text
from projections.steps.merging import Merging, alive, groups
from projections.steps.told import Told


def delegations(told: Told, merging: Merging) -> None:
    """Each delegation once."""
    _inner_agents(told, merging)
    handed = _handoffs(told, merging)
    _own_agents(told, merging, handed)
    _agents_as_tools(told, merging)


def _agent(told: Told, at: int) -> str | None:
    return text(told.data(at).get("to_agent"))


def _inner_agents(told: Told, merging: Merging) -> None:
    """A workflow and its agent of the same name, one inside the other with no step between, are one."""
    found = told.own("delegation")
    above = told.forest.nearest(told.own_steps())
    for node, at in found.items():
        outer = found.get(above.get(node, ""))
        if outer is not None and _agent(told, at) is not None and _agent(told, at) == _agent(told, outer):
            merging.merge(at, outer, "inner_agent")


def _own_agents(told: Told, merging: Merging, handed: Collection[int]) -> None:
    """The run's own agent, right inside its root, to which nobody handed over: named as the root is; or, where the root
    itself does nothing, the first one and whatever has its name (it went on after a break)."""
    roots = told.own("run_finished")
    starts = {told.nodes[at]: at for at in alive(told, merging, "run_started")}
    agents = roots.keys() | told.own("delegation").keys()
    above = told.forest.nearest(agents)
    busy = {above.get(node) for node in told.own("model_call", "tool_call")}
    own: dict[str, set[str | None]] = {}
    for at in alive(told, merging, "delegation"):
        root = above.get(told.nodes[at], "")
        if at in handed or root not in roots or not told.is_own(at) or not told.forest.has_children(told.nodes[at]):
            continue
        start = starts.get(root, roots[root])
        names = own.get(root)
        if names is None:
            names = own[root] = _names_of_root(told, (start, roots[root]))
            if root not in busy:
                names.add(_agent(told, at))
        if _agent(told, at) in names:
            merging.merge(at, start, "own_agent")


def _names_of_root(told: Told, entries: Iterable[int]) -> set[str | None]:
    found: set[str | None] = set()
    for at in entries:
        actor = told.entries[at].leaf.actor or {}
        found.update(name for name in (text(actor.get("agent")), text(told.data(at).get("workflow"))) if name)
    return found


def _agents_as_tools(told: Told, merging: Merging) -> None:
    """A tool that is an agent: the call and the delegation inside it, of one name, are one delegation."""
    calls = {told.nodes[at]: at for at in alive(told, merging, "tool_call") if told.is_own(at)}
    above = told.forest.nearest(told.own_steps())
    for at in alive(told, merging, "delegation"):
        call = calls.get(above.get(told.nodes[at], ""))
        if call is not None and _agent(told, at) is not None and _agent(told, at) == told.data(call).get("tool"):
            merging.merge(call, at, "agent_as_tool")


def _handoffs(told: Told, merging: Merging) -> set[int]:
    """A handoff told by a span of its own, which contains nothing, and by the span of the agent that took over: the
    next one of that name, or the next one at all where the handoff doesn't say to whom. Returns who took over."""
    taken: set[int] = set()
    found = [at for at in alive(told, merging, "delegation") if told.came_from(at) == "span"]
    for in_trace in groups(((_trace(told, at),), at) for at in found):
        waiting: dict[str | None, list[int]] = {}
        for at in in_trace:
            if not told.forest.has_children(told.nodes[at]):
                waiting.setdefault(_agent(told, at), []).append(at)
            elif handoffs := _waiting_for(waiting, _agent(told, at)):
                merging.merge(handoffs.pop(), at, "handoff")
                taken.add(at)
    return taken


def _waiting_for(waiting: Mapping[str | None, list[int]], agent: str | None) -> list[int]:
    named = waiting.get(agent, []) if agent is not None else []
    return named or waiting.get(None, [])


def _trace(told: Told, at: int) -> str | None:
    trace = told.data(at).get("trace")
    return text(trace.get("trace_id")) if isinstance(trace, dict) else None
