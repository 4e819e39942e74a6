"""The agent contract loads unchanged, keeps its digits, and refuses what it does not know."""

from __future__ import annotations

import contextlib
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import load_contract
from schemas.errors import ContractError

EXAMPLE = Path(__file__).parents[1].joinpath("fixtures", "contract-example.yaml").read_bytes()

FULL = b"""
agent:
  name: support-desk
  owner: support-finance
  version: 7
  mission: refunds
  process: handle-refund
  model_routing:
    default: small
    fallback: [large]
    allowed: [small, large]
    regions: [eu-west-1]
    escalate_to: large
    escalate_on: []
  tools:
    allowlist:
      - name: payments.refund
        schema_version: "3"
        input_schema: {type: object}
        output_schema: {type: object}
        access: write
        risk: high
        requires_approval: {over: {amount: 150.00, currency: EUR}, role: team-lead}
        argument_limits: [{argument: /amount, max: 500.00}, {argument: /currency, one_of: [EUR]}]
        rate_limit: {calls: 10, per_seconds: 60}
        data_classes: [payment]
        destinations: [payments.example.org]
        never: [refund twice]
        audit_event: refund
  memory: {stores: [{name: customers, classes: [session, durable]}]}
  environments: [production, staging]
  autonomy: execute_with_approval
  budgets:
    max_steps: 20
    max_input_tokens: 16000
    max_output_tokens: 2000
    max_tool_calls: 10
    max_retries: 2
    max_seconds: 600
    max_cost_usd_per_run: 0.50
    max_cost_usd_per_day: 100
    max_cost_usd_per_month: 2000.00
    scope: {max_systems: 2, max_resources: 5, max_data_classes: 2, max_delegation_depth: 1}
    risk: {max_points: 10, points: {low: 0, medium: 1, high: 3, critical: 10}}
  identity: {mode: on_behalf_of, token_ttl_seconds: 600}
  logging: {trace_level: full, pii_redaction: strict}
  never: [promise a date]
  success: {outcome: ticket_closed, verified_by: helpdesk, deadline_seconds: 86400}
  stop_conditions: [errors_gt: 3, asked to stop]
  on_call: support-oncall
  shutdown: kill-switch
  rollback_path: payments.reverse
"""


def test_the_example_loads_unchanged() -> None:
    contract = load_contract(EXAMPLE)
    agent = contract.agent
    assert contract.document == EXAMPLE
    assert contract.digest == "sha256:" + sha256(EXAMPLE).hexdigest()
    assert (agent.name, agent.owner) == ("returns-desk", "support-finance")
    assert agent.budgets.max_cost_usd_per_run == "0.50"
    assert agent.budgets.max_steps == 20
    assert agent.model_routing is not None
    assert agent.model_routing.escalate_on == [{"tool_error_rate_gt": "0.08"}, {"amount_usd_ge": "150"}]
    assert agent.tools is not None
    assert [tool.requires_approval for tool in agent.tools.allowlist] == [False, False, True]
    assert agent.identity is not None
    assert agent.identity.token_ttl_seconds == 600


def test_every_member_of_the_specification_has_a_place() -> None:
    agent = load_contract(FULL).agent
    assert agent.version == "7"
    assert agent.tools is not None
    tool = agent.tools.allowlist[0]
    assert tool.argument_limits[0].max == "500.00"
    assert not isinstance(tool.requires_approval, bool)
    assert tool.requires_approval.over is not None
    assert tool.requires_approval.over.amount == "150.00"
    assert agent.stop_conditions == [{"errors_gt": "3"}, "asked to stop"]
    assert agent.budgets.risk is not None
    assert agent.budgets.risk.points["critical"] == 10


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"", "document"),
        (b"agent: {name: x}", "agent.owner"),
        (b"agent: {name: x, owner: y, budget: {}}", "agent.budget"),
        (b"agent: {name: x, owner: y, budgets: {max_step: 1}}", "agent.budgets.max_step"),
        (b"agent: {name: x, owner: y, budgets: {max_steps: -1}}", "agent.budgets.max_steps"),
        (b"agent: {name: x, owner: y, budgets: {max_steps: 1.5}}", "agent.budgets.max_steps"),
        (b"agent: {name: x, owner: y, budgets: {max_cost_usd_per_run: .inf}}", "max_cost_usd_per_run"),
        (b"agent: {name: x, owner: y, autonomy: full}", "agent.autonomy"),
        (b"agent: {name: x, owner: y, model_routing: {default: a, escalate_on: [{a: 1}]}}", "escalate_on"),
        (
            b"agent: {name: x, owner: y, model_routing: {default: a, escalate_on: [{a_gt: 1, b_gt: 2}]}}",
            "one condition",
        ),
        (b"agent: {name: x, owner: x, name: y}", "YAML"),
        (b"agent: {name: &a x, owner: *a}", "alias"),
        (b"agent: !!python/name:os.system x", "YAML"),
        (b"agent: [", "YAML"),
        (b"\xff", "UTF-8"),
        (b"#" * 262_145, "at most"),
        (b"[" * 100_000, "YAML"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[:50].decode("ascii", "replace"),
)
def test_refused_contracts(document: bytes, expected: str) -> None:
    with pytest.raises(ContractError, match=expected):
        load_contract(document)


@given(st.binary(max_size=60) | st.text("{}[]:,-&*!%@#|>?'\"\n ax1.", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(document: bytes) -> None:
    with contextlib.suppress(ContractError):
        load_contract(document)


@given(st.data())
def test_a_changed_example_is_read_or_refused(data: st.DataObject) -> None:
    document = bytearray(EXAMPLE)
    start = data.draw(st.integers(0, len(document)))
    document[start : start + data.draw(st.integers(0, 5))] = data.draw(
        st.text("{}[]:,-&*!%@#|>?'\"\n ax1.", max_size=5)
    ).encode()
    with contextlib.suppress(ContractError):
        load_contract(bytes(document))
