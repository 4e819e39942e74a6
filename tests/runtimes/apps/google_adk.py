"""Google ADK with a model of this file's own; ADK is instrumented with OpenTelemetry already, logs included."""

from __future__ import annotations

from tests.runtimes.apps import offline  # isort: skip  (first: nothing may connect)

import os
from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents import LlmAgent
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import InMemoryRunner
from google.adk.tools.agent_tool import AgentTool
from google.adk.tools.function_tool import FunctionTool
from google.genai import types
from pydantic import PrivateAttr

from tests.runtimes.apps.scenarios import OutOfOrderError, main, model_called, model_raised, scenario, told, tool_ran

# What a tool was called with and what came of it, without which a call that only asked for a confirmation looks done.
os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_AND_EVENT"

MODEL = "gemini-2.5-flash"
CONFIRMATION = "adk_request_confirmation"


class Scripted(BaseLlm):
    """Gives these answers one after another."""

    model: str = MODEL
    _turns: list[Any] = PrivateAttr(default_factory=list)

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        turn = self._turns.pop(0)
        if isinstance(turn, Exception):
            model_raised()
            raise turn
        usage = turn.usage_metadata
        model_called(MODEL, usage.prompt_token_count, usage.candidates_token_count)
        yield turn


def scripted(*turns: LlmResponse | Exception) -> Scripted:
    model = Scripted()
    model._turns = list(turns)
    return model


def answer(part: types.Part, tokens: tuple[int, int]) -> LlmResponse:
    return LlmResponse(
        content=types.Content(role="model", parts=[part]),
        model_version=MODEL,
        finish_reason=types.FinishReason.STOP,
        usage_metadata=types.GenerateContentResponseUsageMetadata(
            prompt_token_count=tokens[0], candidates_token_count=tokens[1], total_token_count=sum(tokens)
        ),
    )


def calls(name: str, arguments: dict[str, Any], call_id: str, tokens: tuple[int, int]) -> LlmResponse:
    return answer(types.Part(function_call=types.FunctionCall(id=call_id, name=name, args=arguments)), tokens)


def says(text: str, tokens: tuple[int, int]) -> LlmResponse:
    return answer(types.Part(text=text), tokens)


def get_weather(city: str) -> dict[str, str]:
    """The weather of a city."""
    tool_ran("get_weather")
    return {"weather": f"sunny in {city}"}


def pay(amount: int) -> dict[str, str]:
    """Pay an amount."""
    tool_ran("pay")
    return {"paid": str(amount)}


def broken_till(amount: int) -> dict[str, str]:
    """Pay an amount at a till that fails."""
    tool_ran("broken_till", raised=True)
    raise OutOfOrderError("the till")


def user(text: str) -> types.Content:
    return types.Content(role="user", parts=[types.Part(text=text)])


async def converse(agent: LlmAgent, *messages: Any) -> None:
    """One session; a message that is a function makes the next message of the events so far."""
    runner = InMemoryRunner(agent=agent, app_name="adk_app")
    session = await runner.session_service.create_session(app_name="adk_app", user_id="user-7")
    events: list[Any] = []
    for message in messages:
        content = message(events) if callable(message) else message
        played = runner.run_async(user_id="user-7", session_id=session.id, new_message=content)
        events.extend([event async for event in played])


@scenario
async def tool_call() -> None:
    model = scripted(calls("get_weather", {"city": "Paris"}, "call_1", (100, 20)), says("Sunny in Paris.", (140, 10)))
    await converse(LlmAgent(name="weather_agent", model=model, tools=[get_weather]), user("The weather in Paris?"))


@scenario
async def tool_error() -> None:
    model = scripted(calls("broken_till", {"amount": 12}, "call_2", (90, 15)))
    await converse(LlmAgent(name="pay_agent", model=model, tools=[broken_till]), user("Pay 12."))


@scenario
async def model_error() -> None:
    model = scripted(OutOfOrderError("the model"))
    await converse(LlmAgent(name="broken_agent", model=model), user("Hello?"))


@scenario
async def handoff() -> None:
    """A transfer to a sub-agent: a tool by its span, and no tool call."""
    weather = LlmAgent(
        name="weather_agent",
        description="Tells the weather.",
        model=scripted(calls("get_weather", {"city": "Oslo"}, "call_4", (100, 20)), says("Sunny.", (140, 10))),
        tools=[get_weather],
    )
    triage = LlmAgent(
        name="triage_agent",
        model=scripted(calls("transfer_to_agent", {"agent_name": "weather_agent"}, "call_3", (70, 8))),
        sub_agents=[weather],
    )
    told(delegated=["weather_agent"])
    await converse(triage, user("The weather in Oslo?"))


@scenario
async def delegation() -> None:
    """An agent as another's tool."""
    inner = LlmAgent(name="forecast_agent", description="Forecasts.", model=scripted(says("Rain tomorrow.", (60, 6))))
    outer = LlmAgent(
        name="concierge_agent",
        model=scripted(calls("forecast_agent", {"request": "Tomorrow?"}, "call_6", (70, 11)), says("Yes.", (95, 5))),
        tools=[AgentTool(agent=inner)],
    )
    told(delegated=["forecast_agent"])
    await converse(outer, user("Do I need a coat tomorrow?"))


async def approval(confirmed: bool) -> None:
    """A tool that needs a confirmation, asked for in one invocation and answered in the next."""
    model = scripted(
        calls("pay", {"amount": 900}, "call_5", (80, 12)),
        says("Done as you said.", (110, 9)),
        says("Anything else?", (120, 3)),
    )

    def confirm(events: list[Any]) -> types.Content:
        asked = [
            part.function_call
            for event in events
            if event.content
            for part in event.content.parts or ()
            if part.function_call and part.function_call.name == CONFIRMATION
        ]
        response = types.FunctionResponse(id=asked[0].id, name=CONFIRMATION, response={"confirmed": confirmed})
        return types.Content(role="user", parts=[types.Part(function_response=response)])

    agent = LlmAgent(name="pay_agent", model=model, tools=[FunctionTool(pay, require_confirmation=True)])
    await converse(agent, user("Pay 900."), confirm)


@scenario
async def approval_denied() -> None:
    told(denied=["pay"])
    await approval(confirmed=False)


@scenario
async def approval_given() -> None:
    told(approved=["pay"])
    await approval(confirmed=True)


if __name__ == "__main__":
    offline.attempts.clear()
    main("adk-app", lambda _: None, "google-adk")
