"""What of others' texts may stand in clear: names that a program gave, and no more of them than names.

Public members outlive every erasure, and span names, reasons and addresses are texts that may hold what a person wrote,
or a password. So what stands in clear by them has a form that such text rarely has. What hasn't this form, and what is
left out of one, stays in /raw.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ingest.otlp.mapping import forms

TERM_CHARACTERS_MAX: Final = 256
TERM_WORDS_MAX: Final = 6
IDENTIFIER_CHARACTERS_MAX: Final = 128
_IDENTIFIER: Final = re.compile(r"[\w.:/-]{1,128}")
_USER: Final = re.compile(r"://[^/\s@]*+@")  # "://" has what ends it: no place is looked at twice
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}:")
_AFTER_PATH: Final = re.compile(r"[?#].*", re.DOTALL)


def term(value: Any) -> str | None:
    """The name of a type, a reason, a node, an agent: a few words at most, and no address or object."""
    if type(value) is not str or not 0 < len(value) <= TERM_CHARACTERS_MAX or not value.isprintable():
        return None
    words = value.split(" ")
    if len(words) > TERM_WORDS_MAX or not all(words) or any(mark in value for mark in ("@", "{", "://")):
        return None
    return value


def identifier(value: Any) -> str | None:
    """A tool's name as programs write it: letters, digits and `_ - . : /`."""
    found = value if type(value) is str and _IDENTIFIER.fullmatch(value) else None
    return None if found is None or "://" in found else found


def agent(value: Any) -> str | None:
    """An agent's name where any value may stand: a short term that isn't JSON."""
    found = term(value)
    if found is None or len(found) > IDENTIFIER_CHARACTERS_MAX or found[0] in '["':
        return None
    return found if forms.parsed(found) is None else None


def error_type(value: Any) -> str | None:
    """The type of an error; some write a status as a number."""
    return forms.label(value) if type(value) is int else term(value)


def reasons(value: Any) -> str | None:
    """Finish reasons: one as it is, several different ones joined by commas."""
    if type(value) is str and value.startswith("["):
        value = forms.parsed(value) or value
    if type(value) is not list:
        return term(value)
    if len(value) > forms.NAMES_MAX:
        return None
    found = dict.fromkeys(item for item in value if type(item) is str and item)
    return forms.name(",".join(found)) if all(map(term, found)) else None


def terms(value: Any) -> list[str] | None:
    """Those of a list that are terms, given as a list, a JSON array, or one of them."""
    items = _list(value)
    found = list(dict.fromkeys(item for item in items if term(item) is not None))
    return found if 0 < len(found) <= forms.NAMES_MAX else None


def only_terms(value: Any) -> list[str] | None:
    """The same of a list that holds nothing else."""
    return terms(value) if all(term(item) is not None for item in _list(value)) else None


def _list(value: Any) -> list[Any]:
    if type(value) is str:
        value = forms.parsed(value) if value.startswith("[") else [value]
    return value if type(value) is list else []


def place(value: Any) -> str | None:
    """A store's or a document's name; of a URI without its user, query and fragment, of a `data:` URI without its
    data. None where an address may be left in it."""
    found = forms.name(value)
    scheme = None if found is None else _SCHEME.match(found)
    if found is None or scheme is None:
        return found
    if scheme[0].lower() == "data:":
        return forms.name(found.partition(",")[0])
    found = _AFTER_PATH.sub("", _USER.sub("://", found))
    return None if "@" in found else found  # it may be somebody's address


def span_name(name: str) -> str | None:
    """A span's or log's own name up to a query string or an address, without users in URLs, cut to a term's length."""
    told = _USER.sub("://", name).partition("?")[0]
    if "://" in told:
        before, mark, rest = told.partition("://")
        told = before + mark + rest.partition("#")[0]
    before, at, _ = told.partition("@")
    if at:
        *words, last = before.split(" ")
        told = " ".join([*words, last.partition("://")[0] if "://" in last else last[: last.rfind("/") + 1]]).rstrip()
    return told[:TERM_CHARACTERS_MAX] or None
