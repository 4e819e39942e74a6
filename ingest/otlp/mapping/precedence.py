"""Field precedence (events.md): per field, the names that say it, the first that is present counting.

Names of every convention stand here once. Those that events.md orders keep its order; further names of the same meaning
follow. A name like `metadata.thread_id` is the member `thread_id` of the JSON in the attribute `metadata`; one in
angle brackets is made of several attributes or of span events (see `conventions`).
"""

from __future__ import annotations

from typing import Final

Names = tuple[str, ...]

# -- who, where, which run --------------------------------------------------------------------------------------------

SESSION: Final[Names] = (
    "tallystick.session",
    "gen_ai.conversation.id",
    "session.id",
    "langsmith.metadata.thread_id",
    "traceloop.association.properties.thread_id",
    "metadata.thread_id",
    "langsmith.metadata.session_id",
    "traceloop.association.properties.session_id",
    "metadata.session_id",
    "langfuse.session.id",
    "ai.telemetry.metadata.sessionId",
    "ai.telemetry.metadata.threadId",
    "gcp.vertex.agent.session_id",
    "gen_ai.thread.id",
    "langsmith.metadata.conversation_id",
    "traceloop.association.properties.conversation_id",
    "metadata.conversation_id",
    "ai.telemetry.metadata.session_id",
    "ai.telemetry.metadata.thread_id",
)
AGENT: Final[Names] = (
    "tallystick.agent",
    "gen_ai.agent.name",
    "agent.name",
    "graph.node.id",
    "metadata.lc_agent_name",
    "langsmith.metadata.lc_agent_name",
    "traceloop.association.properties.lc_agent_name",
    "lc_agent_name",
    "agent_name",
    "gen_ai.agent.id",
)
AGENT_OF_RESOURCE: Final[Names] = ("tallystick.agent", "gen_ai.agent.name", "service.name")
AGENT_VERSION: Final[Names] = ("tallystick.agent_version", "gen_ai.agent.version", "service.version")
PRINCIPAL: Final[Names] = (
    "tallystick.principal",
    "enduser.id",
    "user.id",
    "langsmith.metadata.user_id",
    "traceloop.association.properties.user_id",
    "metadata.user_id",
    "langfuse.user.id",
    "ai.telemetry.metadata.userId",
    "llm.user",
    "user.name",
    "user.email",
    "user.full_name",
    "enduser.pseudo.id",
    "user.hash",
    "gen_ai.user",
    "gen_ai.request.user",
    "crewai.principal.id",
    "metadata.user_api_key_end_user_id",
    "metadata.user_api_key_user_id",
    "traceloop.association.properties.userId",
    "ai.telemetry.metadata.user_id",
    "user.account_uuid",
    "user.account_id",
)
ON_BEHALF_OF: Final[Names] = ("tallystick.on_behalf_of",)
STEP: Final[Names] = (
    "tallystick.step",
    "metadata.langgraph_step",
    "langsmith.metadata.langgraph_step",
    "traceloop.association.properties.langgraph_step",
)

# -- model calls ------------------------------------------------------------------------------------------------------

PROVIDER: Final[Names] = (
    "gen_ai.provider.name",
    "gen_ai.system",
    "llm.provider",
    "llm.system",
    "llm.vendor",
    "ai.model.provider",
    "langsmith.metadata.ls_provider",
    "traceloop.association.properties.ls_provider",
    "metadata.ls_provider",
    "decision.provider",
    "decision.system",
)
MODEL: Final[Names] = (
    "gen_ai.response.model",
    "gen_ai.request.model",
    "llm.response.model_name",
    "llm.model_name",
    "llm.response.model",
    "llm.request.model",
    "embedding.model_name",
    "reranker.model_name",
    "decision.response.model_name",
    "decision.model_name",
    "ai.response.model",
    "ai.model.id",
    "langsmith.metadata.ls_model_name",
    "traceloop.association.properties.ls_model_name",
    "metadata.ls_model_name",
    "langsmith.metadata.model_name",
    "llm.invocation_parameters.model",
    "llm.invocation_parameters.model_name",
    "model_name",
)
MODEL_REQUESTED: Final[Names] = (
    "gen_ai.request.model",
    "llm.request.model_name",
    "llm.request.model",
    "decision.request.model_name",
    "ai.model.id",
)
INPUT_TOKENS: Final[Names] = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    "llm.usage.prompt_tokens",
    "ai.usage.inputTokens",
    "ai.usage.promptTokens",
    "ai.usage.tokens",
    "gen_ai.response.prompt_tokens",
    "decision.token_count.input",
    "pydantic_ai.decision.usage.input_tokens",
)
OUTPUT_TOKENS: Final[Names] = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    "llm.usage.completion_tokens",
    "ai.usage.outputTokens",
    "ai.usage.completionTokens",
    "gen_ai.response.completion_tokens",
    "decision.token_count.output",
    "pydantic_ai.decision.usage.output_tokens",
)
CACHE_READ: Final[Names] = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
    "cache_read_input_tokens",
    "gen_ai.usage.details.cache_read_tokens",
    "gen_ai.usage.details.cache_read_input_tokens",
    "gen_ai.usage.input_token_details.cache_read",
    "llm.token_count.prompt_details.cache_input",
    "llm.usage.cache_read_input_tokens",
    "ai.usage.inputTokenDetails.cacheReadTokens",
    "ai.usage.cachedInputTokens",
    "gen_ai.usage.cached_input_tokens",
    "gen_ai.usage.cached_tokens",
    "gen_ai.usage.details.cached_tokens",
)
CACHE_WRITE: Final[Names] = (
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_write_input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "llm.token_count.prompt_details.cache_write",
    "cache_creation.input_tokens",
    "cache_write_input_tokens",
    "cache_creation_input_tokens",
    "gen_ai.usage.details.cache_write_tokens",
    "gen_ai.usage.details.cache_creation_input_tokens",
    "gen_ai.usage.input_token_details.cache_creation",
    "llm.usage.cache_creation_input_tokens",
    "ai.usage.inputTokenDetails.cacheWriteTokens",
)
REASONING: Final[Names] = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
    "gen_ai.usage.details.reasoning_tokens",
    "gen_ai.usage.output_token_details.reasoning",
    "llm.usage.reasoning_tokens",
    "ai.usage.outputTokenDetails.reasoningTokens",
    "ai.usage.reasoningTokens",
    "gen_ai.usage.details.thoughts_tokens",
    "codex.usage.reasoning_output_tokens",
)
TOTAL_TOKENS: Final[Names] = (
    "gen_ai.usage.total_tokens",
    "llm.token_count.total",
    "llm.usage.total_tokens",
    "ai.usage.totalTokens",
)
COST: Final[Names] = (
    "gen_ai.usage.cost.amount",
    "operation.cost",
    "llm.cost.total",
    "gen_ai.usage.total_cost",
    "gen_ai.usage.cost",
    "gen_ai.cost.total_cost",
    "litellm.cost.total",
)
COST_CURRENCY: Final[Names] = ("gen_ai.usage.cost.currency", "gen_ai.usage.cost.unit")
FINISH_REASON: Final[Names] = (
    "gen_ai.response.finish_reasons",
    "gen_ai.response.finish_reason",
    "gen_ai.response.stop_reason",
    "llm.finish_reason",
    "llm.response.finish_reason",
    "llm.response.stop_reason",
    "ai.response.finishReason",
    "gen_ai.completion.0.finish_reason",
    "llm.completions.0.finish_reason",
    "<choice events: finish_reason>",
)
FIRST_TOKEN_SECONDS: Final[Names] = (
    "gen_ai.response.time_to_first_chunk",
    "gen_ai.client.operation.time_to_first_chunk",
)
FIRST_TOKEN_MILLISECONDS: Final[Names] = ("ai.response.msToFirstChunk", "<strands: time to first token>")
REGION: Final[Names] = ("cloud.region", "aws.region")
PROMPT_NAME: Final[Names] = (
    "tallystick.prompt.name",
    "gen_ai.prompt.name",
    "traceloop.prompt.key",
    "prompt.id",
    "langfuse.observation.prompt.name",
)
PROMPT_VERSION: Final[Names] = (
    "tallystick.prompt.version",
    "traceloop.prompt.version",
    "llm.prompt_template.version",
    "langfuse.observation.prompt.version",
)
PROMPT_DIGEST: Final[Names] = ("tallystick.prompt.digest", "traceloop.prompt.version_hash")
TOOLS_OFFERED: Final[Names] = (
    "gen_ai.tool.definitions",
    "<llm.tools.N>",
    "<llm.request.functions.N>",
    "ai.prompt.tools",
    "gen_ai.agent.tools",
    "smolagents.tools_names",
    "model_request_parameters.function_tools",
)
INPUT_MESSAGES: Final[Names] = (
    "gen_ai.input.messages",
    "<message events>",
    "gen_ai.prompt",
    "<gen_ai.prompt.N>",
    "<llm.input_messages.N>",
    "<llm.prompts.N>",
    "llm.prompts",
    "ai.prompt.messages",
    "ai.prompt",
    "gcp.vertex.agent.llm_request",
    "<embedding.embeddings.N>",
    "input.value",
    "traceloop.entity.input",
    "ai.value",
    "ai.values",
)
OUTPUT_MESSAGES: Final[Names] = (
    "gen_ai.output.messages",
    "<choice events>",
    "gen_ai.completion",
    "<gen_ai.completion.N>",
    "<llm.output_messages.N>",
    "<llm.choices.N>",
    "<llm.completions.N>",
    "<ai.response>",
    "gcp.vertex.agent.llm_response",
    "output.value",
    "traceloop.entity.output",
    "ai.embedding",
    "ai.embeddings",
)

# -- tool calls -------------------------------------------------------------------------------------------------------

TOOL: Final[Names] = (
    "gen_ai.tool.name",
    "tool.name",
    "ai.toolCall.name",
    "tool_call.function.name",
    "agent_framework.function.name",
    "mcp.tool.name",
)
CALL: Final[Names] = (
    "gen_ai.tool.call.id",
    "tool_call.id",
    "tool.id",
    "ai.toolCall.id",
    "message.tool_call_id",
    "<tool message: tool_call_id>",
    "<tool events: id>",
)
TOOL_INPUT: Final[Names] = (
    "gen_ai.tool.call.arguments",
    "<tool message events>",
    "tool_arguments",
    "ai.toolCall.args",
    "ai.toolCall.input",
    "tool_call.function.arguments",
    "gcp.vertex.agent.tool_call_args",
    "mcp.request.argument",
    "tool.arguments",
    "gen_ai.tool.args",
    "gen_ai.tool.arguments",
    "gen_ai.tool.input",
    "input.value",
    "traceloop.entity.input",
    "gen_ai.input.messages",
    "gen_ai.prompt",
)
TOOL_OUTPUT: Final[Names] = (
    "gen_ai.tool.call.result",
    "<choice events>",
    "tool_response",
    "ai.toolCall.result",
    "ai.toolCall.output",
    "gcp.vertex.agent.tool_response",
    "mcp.response.value",
    "gen_ai.tool.output",
    "output.value",
    "traceloop.entity.output",
    "gen_ai.output.messages",
    "gen_ai.completion",
)

# -- retrieval and memory ---------------------------------------------------------------------------------------------

STORE: Final[Names] = (
    "gen_ai.data_source.id",
    "mcp.resource.uri",
    "db.collection.name",
    "langsmith.metadata.ls_vector_store_provider",
    "metadata.ls_vector_store_provider",
    "langsmith.metadata.ls_retriever_name",
    "metadata.ls_retriever_name",
    "db.namespace",
    "db.system.name",
    "db.system",
)
DOCUMENTS: Final[Names] = ("gen_ai.retrieval.documents", "<retrieval.documents.N>", "<reranker.output_documents.N>")
QUERY: Final[Names] = (
    "gen_ai.retrieval.query.text",
    "gen_ai.retrieval.query",
    "reranker.query",
    "db.query.text",
    "input.value",
    "traceloop.entity.input",
    "gen_ai.prompt",
    "gen_ai.input.messages",
)
RETRIEVED: Final[Names] = (
    *DOCUMENTS,
    "output.value",
    "mcp.response.value",
    "traceloop.entity.output",
    "gen_ai.completion",
    "gen_ai.output.messages",
)
MEMORY_STORE: Final[Names] = ("gen_ai.memory.store.id", "gen_ai.memory.store.name")
MEMORY_RECORD: Final[Names] = ("gen_ai.memory.record.id", "gen_ai.memory.id")
MEMORY_VALUE: Final[Names] = (
    "gen_ai.memory.records",
    "gen_ai.memory.content",
    "gen_ai.memory.query.text",
    "gen_ai.memory.query",
    "output.value",
    "input.value",
)

# -- judgements -------------------------------------------------------------------------------------------------------

VERDICT: Final[Names] = (
    "gen_ai.security.decision.type",
    "gen_ai.guardrail.verdict.type",
    "gen_ai.guardrail.result",
    "gen_ai.guardrail.result.value",
    "gen_ai.guardrail.action",
    "gen_ai.guardrail.action.type",
)
TRIGGERED: Final[Names] = ("gen_ai.guardrail.triggered", "guardrail.triggered")
GUARDRAIL: Final[Names] = (
    "gen_ai.guardrail.security.policy.rule.id",
    "gen_ai.security.policy.rule.id",
    "gen_ai.guardrail.name",
    "gen_ai.guardian.name",
    "gen_ai.guardrail.component.name",
    "gen_ai.guardrail.id",
    "gen_ai.guardian.id",
    "guardrail.name",
)
POLICY: Final[Names] = (
    "gen_ai.security.policy.name",
    "gen_ai.security.policy.id",
    "gen_ai.guardrail.security.policy.name",
    "gen_ai.guardrail.security.policy.id",
    "gen_ai.guardrail.type",
)
DECIDED_BY: Final[Names] = (
    "gen_ai.guardrail.provider.name",
    "gen_ai.guardian.provider.name",
    "gen_ai.security.provider.name",
    "gen_ai.guardrail.component.name",
)
DECISION_ID: Final[Names] = ("gen_ai.guardrail.security.external_finding_id", "gen_ai.security.external_event_id")
VERDICT_REASON: Final[Names] = ("gen_ai.guardrail.verdict.reason", "gen_ai.security.decision.reason")
GUARDED: Final[Names] = (
    "gen_ai.guardrail.security.content.input.value",
    "gen_ai.security.content.input.value",
    "gen_ai.guardrail.input",
)
APPROVAL: Final[Names] = ("crewai.human_feedback.request_id", "crewai.human_feedback.method_name")
ANSWER: Final[Names] = ("haystack.agent.hook.human_in_the_loop.strategy.decision", "crewai.human_feedback.outcome")
ANSWER_REASON: Final[Names] = (
    "crewai.human_feedback.feedback",
    "haystack.agent.hook.human_in_the_loop.strategy.output",
)
ASKED: Final[Names] = ("crewai.human_feedback.message",)
ASKED_INPUT: Final[Names] = ("haystack.agent.hook.human_in_the_loop.strategy.input",)
EVALUATION: Final[Names] = ("gen_ai.evaluation.name", "annotation.name", "evaluation.name")
EVALUATION_LABEL: Final[Names] = (
    "gen_ai.evaluation.score.label",
    "annotation.label",
    "evaluation.label",
    "gen_ai.guardrail.status",
)
EVALUATION_PARTS: Final[Names] = (
    "gen_ai.evaluation.score.value",
    "gen_ai.evaluation.explanation",
    "annotation.score",
    "annotation.explanation",
    "evaluation.score",
    "evaluation.explanation",
    "annotation.annotator_kind",
    "annotation.identifier",
    "evaluation.annotator_kind",
    "evaluation.identifier",
    "annotation.metadata",
    "evaluation.metadata",
    "gen_ai.guardrail.output",
)

# -- runs and agents --------------------------------------------------------------------------------------------------

WORKFLOW: Final[Names] = (
    "tallystick.workflow",
    "gen_ai.workflow.name",
    "workflow.name",
    "traceloop.workflow.name",
)
REQUEST: Final[Names] = (
    "gen_ai.input.messages",
    "<message events>",
    "gen_ai.prompt",
    "<gen_ai.prompt.N>",
    "<llm.input_messages.N>",
    "ai.prompt",
    "input.value",
    "traceloop.entity.input",
)
RESULT: Final[Names] = (
    "gen_ai.output.messages",
    "final_result",
    "<choice events>",
    "gen_ai.completion",
    "<llm.output_messages.N>",
    "<ai.response>",
    "output.value",
    "traceloop.entity.output",
)
HANDOFF_FROM: Final[Names] = ("gen_ai.handoff.from_agent", "graph.node.parent_id", "gen_ai.agent.handoff_parent")
HANDOFF_TO: Final[Names] = ("gen_ai.handoff.to_agent", "handoff.to_agent", "to_agent")
GOTO: Final[Names] = ("langgraph.command.goto_node", "langgraph.command.goto_nodes", "ag2.speaker_selection.selected")
CANDIDATES: Final[Names] = ("ag2.speaker_selection.candidates",)
ERROR_TYPE: Final[Names] = ("error.type",)
TOOL_STATUS: Final[Names] = ("gen_ai.tool.status", "<tool message: status>")
