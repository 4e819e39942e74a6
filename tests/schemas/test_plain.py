"""The plain step form becomes our kinds, exactly; upcasters lead from older forms to newer ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas import ids
from schemas.errors import Rejection, UpcastError
from schemas.event import JSON, Content, Draft
from schemas.normalize import normalize_draft, normalize_plain
from schemas.upcast import UPCASTERS, Upcasters

LINES = Path(__file__).parents[1].joinpath("fixtures", "plain-steps.jsonl").read_bytes().splitlines()
RUN = "7f31-returns"


def test_the_example_file() -> None:
    events = [normalize_plain(line) for line in LINES]
    assert [event.run for event in events] == [RUN] * 5
    assert [event.kind for event in events] == ["model_call", "tool_call", "validator", "tool_call", "run_finished"]
    assert [event.id for event in events] == [
        ids.plain_id(RUN, "1", "model_call"),
        ids.plain_id(RUN, "2", "tool_call"),
        ids.plain_id(RUN, "3", "validator"),
        ids.plain_id(RUN, "4", "tool_call"),
        ids.plain_id(RUN, "", "final"),
    ]
    model, find, validator, label, final = events
    assert model.data == {
        "step": 1,
        "model": "gpt-4.1-mini",
        "input_tokens": 986,
        "output_tokens": 142,
        "latency_us": 611_500,
        "missing": ["provider"],
        "from": "line",
    }
    assert find.content == [Content("/input", JSON, b'{"parcel":"P-2207","weight_kg":1.250}')]
    assert find.digest_input == find.content[0].value
    assert find.data == {
        "step": 2,
        "tool": "find_parcel",
        "latency_us": 88_000,
        "call": find.id,
        "phase": "finished",
        "from": "line",
    }
    assert validator.data == {"step": 3, "rule": "return_window", "result": "pass", "from": "line"}
    assert [content.pointer for content in label.content] == ["/input", "/output"]
    assert final.data == {
        "status": "success",
        "cost_claimed": {"amount": "0.0371", "currency": "USD"},
        "total_latency_us": 1_093_500,
        "from": "line",
    }
    assert all(event.time is None and event.tenant is None and event.src is None for event in events)
    assert all(event.raw_unmapped == 0 for event in events)


def _line(**members: Any) -> bytes:
    return json.dumps({"run_id": "r", "step": 1, "type": "model_call", **members}).encode()


def _raw(line: bytes) -> Any:
    event = normalize_plain(line)
    raw = {content.pointer: content.value for content in event.content}.get("/raw")
    return event, raw


def test_milliseconds_are_cut_and_the_original_kept_if_that_loses_anything() -> None:
    event, raw = _raw(b'{"run_id":"r","step":1,"type":"model_call","model":"m","latency_ms":1.23456789}')
    assert event.data["latency_us"] == 1234
    assert raw == b'{"latency_ms":1.23456789}'
    event, raw = _raw(b'{"run_id":"r","step":1,"type":"model_call","model":"m","latency_ms":1.234000}')
    assert (event.data["latency_us"], raw) == (1234, None)
    event, raw = _raw(b'{"run_id":"r","step":1,"type":"model_call","model":"m","latency_ms":9007199254741.5001}')
    assert "latency_us" not in event.data
    assert raw == b'{"latency_ms":9007199254741.5001}'
    assert event.raw_unmapped == 1


def test_a_refused_value_is_left_out_and_kept() -> None:
    event, raw = _raw(
        b'{"run_id":"r","step":"a","type":"tool_call","latency_ms":"fast","input":{"a":1,"a":2},"tenant":"x"}'
    )
    assert event.data == {"step": "a", "call": event.id, "phase": "finished", "missing": ["tool"], "from": "line"}
    assert raw == b'{"tenant":"x","latency_ms":"fast"}'
    assert event.content[0].value == b'{"a":1,"a":2}'
    event, raw = _raw(b'{"run_id":"r","final":"won","cost_usd":"cheap"}')
    assert event.data == {"missing": ["status"], "from": "line"}
    assert raw == b'{"final":"won","cost_usd":"cheap"}'
    event, raw = _raw(b'{"run_id":"r","step":1,"type":"model_call","ce:x":1}')
    assert raw == b'{"/ce:x":1}'


def test_money_keeps_its_digits() -> None:
    event, _ = _raw(b'{"run_id":"r","final":"success","cost_usd":0.03710}')
    assert event.data["cost_claimed"]["amount"] == "0.03710"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"", "not_json"),
        (b"[]", "schema"),
        (b"{}", "bad_run"),
        (b'{"run_id":1}', "bad_run"),
        (b'{"run_id":"r"}', "schema"),
        (b'{"run_id":"r","step":1}', "schema"),
        (b'{"run_id":"r","type":"model_call"}', "schema"),
        (b'{"run_id":"r","step":1.5,"type":"model_call"}', "schema"),
        (b'{"run_id":"r","step":"","type":"model_call"}', "schema"),
        (b'{"run_id":"r","step":1,"type":"final","final":"success"}', "unknown_kind"),
        (b'{"run_id":"r","step":1,"type":"thought"}', "unknown_kind"),
        (b'{"run_id":"r","run_id":"r","final":"success"}', "duplicate_member"),
        (b'{"run_id":"r","final":"\\ud800"}', "lone_surrogate"),
        (b'{"run_id":"r","step":%b,"type":"model_call"}' % (b"9" * 5000), "bad_number"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:40].decode(),
)
def test_refused_lines(line: bytes, code: str) -> None:
    with pytest.raises(Rejection) as caught:
        normalize_plain(line)
    assert caught.value.code == code


def test_a_draft_is_checked_against_its_kind() -> None:
    for kind, code in (("thought", "unknown_kind"), ("tenant", "reserved_kind")):
        with pytest.raises(Rejection) as caught:
            normalize_draft(Draft(id="i", kind=kind, came_from="span"))
        assert caught.value.code == code
    with pytest.raises(Rejection, match="bad_run"):
        normalize_draft(Draft(id="i", kind="span", came_from="span", run="a b"))
    draft = Draft(
        id="i", kind="span", came_from="span", data={"class": "odd"}, originals={"class": ("span.class", b'"odd"')}
    )
    event = normalize_draft(draft)
    assert event.data == {"missing": ["name"], "from": "span"}
    assert event.content == [Content("/raw", JSON, b'{"span.class":"odd"}')]


def test_upcasters_walk_step_by_step() -> None:
    upcasters = Upcasters()
    upcasters.add("span", 1, lambda data: {**data, "two": 2})
    upcasters.add("span", 2, lambda data: {**data, "three": data["two"] + 1})
    stored = {"name": "x"}
    assert upcasters.upcast("span", 1, stored, 3) == {"name": "x", "two": 2, "three": 3}
    assert upcasters.upcast("span", 3, stored, 3) is stored
    assert stored == {"name": "x"}
    with pytest.raises(UpcastError, match="no way from version 3 to 4"):
        upcasters.upcast("span", 1, stored, 4)
    with pytest.raises(UpcastError, match="newer"):
        upcasters.upcast("span", 2, stored, 1)
    with pytest.raises(UpcastError, match="already"):
        upcasters.add("span", 1, lambda data: data)
    with pytest.raises(UpcastError, match="no upcaster"):
        UPCASTERS.upcast_text("plain", 2, b"{}")
    with pytest.raises(UpcastError, match="already"):
        UPCASTERS.add_text("plain", 1, lambda text: Draft("i", "span", "line"))
