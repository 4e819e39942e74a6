"""From a received record to an `Event`: CloudEvents structured and binary, and the plain step form.

Guarantees: an Event comes back whose public members are in the leaf profile and of the kind's forms, whose content has
the exact bytes received, and in which no name of a person is left outside `persons`; or `Rejection` is raised. Nothing
else is raised, whatever the bytes are. Nothing received is lost: what has no place is in /raw with its text.

Three ways lead there, each to the same event. The quick one (`schemas.quick`) takes what is plainly good and compactly
written. Else the general one reads the record once with jiter (public values) and once with msgspec (where each
member's text stands). If either refuses, the exact one (`schemas.jsontext`) decides: what is wrong inside content is
kept as it came, what is wrong in the envelope or in public members is a Rejection.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from schemas import jsontext
from schemas.compile import Check, Nested, Shape, UnknownMember
from schemas.errors import ProfileError, Rejection, SchemaError
from schemas.event import JSON, Content, Draft, Event
from schemas.ids import cloudevent_id
from schemas.kinds import KINDS, TYPES, Kind
from schemas.quick import is_utf8, read_attributes, reader_of
from schemas.raw import escape, raw_name, raw_object
from schemas.upcast import UPCASTERS
from schemas.values import INTEGER_MAX, is_run_id, timestamp

Raw = Mapping[str, "bytes | msgspec.Raw"]

# The members whose JSON text the ledger's keyed digest `data.arguments` is made of.
_DIGESTED: Final = frozenset({"tool_call", "approval_request", "approval_decision"})
ODD_DIGEST_BYTES_MAX: Final = 1_048_576  # of content with duplicate members, lone surrogates or deep nesting
SUBJECTS_MAX: Final = 256  # each gets a key of its own, durable before anything else is known of the record
_ATTRIBUTES: Final = frozenset(
    {"specversion", "type", "id", "source", "subject", "time", "sequence", "producerid", "tenant", "traceparent"}
    | {"datasubject", "datacontenttype", "data"}
)
_KIND_OF_OTHER_VERSION = re.compile(r"tallystick\.([a-z_]+)\.v[0-9]+")
_PRODUCER = re.compile(r"[!-~]{1,128}")
_TENANT = re.compile(r"[^\x00-\x1f\x7f]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_JSON_MEDIA_TYPE = re.compile(r"(?:application|text)/(?:[a-z0-9.+-]+\+)?json *(?:;.*)?", re.IGNORECASE)


class _DataTexts(msgspec.Struct):
    data: dict[str, msgspec.Raw]


_decode_data_texts = msgspec.json.Decoder(_DataTexts).decode
_decode_texts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


# -- CloudEvents ----------------------------------------------------------------------------------------------------


def normalize_structured(value: bytes) -> Event:
    """A CloudEvent in structured JSON mode (`application/cloudevents+json`)."""
    attributes = read_attributes(value)
    quick = None if attributes is None else _event_quick(attributes, attributes["data"])
    return _structured_general(value) if quick is None else quick


def _event_quick(attributes: dict[str, Any], data_text: bytes | msgspec.Raw) -> Event | None:
    """The event where `data` is plainly good, else None. Its text is known to be UTF-8."""
    type_ = attributes.get("type")
    reader = reader_of(type_) if type(type_) is str else None
    found = None if reader is None else reader.read(data_text)
    if found is None:
        return None
    public, texts = found
    content = [Content("/" + name, JSON, text) for name, text in texts.items()]
    return _event(attributes, public, texts, None, content)


def _structured_general(value: bytes) -> Event:
    """The same by the fast parsers, and by exact text where they refuse."""
    try:
        envelope = jsontext.parse_strict(value)
        data = envelope["data"]
        texts = _decode_data_texts(value).data
    except (ValueError, TypeError, KeyError, RecursionError, msgspec.MsgspecError):
        return _structured_exact(value)
    if type(data) is not dict:
        raise Rejection("schema", "data: expected an object")
    return _event(envelope, data, texts, value)


def normalize_binary(headers: Iterable[tuple[str, bytes]], value: bytes | None) -> Event:
    """A CloudEvent in binary mode: attributes in `ce_` headers (UTF-8), `data` is the record's value."""
    attributes: dict[str, Any] = {}
    for name, raw in headers:
        lower = name.lower()
        if lower == "content-type":
            lower = "ce_datacontenttype"
        if not lower.startswith("ce_") or lower == "ce_data":
            continue
        attribute = lower[3:]
        said = f"header {lower}" if attribute in _ATTRIBUTES else "another header"
        if attribute in attributes:
            raise Rejection("duplicate_member", f"{said}: expected once")
        try:
            attributes[attribute] = raw.decode()
        except (UnicodeDecodeError, AttributeError):
            raise Rejection("bad_header", f"{said}: expected UTF-8") from None
    if value is None:
        raise Rejection("not_json", "expected JSON, got a tombstone")
    return normalize_cloudevent(attributes, value)


def normalize_cloudevent(
    attributes: dict[str, Any], data_text: bytes, parsed_data: dict[str, Any] | None = None
) -> Event:
    """A CloudEvent with its attributes by lower-case name and `data` as JSON text.

    `parsed_data` is what `parse_strict` made of that text, if the caller has it. Unknown attributes are kept in /raw
    under their name with `ce:` before it.
    """
    if parsed_data is None:
        quick = _event_quick(attributes, data_text) if is_utf8(data_text) else None
        if quick is not None:
            return quick
        try:
            parsed_data = jsontext.parse_strict(data_text)
        except (ValueError, RecursionError):
            parsed_data = None
    if parsed_data is not None:
        if type(parsed_data) is not dict:
            raise Rejection("schema", "data: expected an object")
        try:
            return _event(attributes, parsed_data, _decode_texts(data_text), None)
        except (msgspec.MsgspecError, RecursionError):
            pass
    data, texts = _data_exact(attributes.get("type"), data_text)
    return _event(attributes, data, texts, None)


def _structured_exact(value: bytes) -> Event:
    """The same by exact text: decides what the fast parsers refused."""
    attributes: dict[str, Any] = {}
    data_text = None
    for quoted, text in jsontext.members(value):
        name = _public_name(quoted, "envelope")
        if name in attributes or (name == "data" and data_text is not None):
            said = name if name in _ATTRIBUTES else "another attribute"  # a name that nobody defined may be anybody's
            raise Rejection("duplicate_member", f"envelope: {said}")
        if name == "data":
            data_text = text
        elif name in _ATTRIBUTES:
            attributes[name] = jsontext.public_value(text, name)
        else:
            attributes[name] = None if text == b"null" else msgspec.Raw(text)
    if data_text is None:
        raise Rejection("schema", "data: missing")
    data, texts = _data_exact(attributes.get("type"), data_text)
    return _event(attributes, data, texts, value)


def _data_exact(type_: object, data_text: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """`data` by exact text: public members parsed strictly, all others left as text and None."""
    shape = _kind_of(type_).shape
    if not data_text.lstrip(b" \t\n\r").startswith(b"{"):
        jsontext.check(data_text)  # tells what is not JSON at all
        raise Rejection("schema", "data: expected an object")
    data: dict[str, Any] = {}
    texts: dict[str, bytes] = {}
    for quoted, text in jsontext.members(data_text):
        name = jsontext.name_text(quoted)
        if name in data:
            said = name if name in shape.checks or name in shape.content else "an unknown member"
            raise Rejection("duplicate_member", f"data: {said}")
        texts[name] = text
        data[name] = _public_exact(name, text, shape) if name in shape.checks else None
    return data, texts


def _public_exact(name: str, text: bytes, shape: Shape) -> Any:
    """A public member's value. In an object with unknown members, those are content: their text may be anything."""
    nested = shape.nested.get(name)
    if nested is None:
        return jsontext.public_value(text, f"data.{name}")
    try:
        return jsontext.parse_strict(text)
    except ValueError:
        _known_only(text, nested, f"data.{name}")  # raises if what is wrong stands in a known member
    return _Unparsed(text)


class _Unparsed:
    """Stands for a public object with an unknown member that no parser takes: no check passes it, so it is pruned."""

    def __init__(self, text: bytes) -> None:
        self.text = text


def _public_name(quoted: bytes, where: str) -> str:
    name = jsontext.name_text(quoted)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Rejection("lone_surrogate", f"{where}: expected member names without lone surrogates") from None
    return name


def _kind_of(type_: object) -> Kind:
    kind = TYPES.get(type_) if type(type_) is str else None
    if kind is not None and kind.speaker != "ledger":
        return kind
    if kind is None:
        if type(type_) is not str:
            raise Rejection("schema", "type: expected tallystick.<kind>.v1")
        match = _KIND_OF_OTHER_VERSION.fullmatch(type_)
        if match and match[1] in KINDS:
            raise Rejection("unknown_kind", f"type: {match[1]} is known in version {KINDS[match[1]].version} only")
        raise Rejection("unknown_kind", "type: expected tallystick.<kind>.v1 with a known kind")
    raise Rejection("reserved_kind", f"type: {kind.name} is made by the ledger only")


def _event(
    attributes: dict[str, Any],
    data: dict[str, Any],
    texts: Raw,
    structured: bytes | None,
    content: list[Content] | None = None,
) -> Event:
    """The one place where a CloudEvent becomes an Event. `data` and `texts` have the same members; `structured` is the
    whole record where attributes have texts of their own. With `content`, the members were checked and told apart
    already: `data` has the public ones."""
    get = attributes.get
    kind = _kind_of(get("type"))
    if get("specversion") != "1.0":
        raise Rejection("schema", "specversion: expected 1.0")
    sent_id, source = get("id"), get("source")
    if type(sent_id) is not str or not sent_id:
        raise Rejection("bad_id", "id: expected a string that is not empty")
    if type(source) is not str or not source:
        raise Rejection("schema", "source: expected a string that is not empty")
    if "\n" in source:  # the id of an event is made of lines: with this, one source could claim another's ids
        raise Rejection("schema", "source: expected one line")
    run = get("subject")
    if run is not None and not is_run_id(run):
        raise Rejection("bad_run", "subject: expected a run id: 1 to 128 of A-Z a-z 0-9 . _ : -")
    media_type = get("datacontenttype")
    if media_type is not None and media_type != JSON:
        _check_media_type(media_type)

    shape = kind.shape
    unmapped: list[tuple[str, bytes]] = []
    if content is None:
        public, content = _split(kind, data, texts, unmapped)
    else:
        public = data
    persons, actor = _persons(shape, public)
    for name in shape.references:
        if name in public:
            public[name] = cloudevent_id(source, public[name])
    for name in shape.reference_lists:
        if name in public:
            public[name] = [cloudevent_id(source, reference) for reference in public[name]]
    attestation = None
    if "attestation" in public:
        attestation = _attested(texts)
    if "from" in shape.by_ledger:
        public["from"] = "event"
    public["ce_source"] = source

    odd: list[tuple[str, Any]] = []  # attributes that have no place
    src, parent = _producer(get("producerid"), get("sequence")), get("traceparent")
    if parent is not None:
        match = _TRACEPARENT.fullmatch(parent) if type(parent) is str else None
        if match and "trace" not in public:
            public["trace"] = {"trace_id": match[1], "span_id": match[2]}
        else:
            odd.append(("traceparent", parent))
    if src is None:
        odd.extend((name, get(name)) for name in ("producerid", "sequence") if get(name) is not None)
    if not attributes.keys() <= _ATTRIBUTES:
        for name, value in attributes.items():
            if name not in _ATTRIBUTES and value is not None:
                odd.append((name, value))
    if odd:
        unmapped += _attribute_texts(odd, structured)
    if unmapped:
        content.append(Content("/raw", JSON, raw_object(unmapped)))
    return Event(
        cloudevent_id(source, sent_id),
        kind.name,
        kind.version,
        _tenant(get("tenant")),
        run,
        src,
        _time(get("time")),
        actor,
        public,
        content,
        persons,
        _subjects(get("datasubject")),
        len(unmapped),
        _digest_input(texts["input"]) if kind.name in _DIGESTED and "input" in texts else None,
        sent_id,
        attestation,
    )


# -- members of data ------------------------------------------------------------------------------------------------


def _split(
    kind: Kind, data: dict[str, Any], texts: Raw, unmapped: list[tuple[str, bytes]]
) -> tuple[dict[str, Any], list[Content]]:
    """The public members of `data`, checked, and the content; all others join the unmapped. Raises Rejection `schema`
    or `too_deep`."""
    shape = kind.shape
    find, content_names = shape.checks.get, shape.content
    public: dict[str, Any] = {}
    content: list[Content] = []
    for name, value in data.items():
        check = find(name)
        if check is not None:
            if value is None:
                continue
            try:
                public[name] = check(value)
            except UnknownMember:
                public[name] = _pruned(kind, name, check, texts[name], unmapped)
            except SchemaError as wrong:
                if type(value) is not _Unparsed:
                    raise _refused(kind, name, wrong) from None
                public[name] = _pruned(kind, name, check, texts[name], unmapped)
        elif name in content_names:
            content.append(Content("/" + name, JSON, bytes(texts[name])))
        else:
            unmapped.append((raw_name(name), bytes(texts[name])))
    for name in shape.required:
        if name not in public:
            raise Rejection("schema", f"{kind.name}.{name}: missing")
    return public, content


def _persons(shape: Shape, public: dict[str, Any]) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Take the names of persons out of the public members, and the actor: (persons, actor without them)."""
    persons = [("/" + name, public.pop(name)) for name in shape.persons if name in public]
    actor = public.pop("actor", None)
    if actor is None:
        actor = {}
    else:
        if "principal" in actor:
            persons.append(("/actor/principal", actor.pop("principal")))
        if "on_behalf_of" in actor:
            persons.append(("/actor/on_behalf_of", actor.pop("on_behalf_of")))
    attestation = public.get("attestation")
    if attestation is not None and "by" in attestation:
        persons.append(("/attestation/by", attestation.pop("by")))
    return persons, actor


def _refused(kind: Kind, name: str, wrong: SchemaError) -> Rejection:
    code = "too_deep" if type(wrong) is ProfileError else "schema"
    return Rejection(code, f"{kind.name}.{name}: {wrong}")  # type: ignore[arg-type]


def _pruned(kind: Kind, name: str, check: Check, text: bytes | msgspec.Raw, unmapped: list[tuple[str, bytes]]) -> Any:
    """The member without the unknown members somewhere inside it, which join the unmapped under their JSON pointers."""
    nested = kind.shape.nested[name]
    known, unknown = _known_parts(bytes(text), nested, f"/{escape(name)}", f"{kind.name}.{name}")
    unmapped += unknown
    try:
        return check(known)
    except SchemaError as wrong:
        raise _refused(kind, name, wrong) from None


def _known_only(text: bytes, nested: Nested, where: str) -> None:
    _known_parts(text, nested, "", where)


def _known_parts(text: bytes, nested: Nested, pointer: str, where: str) -> tuple[Any, list[tuple[str, bytes]]]:
    """(value of the known members, unknown members by pointer) of the text of an object or a list of objects."""
    if nested.is_list:
        if not text.lstrip().startswith(b"["):
            raise Rejection("schema", f"{where}: expected an array")
        values, found = [], []
        one = Nested(nested.shape, is_list=False)
        for index, item in enumerate(jsontext.items(text)):
            value, unknown = _known_parts(item, one, f"{pointer}/{index}", where)
            values.append(value)
            found += unknown
        return values, found
    if not text.lstrip().startswith(b"{"):
        return jsontext.public_value(text, where), []
    known: dict[str, Any] = {}
    unknown = []
    seen: set[str] = set()
    for quoted, member_text in jsontext.members(text):
        name = jsontext.name_text(quoted)
        if name in seen:
            raise Rejection("duplicate_member", f"{where}: expected each member once")
        seen.add(name)
        if name in nested.shape.nested:
            deeper = nested.shape.nested[name]
            known[name], below = _known_parts(member_text, deeper, f"{pointer}/{escape(name)}", where)
            unknown += below
        elif name in nested.shape.checks:
            known[name] = jsontext.public_value(member_text, where)
        else:
            unknown.append((f"{pointer}/{escape(name)}", member_text))
    return known, unknown


def _digest_input(text: bytes | msgspec.Raw) -> bytes | None:
    """The text to digest; none for a large one that no fast parser takes, whose normal form would cost seconds, or with
    exponents that would make it fill the memory."""
    whole = bytes(text)
    if len(whole) > ODD_DIGEST_BYTES_MAX:
        try:
            jsontext.parse_strict(whole)
        except ValueError:
            return None
    return None if jsontext.expands_too_far(whole) else whole


def _attested(texts: Raw) -> bytes:
    """What an attestation is over: the normal form of `data` as sent, without the attestation itself."""
    others = raw_object((name, bytes(text)) for name, text in texts.items() if name != "attestation")
    if len(others) > ODD_DIGEST_BYTES_MAX:
        try:
            jsontext.parse_strict(others)
        except ValueError:
            raise Rejection("schema", f"data: too odd to be attested above {ODD_DIGEST_BYTES_MAX} bytes") from None
    if jsontext.expands_too_far(others):
        raise Rejection("schema", "data: exponents too far to be attested")
    return jsontext.normal_form(others)


# -- attributes -----------------------------------------------------------------------------------------------------


def _attribute_texts(odd: list[tuple[str, Any]], structured: bytes | None) -> Iterator[tuple[str, bytes]]:
    """Attributes' JSON texts: exactly as they came in a structured record, which is searched once, whatever their
    number; else written from the header's string."""
    texts: dict[str, bytes] | None = None
    for name, value in odd:
        if type(value) is msgspec.Raw:
            text = bytes(value)
        elif type(value) is str:
            text = jsontext.quote(value)
        elif structured is not None:
            if texts is None:
                texts = {jsontext.name_text(quoted): text for quoted, text in jsontext.members(structured)}
            text = texts[name]
        else:
            text = msgspec.json.encode(value)
        yield f"ce:{name}", text


def _check_media_type(media_type: Any) -> None:
    if type(media_type) is not str or not _JSON_MEDIA_TYPE.fullmatch(media_type):
        raise Rejection("schema", "datacontenttype: expected JSON")


def _producer(producer: Any, sequence: Any) -> dict[str, Any] | None:
    """`src`: only where both the producer and its sequence number are given."""
    if producer is None or sequence is None:
        return None
    if type(producer) is not str or not _PRODUCER.fullmatch(producer):
        raise Rejection("bad_sequence", "producerid: expected 1 to 128 visible ASCII characters")
    if type(sequence) is str and len(sequence) <= 16 and sequence.isascii() and sequence.isdigit():
        number = int(sequence)
    elif type(sequence) is int:
        number = sequence
    else:
        raise Rejection("bad_sequence", "sequence: expected a decimal string of up to 16 digits, or an integer")
    if not 1 <= number <= INTEGER_MAX:
        raise Rejection("bad_sequence", "sequence: expected a number from 1 to 2^53-1")
    return {"id": producer, "seq": number}


def _tenant(tenant: Any) -> str | None:
    if tenant is not None and not (type(tenant) is str and _TENANT.fullmatch(tenant)):
        raise Rejection("schema", "tenant: expected 1 to 128 characters without control characters")
    return tenant


def _time(time: Any) -> str | None:
    if time is None:
        return None
    try:
        return timestamp(time)
    except SchemaError as wrong:
        raise Rejection("bad_time", f"time: {wrong}") from None


def _subjects(names: Any) -> tuple[str, ...]:
    """Data subjects, percent-decoded, each once, in order."""
    if names is None:
        return ()
    if type(names) is not str or _PERCENT.search(names):
        raise Rejection("schema", "datasubject: expected percent-encoded names joined by spaces")
    try:
        found = tuple(dict.fromkeys(unquote(name, errors="strict") for name in names.split(" ") if name))
    except UnicodeDecodeError:
        raise Rejection("schema", "datasubject: expected percent-encoded UTF-8") from None
    if len(found) > SUBJECTS_MAX:
        raise Rejection("schema", f"datasubject: expected at most {SUBJECTS_MAX} names")
    return found


# -- drafts: the plain step form, and mappings of foreign conventions -----------------------------------------------


def normalize_plain(line: bytes) -> Event:
    """A line of the plain step form: upcast to our kinds, then checked like any draft."""
    return normalize_draft(UPCASTERS.upcast_text("plain", 1, line))


def normalize_draft(draft: Draft) -> Event:
    """Check a draft against its kind, leniently: a missing required member is named in `data.missing`, a value that the
    kind refuses is left out and kept in /raw; `call` defaults to the event's own id and `phase` to finished."""
    kind = KINDS.get(draft.kind)
    if kind is None:
        raise Rejection("unknown_kind", "expected a known kind")
    if kind.ledger_only:
        raise Rejection("reserved_kind", f"{kind.name} is made by the ledger only")
    if draft.run is not None and not is_run_id(draft.run):
        raise Rejection("bad_run", "run: expected a run id: 1 to 128 of A-Z a-z 0-9 . _ : -")
    public: dict[str, Any] = {}
    raw = list(draft.raw)
    for name, value in draft.data.items():
        check = kind.shape.checks.get(name)
        try:
            if check is None or name == "attestation":  # it is over `data` as sent, which a draft is not
                raise SchemaError("unknown")
            public[name] = check(value)
        except (SchemaError, UnknownMember):
            original = draft.originals.get(name)
            if original is None:
                raise Rejection("schema", f"{kind.name}.{name}: refused, and its original text is not known") from None
            if original not in raw:
                raw.append(original)
    for name, default in (("call", draft.id), ("phase", "finished")):
        if name in kind.required and name not in public:
            public[name] = default
    missing = [name for name in kind.required if name not in public]
    if missing:
        public["missing"] = missing
    if "from" in kind.shape.by_ledger:
        public["from"] = draft.came_from
    content = list(draft.content)
    digested = next((one.value for one in content if one.pointer == "/input"), None)
    if raw:
        content.append(Content("/raw", JSON, raw_object(raw)))
    return Event(
        draft.id,
        kind.name,
        kind.version,
        _tenant(draft.tenant),
        draft.run,
        draft.src,
        _time(draft.time),
        dict(draft.actor),
        public,
        content,
        list(draft.persons),
        draft.subjects,
        len(raw),
        _digest_input(digested) if kind.name in _DIGESTED and digested is not None else None,
        wire=draft.wire,
    )
