"""A run, its steps, and what is measured in them. Only composes events: nothing here waits or fails for transport.

Guarantees: run_started is the first event, run_finished the last that this helper emits, with status failure when an
exception left the block (aborted, if it was a cancellation or an interrupt), an `error` event at the deepest step it
passed, and the exception itself untouched. Latencies are whole microseconds of a monotonic clock.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeVar, Unpack

from . import encode
from .kinds import Common, Envelope, Kinds, ModelCall, Retrieval, RunFinished, RunOptions, ToolCall

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

RunStatus = Literal["success", "failure", "aborted", "handed_over"]
ENVELOPE_MEMBERS = ("event_id", "at", "traceparent", "data_subjects")
ACTOR_MEMBERS = ("agent", "version", "principal", "on_behalf_of")


class Sink(Protocol[R_co]):
    """What a run needs of an emitter."""

    def emit(self, kind: str, data: Mapping[str, Any] | None = None, **envelope: Unpack[Envelope]) -> str: ...

    def record(
        self, kind: str, data: Mapping[str, Any] | None = None, *, timeout: float = 10.0, **envelope: Unpack[Envelope]
    ) -> R_co: ...


class Scope(Kinds[str], Generic[R]):
    """A place to emit from: the run itself, or a step of it. Its events carry the run's actor, and as `parent` the
    id of the event that opened the scope."""

    def __init__(self, sink: Sink[R], run_id: str, defaults: Mapping[str, Any], envelope: Envelope) -> None:
        self._sink, self._defaults, self._envelope = sink, defaults, envelope
        self.id = run_id
        self._blamed: list[BaseException] = []  # shared by a run's scopes: the exception that has its error event

    def _parts(self, members: Mapping[str, Any]) -> tuple[dict[str, Any], Envelope]:
        """Data and envelope: defaults under what is given, None left out, `class_` becomes `class`."""
        envelope = Envelope(**self._envelope, run=self.id)
        data = dict(self._defaults)
        for name, value in members.items():
            if value is None:
                continue
            if name in ENVELOPE_MEMBERS:
                envelope[name] = value  # type: ignore[literal-required]  # ENVELOPE_MEMBERS are its keys
            else:
                data[name.rstrip("_")] = value
        return data, envelope

    def _send(self, kind: str, members: dict[str, Any]) -> str:
        data, envelope = self._parts(members)
        return self._sink.emit(kind, data, **envelope)

    def durable(self, timeout: float = 10.0) -> Durable[R]:
        """The same kinds, each returning (or, of an AsyncEmitter, awaited) only when Kafka has the event."""
        return Durable(self, timeout)

    def step(self, name: str, **more: Unpack[Common]) -> Step[R]:
        """`with run.step("plan") as step:` a `span` event with its latency; what `step` emits has it as parent."""
        return Step(self, name, dict(more))

    def model(self, *, provider: str, model: str, **more: Unpack[ModelCall]) -> Measured[R]:
        """`with run.model(provider=…, model=…) as call: …; call.set(output_tokens=…)`: one measured model_call."""
        return Measured(self, "model_call", {"provider": provider, "model": model, **more})

    def tool(self, tool: str, *, call: str | None = None, **more: Unpack[ToolCall]) -> Measured[R]:
        """`with run.tool("orders.get", access="read", input=…) as call: call.set(output=…)`: one measured tool_call,
        phase finished."""
        return Measured(self, "tool_call", {"tool": tool, "call": call or encode.uuid7(), "phase": "finished", **more})

    def retrieve(self, *, store: str, **more: Unpack[Retrieval]) -> Measured[R]:
        """`with run.retrieve(store=…, query=…) as found: found.set(documents=…)`: one measured retrieval."""
        return Measured(self, "retrieval", {"store": store, **more})

    def _blame(self, error: BaseException, of: str) -> None:
        """One `error` event for an exception, where it is first seen: the outer scopes it passes say no more."""
        if not isinstance(error, Exception) or any(seen is error for seen in self._blamed):
            return
        self._blamed[:] = [error]
        kind = type(error)
        self.error(class_=f"{kind.__module__}.{kind.__qualname__}", of=of, message=encode.text_of(error))


class Durable(Kinds[R]):
    """See Scope.durable. Raises what the emitter's `record` raises."""

    def __init__(self, scope: Scope[R], timeout: float) -> None:
        self._scope, self._timeout = scope, timeout

    def _send(self, kind: str, members: dict[str, Any]) -> R:
        data, envelope = self._scope._parts(members)
        return self._scope._sink.record(kind, data, timeout=self._timeout, **envelope)


class _Timed:
    """A block's start, as time of day and on the monotonic clock."""

    def _begin(self) -> None:
        self._at, self._from_ns = dt.datetime.now(dt.UTC), time.perf_counter_ns()

    @property
    def latency_us(self) -> int:
        """Microseconds since the block began."""
        return (time.perf_counter_ns() - self._from_ns) // 1000


class Measured(_Timed, Generic[R]):
    """One event, emitted when its block ends: its time is the block's start; latency and status are measured."""

    def __init__(self, scope: Scope[R], kind: str, members: dict[str, Any]) -> None:
        self._scope, self._kind, self._members = scope, kind, members
        self.event_id: str = members.setdefault("event_id", encode.uuid7())

    @property
    def call(self) -> str:
        """The id that joins a tool call's phases, approvals and policy decisions."""
        return str(self._members["call"])

    def set(self, **members: Any) -> None:
        """Members known only now: output, tokens, effect, status …"""
        self._members.update(members)

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        found = {"at": self._at, "latency_us": self.latency_us}
        if self._kind != "retrieval":  # which has no status
            found["status"] = _status(error)
        self._scope._send(self._kind, found | self._members)
        if error is not None:
            self._scope._blame(error, self.event_id)


class Step(Scope[R], _Timed):
    """A named part of a run."""

    def __init__(self, outer: Scope[R], name: str, members: dict[str, Any]) -> None:
        self._outer, self._name, self._members = outer, name, members
        self.event_id: str = members.setdefault("event_id", encode.uuid7())
        defaults = {**outer._defaults, "parent": self.event_id, "step": name}
        super().__init__(outer._sink, outer.id, defaults, outer._envelope)
        self._blamed = outer._blamed

    def __enter__(self) -> Self:
        self._begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            self._blame(error, self.event_id)
        found: dict[str, Any] = {"name": self._name, "class": "structure", "step": self._name}
        found |= {"status": _status(error), "at": self._at, "latency_us": self.latency_us}
        self._outer._send("span", found | self._members)


class Run(Scope[R], _Timed):
    """See the module. `id` is the run's; `start` and `finish` are for runtimes whose runs aren't a block."""

    def __init__(self, sink: Sink[R], run_id: str | None, options: RunOptions) -> None:
        members: dict[str, Any] = dict(options)
        actor = {name: members.pop(name, None) for name in ACTOR_MEMBERS}
        envelope = Envelope(
            traceparent=members.pop("traceparent", None), data_subjects=members.pop("data_subjects", ())
        )
        said = (
            {"actor": {name: value for name, value in actor.items() if value is not None}}
            if any(actor.values())
            else {}
        )
        if "session" in members:  # the key of a session's content is its own: each event has to name it
            said["session"] = members["session"]
        self._options, self._members, self._started = options, members, encode.uuid7()
        self._finished = False
        super().__init__(sink, encode.check_run_id(run_id or encode.uuid7()), said, envelope)

    def start(self) -> Self:
        """Emit run_started."""
        self._begin()
        self._send("run_started", {"event_id": self._started, "at": self._at, **self._members})
        self._defaults = {**self._defaults, "parent": self._started}
        return self

    def finish(self, status: RunStatus = "success", **more: Unpack[RunFinished]) -> None:
        """Emit run_finished; the first call counts. Without one, the end of the block says success or failure."""
        if not self._finished:
            self._finished = True
            self._send("run_finished", {"status": status, "total_latency_us": self.latency_us, **more})

    def child(self, run_id: str | None = None, **options: Unpack[RunOptions]) -> Run[R]:
        """A run below this one: `parent_run`, `root_run`, `depth` and session are set; name the agent it is of."""
        mine = self._options
        tree = RunOptions(parent_run=self.id, root_run=mine.get("root_run", self.id), depth=mine.get("depth", 0) + 1)
        if "session" in mine:
            tree["session"] = mine["session"]
        tree.update(options)
        return Run(self._sink, run_id, tree)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self.finish()
            return
        self._blame(error, self._started)
        self.finish("failure" if isinstance(error, Exception) else "aborted")
        self._blamed.clear()


def _status(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    return "timeout" if isinstance(error, TimeoutError) else "error"
