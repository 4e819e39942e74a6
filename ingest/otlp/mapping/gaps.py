"""What the SDK dropped (rule 9): said publicly, as a `producer_gap` of the span that misses it."""

from __future__ import annotations

from typing import Final

from ingest.otlp.mapping import forms
from ingest.otlp.mapping.item import Item
from schemas.values import INTEGER_MAX

CAUSES: Final = ("dropped_attributes", "dropped_events", "dropped_links")


def gaps(item: Item, counts: tuple[int, ...]) -> None:
    """A gap per cause with a count above 0. Its `from` and `to` are not known: OTLP numbers nothing."""
    for cause, count in zip(CAUSES, counts, strict=False):
        if count > 0:
            draft = item.derive("producer_gap")
            source = forms.name(item.origin.resource.get("service.name")) or forms.name(item.origin.scope_name)
            draft.data.update(src=source or "otlp", count=min(count, INTEGER_MAX), cause=cause)
