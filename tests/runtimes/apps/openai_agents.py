"""OpenAI Agents by OpenInference's instrumentor, with a model of this file's own."""

from __future__ import annotations

from tests.runtimes.apps import offline  # isort: skip  (first: nothing may connect)

import json
from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailTripwireTriggered,
    Model,
    ModelResponse,
    ModelSettings,
    RunConfig,
    Runner,
    Usage,
    function_tool,
    trace,
)
from agents.models.interface import ModelTracing
from agents.tracing import generation_span
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

from tests.runtimes.apps.scenarios import OutOfOrderError, main, model_called, model_raised, scenario, told, tool_ran

MODEL = "gpt-4o"


class Scripted(Model):
    """Gives these answers one after another, in a generation span, as the SDK's chat completions model does."""

    def __init__(self, *turns: ModelResponse | Exception) -> None:
        self._turns = list(turns)

    async def get_response(
        self,
        system_instructions: str | None,
        input: Any,
        model_settings: ModelSettings,
        tools: Any,
        output_schema: Any,
        handoffs: Any,
        tracing: ModelTracing,
        **_: Any,
    ) -> ModelResponse:
        messages = [{"role": "user", "content": input}] if isinstance(input, str) else list(input)
        with generation_span(input=messages, model=MODEL, model_config={"temperature": 0.0}) as span:
            turn = self._turns.pop(0)
            if isinstance(turn, Exception):
                model_raised()
                raise turn
            span.span_data.output = [as_chat_message(item) for item in turn.output]
            span.span_data.usage = {
                "input_tokens": turn.usage.input_tokens,
                "output_tokens": turn.usage.output_tokens,
            }
            model_called(MODEL, turn.usage.input_tokens, turn.usage.output_tokens)
            return turn

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("no scenario streams")


def as_chat_message(item: Any) -> dict[str, Any]:
    if isinstance(item, ResponseFunctionToolCall):
        function = {"name": item.name, "arguments": item.arguments}
        return {"role": "assistant", "tool_calls": [{"id": item.call_id, "type": "function", "function": function}]}
    return {"role": "assistant", "content": item.content[0].text}


def used(tokens: tuple[int, int]) -> Usage:
    return Usage(requests=1, input_tokens=tokens[0], output_tokens=tokens[1], total_tokens=sum(tokens))


def calls(name: str, arguments: dict[str, Any], call_id: str, tokens: tuple[int, int]) -> ModelResponse:
    call = ResponseFunctionToolCall(
        type="function_call", name=name, arguments=json.dumps(arguments), call_id=call_id, id=f"fc_{call_id}"
    )
    return ModelResponse(output=[call], usage=used(tokens), response_id=None)


def says(text: str, tokens: tuple[int, int]) -> ModelResponse:
    message = ResponseOutputMessage(
        id="msg_1",
        type="message",
        role="assistant",
        status="completed",
        content=[ResponseOutputText(type="output_text", text=text, annotations=[], logprobs=[])],
    )
    return ModelResponse(output=[message], usage=used(tokens), response_id=None)


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    tool_ran("get_weather")
    return f"sunny in {city}"


@function_tool(needs_approval=True)
def pay(amount: int) -> str:
    """Pay an amount."""
    tool_ran("pay")
    return f"paid {amount}"


@function_tool(failure_error_function=None)
def broken_till(amount: int) -> str:
    """Pay an amount at a till that fails."""
    tool_ran("broken_till", raised=True)
    raise OutOfOrderError("the till")


def named(workflow: str) -> RunConfig:
    return RunConfig(workflow_name=workflow, group_id=f"thread-{workflow}")


@scenario
async def tool_call() -> None:
    model = Scripted(calls("get_weather", {"city": "Paris"}, "call_1", (100, 20)), says("Sunny in Paris.", (140, 10)))
    agent = Agent(name="weather_agent", model=model, tools=[get_weather])
    await Runner.run(agent, "What is the weather in Paris?", run_config=named("weather"))


@scenario
async def tool_error() -> None:
    agent = Agent(
        name="pay_agent",
        model=Scripted(calls("broken_till", {"amount": 12}, "call_2", (90, 15))),
        tools=[broken_till],
    )
    await Runner.run(agent, "Pay 12.", run_config=named("tool-error"))


@scenario
async def model_error() -> None:
    agent = Agent(name="broken_agent", model=Scripted(OutOfOrderError("the model")))
    await Runner.run(agent, "Hello?", run_config=named("model-error"))


@scenario
async def handoff() -> None:
    model = Scripted(
        calls("transfer_to_weather_agent", {}, "call_3", (70, 8)),
        calls("get_weather", {"city": "Oslo"}, "call_4", (100, 20)),
        says("Sunny in Oslo.", (140, 10)),
    )
    weather = Agent(name="weather_agent", model=model, tools=[get_weather])
    triage = Agent(name="triage_agent", model=model, handoffs=[weather])
    told(delegated=["weather_agent"])
    await Runner.run(triage, "The weather in Oslo?", run_config=named("handoff"))


async def approval(workflow: str, approve: bool) -> None:
    """The run stops for an approval; its state is answered and the run goes on."""
    model = Scripted(calls("pay", {"amount": 900}, "call_5", (80, 12)), says("Done as you said.", (110, 9)))
    agent = Agent(name="pay_agent", model=model, tools=[pay])
    asked = await Runner.run(agent, "Pay 900.", run_config=named(workflow))
    state = asked.to_state()
    for item in asked.interruptions:
        if approve:
            state.approve(item)
        else:
            state.reject(item, rejection_message="no budget for that")
    await Runner.run(agent, state, run_config=named(workflow))


@scenario
async def approval_denied() -> None:
    told(denied=["pay"])
    with trace("pay"):  # both halves in one trace: else the instrumentor drops the second
        await approval("denied", approve=False)


@scenario
async def approval_given() -> None:
    told(approved=["pay"])
    with trace("pay"):
        await approval("given", approve=True)


@scenario
async def resumed_unseen() -> None:
    """Without a trace around both halves, nothing of the second is sent, its tool call least of all."""
    told(approved=["pay"], unseen={"model_calls": 1, "tool_calls": 1})
    await approval("unseen", approve=True)


@scenario
async def guardrail_tripped() -> None:
    """An input guardrail that stops the run: its span says that it was triggered, no verdict of a policy."""

    def no_secrets(context: Any, agent: Any, text: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info={"found": "a secret"}, tripwire_triggered=True)

    agent = Agent(
        name="guarded_agent",
        model=Scripted(says("Never said.", (10, 2))),
        input_guardrails=[InputGuardrail(guardrail_function=no_secrets, name="no_secrets", run_in_parallel=False)],
    )
    told(tripped=1)
    try:
        await Runner.run(agent, "My password is x.", run_config=named("guardrail"))
    except InputGuardrailTripwireTriggered:
        told(stopped=True)


if __name__ == "__main__":
    offline.attempts.clear()
    main(
        "openai-agents-app",
        lambda tracers: OpenAIAgentsInstrumentor().instrument(tracer_provider=tracers),
        "openai-agents",
        "openinference-instrumentation-openai-agents",
    )
