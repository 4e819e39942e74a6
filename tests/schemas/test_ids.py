"""Ids are kinds.md's, byte for byte: another implementation must find the same ones."""

from __future__ import annotations

from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from schemas import ids
from tests.schemas import strategies as some


@given(some.text)
def test_v5_is_the_standards(name: str) -> None:
    assert ids.v5(name) == str(uuid5(ids.NS, name))


def test_the_namespace_is_that_of_the_specification() -> None:
    assert str(ids.NS) == str(uuid5(UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8"), "https://tallystick/ns/v1"))


def test_random_uuids_stay_and_all_else_is_hashed_with_the_source() -> None:
    random = "0190A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B"
    assert ids.cloudevent_id("s", random) == random.lower()
    assert ids.cloudevent_id("s", "0190a1b2-c3d4-4e5f-8a9b-0c1d2e3f4a5b") == "0190a1b2-c3d4-4e5f-8a9b-0c1d2e3f4a5b"
    for other in ("step-1", random.replace("-", ""), "0190a1b2-c3d4-5e5f-8a9b-0c1d2e3f4a5b", "{" + random[1:-1] + "}"):
        assert ids.cloudevent_id("s", other) == str(uuid5(ids.NS, f"ce\ns\n{other}"))
        assert ids.cloudevent_id("s", other) != ids.cloudevent_id("t", other)


@given(st.from_regex(r"[0-9a-f]{32}", fullmatch=True), st.integers(0, 99))
def test_derived_ids(hex32: str, n: int) -> None:
    span = hex32[:16]
    assert ids.span_id(hex32, span) == str(uuid5(ids.NS, f"otlp\n{hex32}\n{span}"))
    assert ids.derived_id(f"otlp\n{hex32}\n{span}", "error", n) == str(
        uuid5(ids.NS, f"otlp\n{hex32}\n{span}\nerror\n{n}")
    )
    assert ids.log_record_id(hex32) == str(uuid5(ids.NS, f"otlp-log\n{hex32}"))
    assert ids.plain_id("r", "1", "tool_call") == str(uuid5(ids.NS, "plain\nr\n1\ntool_call"))
    assert ids.finding_id("loop", "1", hex32) == str(uuid5(ids.NS, f"loop\n1\n{hex32}"))
    assert ids.ledger_id("intake", {"b": n, "a": None}) == str(uuid5(ids.NS, f'intake\n{{"a":null,"b":{n}}}'))
