"""One span or log record while it is being mapped: what it said, and the drafts it has given so far.

All drafts of an item carry the same run, tenant, actor, persons, data subjects, trace, session and step: they are told
once, by the item, its resource counting where it says nothing itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from ingest.otlp.mapping import forms, precedence
from ingest.otlp.mapping.events import SpanEvent
from ingest.otlp.mapping.origin import Origin
from ingest.otlp.mapping.precedence import Names
from ingest.otlp.mapping.said import Form, Said, T
from schemas.errors import Rejection
from schemas.event import Draft
from schemas.ids import derived_id
from schemas.normalize import SUBJECTS_MAX

DERIVED_MAX: Final = 256  # drafts out of one span; what would follow beyond stays in /raw
_TENANT = re.compile(r"[^\x00-\x1f\x7f]{1,128}")


@dataclass(slots=True)
class Item:
    """A span or log record. `own` is its own draft once its kind is known; `derived` what follows from it."""

    origin: Origin
    said: Said
    name: str
    came_from: str
    id: str
    id_base: str  # the name that the own id was made of; derived ids continue it
    trace: dict[str, str]
    parent: str | None  # event id
    time: str | None
    end: str | None = None
    start_ns: int = 0
    end_ns: int = 0
    latency_us: int | None = None
    status: int = 0  # OTLP's code
    failed: bool = False
    error_class: str | None = None
    interrupted: bool = False  # it ended by asking, not by failing
    status_message: str = ""
    is_root: bool = False
    events: list[SpanEvent] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    derived: list[Draft] = field(default_factory=list)
    resource_used: frozenset[str] = frozenset()  # persons that the resource named: they stand as references only
    common: Draft = field(init=False)

    def envelope(self, names: Names, form: Form[T]) -> T | None:
        """What the item says, else what its resource says."""
        found = self.said.first(names, form)
        if found is None:
            resource = self.origin.resource
            for name in names:
                if name in resource and (found := form(resource[name])) is not None:
                    return found
        return found

    def begin(self) -> None:
        """Read what all drafts of the item share. Raises Rejection for a tenant or data subjects that can't be: who may
        read an entry, and whose erasure removes its content, is never guessed."""
        said, resource = self.said, self.origin.resource
        run = self.envelope(("tallystick.run_id",), forms.run_id) or self.trace.get("trace_id")
        common = Draft(self.id, "", self.came_from, run=run, tenant=self._tenant(), time=self.time)
        agent = said.first(precedence.AGENT, forms.name)
        if agent is None:
            agent = next(
                (found for name in precedence.AGENT_OF_RESOURCE if (found := forms.service(resource.get(name)))), None
            )
        if agent is not None:
            common.actor["agent"] = agent
        version = self.envelope(precedence.AGENT_VERSION, forms.label)
        if version is not None:
            common.actor["version"] = version
        for pointer, names in (
            ("/actor/principal", precedence.PRINCIPAL),
            ("/actor/on_behalf_of", precedence.ON_BEHALF_OF),
        ):
            person = self._person(names)
            if person is not None:
                common.persons.append((pointer, person))
        if "tallystick.data_subject" in said.attributes or "tallystick.data_subject" in resource:
            common.subjects = self._subjects()
        if self.trace:
            common.data["trace"] = self.trace
        session = self.envelope(precedence.SESSION, forms.label)
        if session is not None:
            common.data["session"] = session
        if self.parent is not None:
            common.data["parent"] = self.parent
        step = said.first(precedence.STEP, forms.step)
        if step is not None:
            common.data["step"] = step
        self.common = common

    def draft(self, kind: str) -> Draft:
        """A draft with the item's own id."""
        return self._copy(self.id, kind, self.came_from, self.time)

    def derive(self, kind: str, came_from: str | None = None, time: str | None = None) -> Draft:
        """A further draft that follows from the item; its parent is the item's own event."""
        number = self.counts.get(kind, 0)
        self.counts[kind] = number + 1
        draft = self._copy(derived_id(self.id_base, kind, number), kind, came_from or self.came_from, time or self.time)
        draft.data["parent"] = self.id
        self.derived.append(draft)
        return draft

    @property
    def full(self) -> bool:
        """Whether the item has given as many drafts as one may."""
        return len(self.derived) >= DERIVED_MAX

    def _copy(self, id_: str, kind: str, came_from: str, time: str | None) -> Draft:
        common = self.common
        draft = Draft(id_, kind, came_from, run=common.run, tenant=common.tenant, time=time)
        draft.actor = common.actor
        draft.persons = list(common.persons)
        draft.subjects = common.subjects
        draft.data = dict(common.data)
        return draft

    def _person(self, names: Names) -> str | None:
        """By name first: a principal that the resource states plainly counts before a user that a span mentions."""
        said, resource = self.said, self.origin.resource
        if resource.keys().isdisjoint(names):
            return said.first(names, forms.person)
        found = None
        for name in names:
            found = said.first((name,), forms.person) or forms.person(resource.get(name))
            if found is not None:
                break
        if found is not None:
            said.first(names, forms.Equal(forms.person, found))
            self.resource_used |= {name for name in names if forms.person(resource.get(name)) == found}
        return found

    def _tenant(self) -> str | None:
        told: Any = self.said.attributes.get("tallystick.tenant")
        if told is None:
            told = self.origin.resource.get("tallystick.tenant")
            if told is None:
                return None
        else:
            self.said.used.add("tallystick.tenant")
        if type(told) is not str or _TENANT.fullmatch(told) is None:
            raise Rejection("schema", "tallystick.tenant: expected 1 to 128 characters without control characters")
        return told

    def _subjects(self) -> tuple[str, ...]:
        told: Any = self.said.attributes.get("tallystick.data_subject")
        if told is None:
            told = self.origin.resource.get("tallystick.data_subject")
            self.resource_used |= {"tallystick.data_subject"}
        else:
            self.said.used.add("tallystick.data_subject")
        if type(told) is not str:
            raise Rejection("schema", "tallystick.data_subject: expected percent-encoded names joined by spaces")
        try:
            found = tuple(dict.fromkeys(unquote(name, errors="strict") for name in told.split(" ") if name))
        except UnicodeDecodeError:
            raise Rejection("schema", "tallystick.data_subject: expected percent-encoded UTF-8") from None
        if len(found) > SUBJECTS_MAX:
            raise Rejection("schema", f"tallystick.data_subject: expected at most {SUBJECTS_MAX} names")
        return found
