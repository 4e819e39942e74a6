"""Every kind of event (kinds.md). The models are the truth: checks, published schemas and marks are made from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from schemas.compile import Shape, shape
from schemas.kinds import governance, own, work
from schemas.kinds.common import Data

Speaker = Literal["anyone", "control", "findings", "ledger"]


@dataclass(frozen=True)
class Kind:
    """One kind of event: its name, the version of its schema, its model, and who may say it."""

    name: str
    model: type[Data]
    speaker: Speaker = "anyone"
    version: int = 1

    @property
    def type(self) -> str:
        """The CloudEvents type."""
        return f"tallystick.{self.name}.v{self.version}"

    @property
    def ledger_only(self) -> bool:
        return self.speaker == "ledger"

    @property
    def control_only(self) -> bool:
        return self.speaker == "control"

    @property
    def findings_only(self) -> bool:
        return self.speaker == "findings"

    @cached_property
    def shape(self) -> Shape:
        """The model, compiled for the hot path."""
        return shape(self.model)

    @property
    def content_fields(self) -> frozenset[str]:
        return self.shape.content

    @property
    def person_fields(self) -> frozenset[str]:
        return frozenset(self.shape.persons)

    @property
    def required(self) -> tuple[str, ...]:
        return self.shape.required

    @property
    def members(self) -> frozenset[str]:
        """Every member that the kind's `data` may have, those of the ledger too."""
        return self.shape.members


def _kinds() -> dict[str, Kind]:
    by_speaker: dict[Speaker, dict[str, type[Data]]] = {
        "anyone": {
            "span": work.Span,
            "run_started": work.RunStarted,
            "model_call": work.ModelCall,
            "retrieval": work.Retrieval,
            "memory_read": work.Memory,
            "memory_write": work.Memory,
            "memory_delete": work.Memory,
            "tool_selection": work.ToolSelection,
            "tool_call": work.ToolCall,
            "policy_decision": governance.PolicyDecision,
            "approval_request": governance.ApprovalRequest,
            "approval_decision": governance.ApprovalDecision,
            "validator": work.Validator,
            "routing_decision": work.RoutingDecision,
            "delegation": work.Delegation,
            "credential_issued": governance.Credential,
            "credential_revoked": governance.Credential,
            "human_override": governance.HumanOverride,
            "retry": work.Retry,
            "error": work.Error,
            "final_action": work.FinalAction,
            "rollback": work.Rollback,
            "run_finished": work.RunFinished,
            "outcome": work.Outcome,
            "evaluation": governance.Evaluation,
            "release": governance.Release,
            "autonomy_changed": governance.AutonomyChanged,
            "producer_gap": governance.ProducerGap,
        },
        "control": {
            "contract_applied": governance.Registered,
            "tool_registered": governance.Registered,
            "policy_published": governance.Registered,
            "kill_switch": governance.KillSwitch,
            "incident": governance.Incident,
        },
        "findings": {"budget_breach": governance.Finding, "violation": governance.Finding},
        "ledger": {
            "rejected": own.Rejected,
            "conflict": own.Conflict,
            "intake": own.Intake,
            "source_gap": own.SourceGap,
            "erasure": own.Erasure,
            "legal_hold": own.LegalHold,
            "key_rotated": own.KeyRotated,
            "producer_key": own.ProducerKey,
            "tenant": own.Tenant,
            "run_head": own.RunHead,
            "export_made": own.ExportMade,
            "content_disclosed": own.ContentDisclosed,
            "log_continued": own.LogContinued,
            "prune": own.Prune,
            "period_closed": own.PeriodClosed,
            "correction": own.Correction,
        },
    }
    return {
        name: Kind(name, model, speaker) for speaker, models in by_speaker.items() for name, model in models.items()
    }


KINDS: Final[dict[str, Kind]] = _kinds()
TYPES: Final[dict[str, Kind]] = {kind.type: kind for kind in KINDS.values()}
