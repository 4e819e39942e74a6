"""A run as a person reads it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ledger.leaf import Leaf
from projections.knowledge import knowledge_of
from projections.steps import steps, totals_of
from replay.show import RunShown
from tallystick.cli.telling import tell_run
from tests.projections.leaves import COMMITTED, arrived, event, event_id, leaf, log, span

MONEY = {"amount": "0.0010", "currency": "USD"}
HEADING = ["seq", "time", "recorded", "vouched", "kind"]


def shown(*leaves: Leaf, content: dict[str, Any] | None = None) -> RunShown:
    entries = arrived(leaves)
    told = steps(entries)
    return RunShown(
        "r1",
        "ledger.example.org/default",
        [
            {
                "index": index,
                "id": leaf.id,
                "run_seq": leaf.run_seq,
                "kind": leaf.kind,
                "time": leaf.time,
                "actor": leaf.actor,
                "data": leaf.data,
                "source": leaf.source,
                "content": content or {},
            }
            for index, leaf in entries
        ],
        [leaf.recorded for _, leaf in entries],
        told,
        knowledge_of(told),
        totals_of(told),
    )


def lines(capsys: pytest.CaptureFixture[str], run: RunShown, limit: int | None = None) -> list[str]:
    tell_run(run, limit)
    return capsys.readouterr().out.splitlines()


def entries_of(told: list[str]) -> list[str]:
    """What stands below the entries' heading."""
    (heading,) = (at for at, line in enumerate(told) if line.split() == HEADING)
    return told[heading + 1 :]


def indexes_of(told: list[str]) -> list[int]:
    """The indexes of the entries in the order in which they are told."""
    return [int(found[1]) for line in entries_of(told) if (found := re.match(r" +index (\d+), id ", line))]


def test_an_entry_has_its_times_who_vouches_and_what_it_is_the_same_as(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(capsys, shown(log("l", "m", "model_call", at=4), span("m", "model_call", at=3)))

    assert told[0] == "run r1 in ledger.example.org/default, 2 entries"
    heading = next(line for line in told if line.split() == HEADING)
    span_entry, *_ = entries = entries_of(told)
    assert span_entry.split()[0] == "1"
    assert entries[3].split() == [
        "0",
        "2026-11-21T03:00:00.000004Z",
        "2026-11-21T03:00:10.000000Z",
        "claimed",
        "model_call",
    ]
    assert entries[3].index("model_call") == heading.index("kind")
    assert entries[3].index("claimed") == heading.index("vouched")
    assert entries[5] == "       tells the same as index 1 (of_its_span)"


def test_what_it_comes_to_and_what_is_known_stand_before_the_entries(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(capsys, shown(span("m", "model_call")))

    places = [
        next(at for at, line in enumerate(told) if line.startswith(start))
        for start in ("run r1", "no end was told", "1 model call,", "link ", "  seq", "       index 0")
    ]
    assert places == sorted(places)
    assert places[:2] == [0, 1]


def test_the_entries_stand_by_time_and_those_without_one_behind_what_came_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    timeless = leaf("tool_call", {"from": "line", "tool": "x", "call": "x"}, id=event_id("timeless"))
    arriving = [
        span("tool", "tool_call", {"tool": "t"}, parent="a", at=5),
        timeless,
        span("m", "model_call", parent="a", at=2),
        span("a", "run_finished", {"status": "success"}, at=9),
        span("a", "run_started", derived=0, at=1),
        event("same time as the tool", "final_action", at=5),
    ]

    assert indexes_of(lines(capsys, shown(*arriving))) == [4, 2, 0, 1, 5, 3]


def head(entries: int) -> Leaf:
    return leaf("run_head", {"entries": entries, "last": "x"}, id=event_id(f"head {entries}"))


def test_what_came_after_the_last_head_is_said_and_the_head_stands_behind_what_it_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = [
        span("m", "model_call", parent="a", at=2),
        span("a", "run_finished", {"status": "success"}, at=9),
        span("a", "run_started", derived=0, at=1),
        head(3),
    ]
    late = [span("late", "tool_call", {"tool": "t"}, parent="a", at=3)]
    said = "1 entry came after the run's last run_head, up to which the run alone shows it complete"

    assert indexes_of(lines(capsys, shown(*run))) == [2, 0, 1, 3]
    assert said not in lines(capsys, shown(*run))
    told = lines(capsys, shown(*run, *late))
    assert said in told
    assert indexes_of(told) == [2, 0, 4, 1, 3]
    assert said not in lines(capsys, shown(*run, *late, head(5)))


def test_an_id_that_stands_for_two_contents_is_said_before_the_entries(capsys: pytest.CaptureFixture[str]) -> None:
    conflict = leaf("conflict", {"of": event_id("m"), "first": {}, "second": {}}, id=event_id("conflict"))

    told = lines(capsys, shown(event("m", "model_call"), conflict))

    assert "conflicts: 1, an id of this run came with two contents: index 1" in told


@pytest.mark.parametrize(("limit", "told_of", "more"), [(3, 3, 2), (5, 5, None), (None, 5, None), (0, 0, 5)])
def test_of_a_long_run_so_many_entries_are_told_and_how_many_more_there_are(
    capsys: pytest.CaptureFixture[str], limit: int | None, told_of: int, more: int | None
) -> None:
    told = lines(capsys, shown(*(event(str(n), "model_call", at=n) for n in range(5))), limit)

    assert told[0] == "run r1 in ledger.example.org/default, 5 entries"
    assert indexes_of(told) == list(range(told_of))
    last = f"and {more} more: --all shows every entry, --limit N the first N"
    assert [line for line in told if line.startswith("and ")] == ([] if more is None else [last])


def test_the_links_stand_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    run = shown(*(span(f"m{n}", "model_call", {"latency_us": 1, "missing": ["provider"]}, at=n) for n in range(5)))
    told = lines(capsys, run)
    table = [re.split(r" {2,}", line) for line in told]

    assert ["link", "state", "by rule", "lacks", "shown by index"] in table
    assert ["model invocation", "reported", "-", "-", "0, 1, 2 and 2 more"] in table
    assert ["cost and latency", "inferred", "span_times", "cost", "0, 1, 2 and 2 more"] in table
    assert ["final action", "missing", "-", "action", "-"] in table
    assert "model_call.latency_us is inferred by span_times: indexes 0, 1, 2 and 2 more" in told
    assert "model_call.provider was not said: indexes 0, 1, 2 and 2 more" in told


def test_what_was_dropped_and_what_is_kept_without_a_name_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    refs = {"refs": [{"what": "dropped_attributes", "id": "3"}, {"what": "dropped_links", "id": "?"}]}
    told = lines(capsys, shown(span("m", "span", refs, commit={"/raw": COMMITTED})))

    assert "dropped attributes: 3, as told by index 0" in told
    assert "dropped links: an unknown number, as told by index 0" in told
    assert "members without a name of ours are kept, encrypted, in index 0" in told


def test_the_totals_count_once(capsys: pytest.CaptureFixture[str]) -> None:
    call = {"input_tokens": 11, "output_tokens": 7, "price": MONEY}
    ended = shown(
        span("m", "model_call", call, parent="a", at=2),
        log("l", "m", "model_call", call),
        span("a", "run_started", derived=0, at=1),
        span("a", "run_finished", {"status": "success"}, at=9),
    )

    assert lines(capsys, ended)[1:5] == [
        "success, 2026-11-21T03:00:00.000001Z to 2026-11-21T03:00:00.000009Z",
        "1 model call, 0 tool calls (0 denied), 0 errors, 0 retries, 0 delegations",
        "11 input tokens, 7 output tokens",
        "priced 0.0010 USD; claimed -; tools -; claimed for the run -",
    ]


def test_beside_a_sum_stands_how_many_calls_it_is_without(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(
        capsys,
        shown(
            event("priced", "model_call", {"input_tokens": 3, "price": MONEY, "latency_us": 1}, at=1),
            event("unknown model", "model_call", {"input_tokens": 100, "cost_claimed": MONEY}, at=2),
            event("no tokens", "model_call", {}, at=3),
        ),
    )
    table = [re.split(r" {2,}", line) for line in told]

    assert told[3:5] == [
        "103 input tokens (1 of 3 model calls without tokens)",
        "priced 0.0010 USD (2 of 3 model calls without a price);"
        " claimed 0.0010 USD (2 of 3 model calls without a claim); tools -; claimed for the run -",
    ]
    assert ["cost and latency", "reported", "-", "cost of each call", "0, 1"] in table


def test_a_run_without_an_end_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(capsys, shown(event("m", "model_call")))

    assert told[1:5] == [
        "no end was told; started at an unknown time",
        "1 model call, 0 tool calls (0 denied), 0 errors, 0 retries, 0 delegations",
        "no tokens told (1 of 1 model call without tokens)",
        "priced - (1 of 1 model call without a price); claimed -; tools -; claimed for the run -",
    ]


@pytest.mark.parametrize(
    ("said", "began", "line"),
    [
        ({"status": "success"}, True, "success, started 2026-11-21T03:00:00.000001Z; no time of its end was told"),
        ({"status": "failure"}, False, "failure, started at an unknown time; no time of its end was told"),
        ({}, False, "status unknown, started at an unknown time; no time of its end was told"),
    ],
)
def test_an_end_without_a_time_is_an_end(
    capsys: pytest.CaptureFixture[str], said: dict[str, str], began: bool, line: str
) -> None:
    end = leaf("run_finished", {"from": "line", **said}, id=event_id("end"))
    start = [event("start", "run_started", at=1)] if began else []

    assert lines(capsys, shown(*start, end))[1] == line


def test_approvals_are_told_where_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"approval": "a1", "call": "c1"}
    run = shown(event("q", "approval_request", asked), event("n", "approval_decision", {**asked, "decision": "reject"}))
    told = lines(capsys, run)

    assert "0 model calls, 0 tool calls (1 denied), 0 errors, 0 retries, 0 delegations" in told
    assert "approvals: 1 asked, 1 rejected" in told


def test_a_question_that_waits_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    told = lines(capsys, shown(event("q", "approval_request", {"approval": "a1", "call": "c1"})))

    assert "approval asked, not answered in this run: index 0" in told
    assert "approvals: 1 asked, 1 unanswered" in told


def test_long_content_is_cut_and_its_verdict_said(capsys: pytest.CaptureFixture[str]) -> None:
    content = {"/input": {"verdict": "disclosed", "value": "x" * 300}, "/output": {"verdict": "erased"}}
    told = lines(capsys, shown(event("m", "model_call"), content=content))

    said = "… (302 characters, --json has all)"
    assert any(line.startswith("       /input disclosed") and line.endswith(said) for line in told)
    assert "       /output erased" in told


def test_content_stands_in_quotes_once_and_bytes_say_that_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    content = {
        "/reason": {"verdict": "disclosed", "type": "application/json", "value": '"A refund"'},
        "/input": {"verdict": "disclosed", "type": "application/json", "value": '{"w":\n 1.2500}'},
        "/actor/principal": {"verdict": "disclosed", "type": "text/plain", "value": "Ann Reyes"},
        "/received": {
            "verdict": "disclosed",
            "type": "application/octet-stream",
            "value": "/w==",
            "encoding": "base64",
        },
    }
    told = lines(capsys, shown(event("m", "model_call"), content=content))

    assert told[-4:] == [
        '       /reason disclosed "A refund"',
        '       /input disclosed {"w":  1.2500}',
        '       /actor/principal disclosed "Ann Reyes"',
        "       /received disclosed base64 /w==",
    ]


def test_members_stand_in_lines_of_a_readable_width_and_a_long_one_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    data = {f"member_{n}": "x" * 30 for n in range(9)} | {"long": "y" * 500}
    told = entries_of(lines(capsys, shown(event("m", "model_call", data, actor={"agent": "desk"}))))

    assert told[2] == '       actor agent="desk"'
    members = [line for line in told[3:] if "=" in line]
    assert sum(line.count("member_") for line in members) == 9
    assert [len(line) <= 120 for line in members if "long=" not in line] == [True] * (len(members) - 1)
    assert any("… (502 characters, --json has all)" in line for line in members)
    assert not any("vouched" in line for line in members)


def test_who_decided_what_stands_before_the_entries(capsys: pytest.CaptureFixture[str]) -> None:
    call = {"call": "c1"}
    policy = {"decision": "require_approval", "policy": "refunds", "rule": "over-10", "decided_by": "opa"}
    asked = {**call, "approval": "a1"}
    rejected = {**asked, "decision": "reject", "reviewer": "p:1", "reviewer_kind": "human"}
    run = [
        log("p", None, "policy_decision", {**call, **policy}, at=1),
        event("q", "approval_request", asked, at=2),
        event("n", "approval_decision", rejected, at=3),
        span("a", "approval_decision", {"approval": "a2", "missing": ["decision"]}, derived=0, at=4),
        event("w", "approval_request", {"approval": "a3", "call": "c3\npolicy: allow"}, at=5),
    ]
    opened = {"/reviewer": {"verdict": "disclosed", "type": "text/plain", "value": "Mira\nChen"}}
    by = "index 0"
    said = [
        "approval a1: reject by {}, human (index 2); asked by index 1; under refunds, rule over-10",
        "approval a2: answered, decision not said, by nobody named (index 3); not asked in this run",
        "approval a3: no answer in this run; asked by index 4",
        f"policy refunds, rule over-10: require_approval, decided by opa, for call c1 ({by})",
    ]

    told = lines(capsys, shown(*run, content=opened))
    assert told[6:10] == [said[0].format('"Mira\\nChen"'), *said[1:]]
    assert told[11].startswith("link ")
    assert lines(capsys, shown(*run))[6] == said[0].format("p:1")


def test_of_many_approvals_the_first_are_told_and_no_record_makes_a_line_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = [event(f"q{n}", "approval_request", {"approval": f"a{n}\npolicy x", "call": f"c{n}"}) for n in range(7)]
    told = lines(capsys, shown(*run))

    assert sum(line.startswith("approval a") and "no answer in this run" in line for line in told) == 5
    assert "and 2 more approvals: see the entries" in told
    assert not any(line.startswith("policy x") for line in told)


def test_the_names_of_several_agents_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    root = span("a", "run_started", derived=0, at=1, actor={"agent": "desk", "version": "1"})
    inside = [
        span("m", "model_call", parent="a", at=2, actor={"agent": "clerk"}),
        span("d", "delegation", {"to_agent": "risk"}, parent="a", at=3, actor={"agent": "desk", "version": "2"}),
    ]

    said = "agents named: desk (1, 2), indexes 0, 2; clerk (no version), index 1; risk (no version), index 2"
    assert said in lines(capsys, shown(root, *inside))
    assert not any(line.startswith("agents named") for line in lines(capsys, shown(root)))
