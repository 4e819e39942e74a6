"""The agent contract: what an agent may do, reviewed in Git as YAML, applied as one exact document.

Numbers are read as text, so 0.50 stays 0.50. Unknown members are refused: a misspelt limit must not be no limit.
Aliases are refused too: a contract says what it says where it says it. The digest is over the exact bytes of the
document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import ScalarNode

from schemas.errors import ContractError, SchemaError
from schemas.fields import Form, check_boolean, check_currency, check_name
from schemas.kinds.common import Autonomy, Environment, Risk
from schemas.values import INTEGER_MAX, decimal_text

CONTRACT_BYTES_MAX: Final = 262_144  # pages of rules, not a data file
CONTRACT_DEPTH_MAX: Final = 32  # levels; the YAML parser slows down with the square of them

_WHOLE = re.compile(r"0|[1-9][0-9]{0,15}")
_CONDITION = re.compile(r"[a-z][a-z0-9_]*_(?:gt|ge|lt|le|eq)")


def _whole(value: Any) -> int:
    if type(value) is not str or not _WHOLE.fullmatch(value) or int(value) > INTEGER_MAX:
        raise SchemaError("expected a whole number of at least 0, in digits")
    return int(value)


def _decimal(value: Any) -> str:
    if type(value) is not str:
        raise SchemaError("expected a decimal")
    return decimal_text(value)


def _condition(value: Any) -> dict[str, str]:
    """One figure with a comparison in its name and the bound beside it, like `amount_usd_ge: 150`."""
    if type(value) is not dict or len(value) != 1:
        raise SchemaError("expected one condition, like amount_usd_ge: 150")
    ((name, bound),) = value.items()
    if type(name) is not str or not _CONDITION.fullmatch(name):
        raise SchemaError("expected a condition's name to end in _gt, _ge, _lt, _le or _eq")
    return {name: _decimal(bound)}


_NUMBER_OR_TEXT: Final = {"type": ["number", "string"]}
Word = Annotated[str, Form(check_name, {"type": "string", "minLength": 1})]
Flag = Annotated[bool, Form(check_boolean, {"type": "boolean"})]
Whole = Annotated[int, Form(_whole, {"type": "integer", "minimum": 0, "maximum": INTEGER_MAX})]
Exact = Annotated[str, Form(_decimal, {**_NUMBER_OR_TEXT, "description": "a decimal, kept as written"})]
CurrencyCode = Annotated[str, Form(check_currency, {"type": "string", "pattern": "^[A-Z]{3}$"})]
Condition = Annotated[
    dict[str, str],
    Form(
        _condition,
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "patternProperties": {f"^{_CONDITION.pattern}$": _NUMBER_OR_TEXT},
            "additionalProperties": False,
        },
    ),
]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelRouting(Part):
    default: Word
    fallback: list[Word] = []
    allowed: list[Word] = []
    regions: list[Word] = []
    escalate_to: Word | None = None
    escalate_on: list[Condition] = []


class RiskBudget(Part):
    """Points that an action costs by its risk class, and how many a run may spend."""

    max_points: Whole
    points: dict[Risk, Whole] = {}


class ScopeBudget(Part):
    """How many distinct ones a run may touch."""

    max_systems: Whole | None = None
    max_resources: Whole | None = None
    max_data_classes: Whole | None = None
    max_delegation_depth: Whole | None = None


class Budgets(Part):
    max_steps: Whole | None = None
    max_input_tokens: Whole | None = None
    max_output_tokens: Whole | None = None
    max_tool_calls: Whole | None = None
    max_retries: Whole | None = None
    max_seconds: Whole | None = None
    max_cost_usd_per_run: Exact | None = None
    max_cost_usd_per_day: Exact | None = None
    max_cost_usd_per_month: Exact | None = None
    scope: ScopeBudget | None = None
    risk: RiskBudget | None = None


class Over(Part):
    amount: Exact
    currency: CurrencyCode


class ApprovalRule(Part):
    """When a call needs a person's approval: always, over an amount, by whom."""

    always: Flag | None = None
    over: Over | None = None
    role: Word | None = None


class ArgumentLimit(Part):
    """A bound on one argument, named by its JSON pointer."""

    argument: Word
    min: Exact | None = None
    max: Exact | None = None
    one_of: list[Word] | None = None


class RateLimit(Part):
    calls: Whole
    per_seconds: Whole


class Tool(Part):
    name: Word
    schema_version: Word | None = None
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    access: Literal["read", "write"] | None = None
    risk: Risk | None = None
    requires_approval: Flag | ApprovalRule = False
    argument_limits: list[ArgumentLimit] = []
    rate_limit: RateLimit | None = None
    data_classes: list[Word] = []
    destinations: list[Word] = []
    never: list[Word] = []
    audit_event: Word | None = None


class Tools(Part):
    allowlist: list[Tool]


class MemoryStore(Part):
    name: Word
    classes: list[Literal["working", "session", "durable", "shared"]]


class Memory(Part):
    stores: list[MemoryStore]


class Identity(Part):
    mode: Literal["on_behalf_of", "workload", "static"]
    token_ttl_seconds: Whole | None = None


class Logging(Part):
    trace_level: Word | None = None
    pii_redaction: Word | None = None


class Success(Part):
    outcome: Word
    verified_by: Word | None = None
    deadline_seconds: Whole | None = None


class AgentContract(Part):
    """What one agent may do, on whose account, and how it is stopped."""

    name: Word
    owner: Word
    version: Word | None = None
    mission: Word | None = None
    process: Word | None = None
    model_routing: ModelRouting | None = None
    budgets: Budgets = Budgets()
    tools: Tools | None = None
    memory: Memory | None = None
    environments: list[Environment] = []
    autonomy: Autonomy | None = None
    identity: Identity | None = None
    logging: Logging | None = None
    never: list[Word] = []
    success: Success | None = None
    stop_conditions: list[Condition | Word] = []
    on_call: Word | None = None
    shutdown: Word | None = None
    rollback_path: Word | None = None


class ContractDocument(Part):
    """The document: everything stands under `agent`."""

    agent: AgentContract


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract that was read, with the exact document and its digest, as `contract_applied` records them."""

    agent: AgentContract
    document: bytes
    digest: str


class _TextConstructor(SafeConstructor):
    """Numbers and times stay the text they were written as; only true, false and null are more than text."""

    def construct_as_written(self, node: ScalarNode) -> str:
        return str(node.value)


for _tag in ("int", "float", "timestamp", "binary"):
    _TextConstructor.add_constructor(f"tag:yaml.org,2002:{_tag}", _TextConstructor.construct_as_written)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _TextConstructor
    return yaml


def load_contract(document: bytes) -> Contract:
    """Read a contract. Raises ContractError that says which member, and what was expected."""
    if len(document) > CONTRACT_BYTES_MAX:
        raise ContractError(f"expected at most {CONTRACT_BYTES_MAX} bytes, got {len(document)}")
    try:
        text = document.decode()
        _check_events(text)
        value = _yaml().load(text)
    except UnicodeDecodeError as wrong:
        raise ContractError(f"expected UTF-8, got another byte at {wrong.start}") from wrong
    except (YAMLError, ValueError, TypeError, RecursionError) as wrong:
        if isinstance(wrong, ContractError):
            raise
        raise ContractError(f"expected YAML: {' '.join(str(wrong).split())}") from wrong
    try:
        agent = ContractDocument.model_validate(value).agent
    except (ValidationError, RecursionError) as wrong:
        raise ContractError(_first(wrong)) from wrong
    return Contract(agent, document, "sha256:" + sha256(document).hexdigest())


def _check_events(text: str) -> None:
    """Refuse aliases and deep nesting before anything is built."""
    depth = 0
    for event in _yaml().parse(text):
        if isinstance(event, AliasEvent):
            raise ContractError(f"line {event.start_mark.line + 1}: expected no alias")
        if isinstance(event, CollectionStartEvent):
            depth += 1
        elif isinstance(event, CollectionEndEvent):
            depth -= 1
        if depth > CONTRACT_DEPTH_MAX:
            raise ContractError(
                f"line {event.start_mark.line + 1}: expected YAML of at most {CONTRACT_DEPTH_MAX} levels"
            )


def _first(wrong: ValidationError | RecursionError) -> str:
    if isinstance(wrong, RecursionError):
        return "expected fewer levels"
    error = wrong.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, error['loc'])) or 'document'}: {error['msg'].removeprefix('Value error, ')}"
