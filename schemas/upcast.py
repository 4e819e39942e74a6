"""Upcasters: older and simpler forms become the current one when they are read; stored bytes never change.

A form has a name and a version. An upcaster leads from one (form, version) one step on; `upcast` walks until no further
step is registered. A kind's stored `data` is the form of the kind's name at its leaf's `schema`. The first user is the
plain step form: (`plain`, 1) leads straight to a `Draft` in our words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from schemas import plain
from schemas.errors import UpcastError
from schemas.event import Draft

DataUpcaster = Callable[[dict[str, Any]], dict[str, Any]]
TextUpcaster = Callable[[bytes], Draft]


class Upcasters:
    """A registry. Immutable in use: filled where it is made."""

    def __init__(self) -> None:
        self._data: dict[tuple[str, int], DataUpcaster] = {}
        self._text: dict[tuple[str, int], TextUpcaster] = {}

    def add(self, kind: str, version: int, upcaster: DataUpcaster) -> None:
        """From `data` of this kind at this version to the next version. Must leave its argument as it is."""
        if (kind, version) in self._data:
            raise UpcastError(f"{kind} version {version} has an upcaster already")
        self._data[kind, version] = upcaster

    def add_text(self, form: str, version: int, upcaster: TextUpcaster) -> None:
        """From a received text of this form to a draft in our words."""
        if (form, version) in self._text:
            raise UpcastError(f"{form} version {version} has an upcaster already")
        self._text[form, version] = upcaster

    def upcast(self, kind: str, version: int, data: dict[str, Any], to: int) -> dict[str, Any]:
        """Stored `data` as the version `to` has it. Raises UpcastError where a step is missing, or it is newer."""
        if version > to:
            raise UpcastError(f"{kind}: expected at most version {to}, got {version}; a newer Tallystick wrote it")
        for step in range(version, to):
            upcaster = self._data.get((kind, step))
            if upcaster is None:
                raise UpcastError(f"{kind}: no way from version {step} to {step + 1}")
            data = upcaster(data)
        return data

    def upcast_text(self, form: str, version: int, text: bytes) -> Draft:
        """A received text of another form in our words. Raises UpcastError for an unknown form, Rejection for the
        text."""
        upcaster = self._text.get((form, version))
        if upcaster is None:
            raise UpcastError(f"{form}: no upcaster for version {version}")
        return upcaster(text)


UPCASTERS: Final = Upcasters()
UPCASTERS.add_text("plain", 1, plain.draft)
