"""The page about the mapping says what the rules say; and the rules are sound as data."""

from __future__ import annotations

import re

from ingest.otlp.mapping import precedence
from ingest.otlp.mapping.classify import SOURCES
from ingest.otlp.mapping.members import MEMBERS
from ingest.otlp.mapping.runs import ENVELOPE
from schemas.kinds import KINDS
from tests.mapping import tables


def test_the_page_has_the_rules() -> None:
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.page_with_tables(page) == page, "run: python -m tests.mapping.tables"


def test_every_member_is_a_member_of_its_kind() -> None:
    for kind, members in MEMBERS.items():
        shape = KINDS[kind].shape
        assert {one.member for one in members.public} <= shape.checks.keys(), kind
        assert {one.member for one in members.content} <= shape.content, kind
    assert {member for member, _, _ in ENVELOPE} <= KINDS["run_started"].shape.checks.keys()


def test_no_name_stands_twice_in_one_list() -> None:
    for field, names in vars(precedence).items():
        if isinstance(names, tuple):
            assert len(set(names)) == len(names), field


def test_the_order_of_events_md_is_kept() -> None:
    """The names that the specification orders, in its order; others may follow or stand between."""
    orders = {
        "SESSION": (
            "gen_ai.conversation.id",
            "session.id",
            "langsmith.metadata.thread_id",
            "traceloop.association.properties.thread_id",
            "metadata.thread_id",
        ),
        "AGENT": ("gen_ai.agent.name", "agent.name", "graph.node.id", "lc_agent_name"),
        "PROVIDER": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"),
        "MODEL": ("gen_ai.response.model", "gen_ai.request.model", "llm.response.model_name", "llm.model_name"),
        "INPUT_TOKENS": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
        "OUTPUT_TOKENS": (
            "gen_ai.usage.output_tokens",
            "gen_ai.usage.completion_tokens",
            "llm.token_count.completion",
        ),
        "CACHE_READ": (
            "gen_ai.usage.cache_read.input_tokens",
            "gen_ai.usage.cache_read_input_tokens",
            "llm.token_count.prompt_details.cache_read",
        ),
        "CACHE_WRITE": (
            "gen_ai.usage.cache_write.input_tokens",
            "gen_ai.usage.cache_creation.input_tokens",
            "gen_ai.usage.cache_write_input_tokens",
            "gen_ai.usage.cache_creation_input_tokens",
            "llm.token_count.prompt_details.cache_write",
        ),
        "REASONING": (
            "gen_ai.usage.reasoning.output_tokens",
            "gen_ai.usage.reasoning_tokens",
            "llm.token_count.completion_details.reasoning",
        ),
        "COST": ("gen_ai.usage.cost.amount", "operation.cost", "llm.cost.total"),
        "INPUT_MESSAGES": (
            "gen_ai.input.messages",
            "<message events>",
            "gen_ai.prompt",
            "<llm.input_messages.N>",
            "input.value",
            "traceloop.entity.input",
        ),
        "OUTPUT_MESSAGES": (
            "gen_ai.output.messages",
            "<choice events>",
            "gen_ai.completion",
            "<llm.output_messages.N>",
            "output.value",
            "traceloop.entity.output",
        ),
        "TOOL_INPUT": ("gen_ai.tool.call.arguments", "<tool message events>", "input.value"),
        "TOOL_OUTPUT": ("gen_ai.tool.call.result", "<choice events>", "output.value"),
        "PRINCIPAL": ("tallystick.principal", "enduser.id", "user.id", "langsmith.metadata.user_id"),
    }
    for field, order in orders.items():
        names = getattr(precedence, field)
        assert [name for name in names if name in order] == list(order), field


def test_operations_of_the_specification_have_their_kinds() -> None:
    roles = next(source.roles for source in SOURCES if source.attribute == "gen_ai.operation.name")
    for operation in ("chat", "generate_content", "text_completion", "embeddings"):
        assert roles[operation] == "model_call"
    assert {operation for operation, role in roles.items() if role == "structure"} >= {
        "create_agent",
        "fetch_response",
        "plan",
    }
    assert all(re.fullmatch(r"[A-Za-z_./-]+", told) for source in SOURCES for told in source.roles)
