"""Errors: an error's type, a status of ERROR, exceptions in span events; and what only looks like one (rule 3).

A span that failed gives one `error`: of its exception where one was recorded, else of its status. Every exception gives
one of its own. An interrupt is no error: it gives approval requests, and the span did not fail by it.
"""

from __future__ import annotations

from typing import Any, Final

from ingest.otlp.mapping import clear, forms
from ingest.otlp.mapping.conventions import langgraph, langsmith
from ingest.otlp.mapping.events import SpanEvent
from ingest.otlp.mapping.item import Item
from ingest.otlp.mapping.times import timestamp_of
from schemas.event import Content, Draft

EXCEPTION: Final = "exception"
_ASKING: Final = frozenset({"ApprovalRequired", "CallDeferred"})  # Pydantic AI before version 5 of its instrumentation
_UNNAMED: Final = "_OTHER"  # what OpenTelemetry calls an error of no known type
_INTERRUPT_TEXT: Final = ("GraphInterrupt(", "NodeInterrupt(")


def split_exceptions(item: Item) -> tuple[list[SpanEvent], list[SpanEvent]]:
    """The item's exceptions: those that are errors, and those that are interrupts. Settles whether the item failed, and
    with which class of error."""
    failures: list[SpanEvent] = []
    interrupts: list[SpanEvent] = []
    controlled = False
    for event in item.events:
        if event.name != EXCEPTION:
            continue
        if langgraph.is_control(event.attributes.get("exception.type")):
            controlled = True
        elif _interrupts(event.attributes):
            interrupts.append(event)
        else:
            failures.append(event)
    item.interrupted = bool(interrupts)
    told = item.said.get("error.type")
    if _is_no_error(told) or ((interrupts or controlled) and not failures and told is None):
        item.failed = False
    elif told is not None and told != "":
        item.failed = True
    if item.failed:
        item.error_class = clear.term(told) or next(
            (found for event in reversed(failures) if (found := clear.term(event.attributes.get("exception.type")))),
            None,
        )
    return failures, interrupts


def errors(item: Item, failures: list[SpanEvent]) -> None:
    """The errors that the item's exceptions and status tell."""
    told = item.said.first(("error.type",), _error_type)
    distinct = _distinct(failures)
    matched = False  # whether the last exception is what the status tells
    for event in distinct:
        if item.full:
            return
        name = clear.term(event.attributes.get("exception.type"))
        if name is not None:
            item.said.used.add(event.key("exception.type"))
        last = event is distinct[-1]
        matched = last and (told is None or name is None or _last(name) == _last(told))
        draft = item.derive("error", "span_event", timestamp_of(event.time_ns))
        if item.origin.scope_name == langsmith.SCOPE:
            name = langsmith.raised(event.attributes.get("exception.message")) or name
        draft.data["class"] = name or (told if matched else None) or _UNNAMED
        draft.data["of"] = item.id
        message = exception_message(item, event, item.status_message if matched and item.failed else "")
        if message is not None:
            draft.content.append(message)
    if item.failed and not matched and not item.full:
        draft = item.derive("error", time=item.end)
        draft.data["class"] = told or _UNNAMED
        draft.data["of"] = item.id
        message = _status_message(item)
        if message is not None:
            draft.content.append(message)


def _distinct(failures: list[SpanEvent]) -> list[SpanEvent]:
    """Each exception once: some are recorded by the framework and by the SDK again."""
    found: dict[str, SpanEvent] = {}
    for event in failures:
        said = [event.attributes.get(name) for name in ("exception.type", "exception.message")]
        found.setdefault(repr(said), event)
    return list(found.values())


def _status_message(item: Item) -> Content | None:
    """The message of a failure that no exception tells."""
    parts = _message_parts(item.said.attributes)
    item.said.used.update(name for name in _PARTS if name in item.said.attributes)
    if "message" not in parts and type(said := item.said.more.get("error.message")) is str and said:
        parts["message"] = said
        item.said.used.update(item.said.behind.get("error.message", ()))
    if item.status_message:
        item.said.used.add("<status message>")
        if "message" not in parts:
            parts["message"] = item.status_message
        elif parts["message"] != item.status_message:
            parts["status_message"] = item.status_message
    return _message(parts) if parts else None


def interrupts(item: Item, events: list[SpanEvent]) -> None:
    """The approval requests that interrupts are: `approval` is the interrupt's id, the same on every ancestor. An
    exception's text is the context of its first request, and a call's arguments the input of the span's first that asks
    about it: no text comes more than once, however many ask."""
    read: langgraph.Asked | None = None
    is_read = is_told = False
    for event in events:
        message = event.attributes.get("exception.message")
        found: list[str | None] = [*langgraph.interrupt_ids(message)]
        tool = langgraph.asks(message) if len(found) == 1 else None
        if tool is not None and not is_read:
            read, is_read = langgraph.last_call(item.said), True
        for at, approval in enumerate(found or [None]):
            if item.full:
                return
            draft = item.derive("approval_request", "span_event", timestamp_of(event.time_ns))
            if approval is not None:
                draft.data["approval"] = approval
            if tool is not None and read is not None and read.tool == tool:
                draft.data["call"] = read.call
                if not is_told:
                    draft.content.append(forms.content("/input", forms.Json(read.arguments)))
                    is_told = True
            if at == 0 and message is not None and message != "":
                draft.content.append(forms.content("/context", message))
                item.said.used.add(event.key("exception.message"))
        if clear.term(event.attributes.get("exception.type")) is not None:
            item.said.used.add(event.key("exception.type"))


def exception_of_log(item: Item) -> Draft | None:
    """The error of a log record that tells an exception, or None."""
    said = item.said
    name = said.first(("exception.type", "error.type"), _error_type)
    if name is None and "exception.message" not in said.attributes:
        return None
    draft = item.draft("error")
    draft.data["class"] = name or _UNNAMED
    if item.parent is not None:
        draft.data["of"] = item.parent
    parts = _message_parts(said.attributes)
    said.used.update(name for name in _PARTS if name in said.attributes)
    if parts:
        draft.content.append(_message(parts))
    return draft


_PARTS: Final = {"exception.message": "message", "error.message": "message", "exception.stacktrace": "stacktrace"}


def exception_message(item: Item, event: SpanEvent, status_message: str) -> Content | None:
    """Message and stack trace as content, with the status's message where it says more."""
    parts = _message_parts(event.attributes)
    item.said.used.update(event.key(name) for name in _PARTS if name in event.attributes)
    if status_message:
        item.said.used.add("<status message>")
        if status_message != parts.get("message"):
            parts["status_message"] = status_message
    return _message(parts) if parts else None


def _message_parts(attributes: dict[str, Any]) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    for name, part in _PARTS.items():
        if name in attributes and attributes[name] != "":
            parts.setdefault(part, attributes[name])
    return parts


def _message(parts: dict[str, Any]) -> Content:
    """A message alone as it is; with its stack trace as an object."""
    only = parts.get("message") if len(parts) == 1 else None
    return forms.content("/message", parts if only is None else only)


def _interrupts(attributes: dict[str, Any]) -> bool:
    name, message = attributes.get("exception.type"), attributes.get("exception.message")
    return _is_interrupt_type(name) or (type(message) is str and message.startswith(_INTERRUPT_TEXT))


def _is_interrupt_type(name: Any) -> bool:
    return langgraph.is_interrupt(name) or (type(name) is str and _last(name) in _ASKING)


def _is_no_error(name: Any) -> bool:
    return _is_interrupt_type(name) or langgraph.is_control(name)


def _error_type(value: Any) -> str | None:
    return None if _is_no_error(value) else clear.error_type(value)


def _last(name: str) -> str:
    return name.rpartition(".")[2]
