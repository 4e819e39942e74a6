"""Pydantic AI with its own function model: its instrumentation is OpenTelemetry's, switched on by one line."""

from __future__ import annotations

from tests.runtimes.apps import offline  # isort: skip  (first: nothing may connect)

from typing import Any

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ToolDenied
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.usage import RequestUsage

from tests.runtimes.apps.scenarios import OutOfOrderError, main, model_called, model_raised, scenario, told, tool_ran

MODEL = "gpt-4o"


class Scripted(FunctionModel):
    """The framework's function model, in the part of a provider's: what it uses has a price."""

    @property
    def system(self) -> str:
        return "openai"


def scripted(*turns: ModelResponse | Exception) -> FunctionModel:
    """A model that gives these answers one after another."""
    rest = list(turns)

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = rest.pop(0)
        if isinstance(turn, Exception):
            model_raised()
            raise turn
        model_called(MODEL, turn.usage.input_tokens, turn.usage.output_tokens)
        return turn

    return Scripted(answer, model_name=MODEL)


def calls(tool: str, arguments: dict[str, Any], call_id: str, tokens: tuple[int, int]) -> ModelResponse:
    part = ToolCallPart(tool, arguments, tool_call_id=call_id)
    return ModelResponse([part], usage=RequestUsage(input_tokens=tokens[0], output_tokens=tokens[1]))


def says(text: str, tokens: tuple[int, int]) -> ModelResponse:
    return ModelResponse([TextPart(text)], usage=RequestUsage(input_tokens=tokens[0], output_tokens=tokens[1]))


@scenario
def tool_call() -> None:
    agent = Agent(
        scripted(calls("get_weather", {"city": "Paris"}, "call_1", (100, 20)), says("Sunny in Paris.", (140, 10))),
        name="weather_agent",
        instructions="You tell the weather.",
    )

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        tool_ran("get_weather")
        return f"sunny in {city}"

    agent.run_sync("What is the weather in Paris?")


@scenario
def own_test_model() -> None:
    """The framework's own test model, whose tokens are its estimate: read from its result."""
    agent = Agent(TestModel(), name="weather_agent")

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather of a city."""
        tool_ran("get_weather")
        return f"sunny in {city}"

    result = agent.run_sync("What is the weather in Paris?")
    for message in result.all_messages():
        if isinstance(message, ModelResponse):
            model_called("test", message.usage.input_tokens, message.usage.output_tokens)


@scenario
def tool_error() -> None:
    agent = Agent(scripted(calls("pay", {"amount": 12}, "call_2", (90, 15))), name="pay_agent")

    @agent.tool_plain
    def pay(amount: int) -> str:
        """Pay an amount."""
        tool_ran("pay", raised=True)
        raise OutOfOrderError("the till")

    agent.run_sync("Pay 12.")


@scenario
def model_error() -> None:
    Agent(scripted(OutOfOrderError("the model")), name="broken_agent").run_sync("Hello?")


def approval(verdict: bool | ToolDenied) -> None:
    """A payment needs approval: the first run ends asking, the second goes on with the answer."""
    turns = scripted(calls("pay", {"amount": 900}, "call_3", (80, 12)), says("Done as you said.", (110, 9)))
    agent = Agent(turns, name="pay_agent", output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    def pay(amount: int) -> str:
        """Pay an amount."""
        tool_ran("pay")
        return f"paid {amount}"

    asked = agent.run_sync("Pay 900.")
    assert isinstance(asked.output, DeferredToolRequests)
    call = asked.output.approvals[0]
    agent.run_sync(
        message_history=asked.all_messages(),
        deferred_tool_results=DeferredToolResults(approvals={call.tool_call_id: verdict}),
    )


@scenario
def approval_denied() -> None:
    told(denied=["pay"], calls=["call_3"])
    approval(ToolDenied("no budget for that"))


@scenario
def approval_given() -> None:
    told(approved=["pay"], calls=["call_3"])
    approval(True)


@scenario
def delegation() -> None:
    """An agent as another's tool."""
    inner = Agent(scripted(says("Rain tomorrow.", (60, 6))), name="forecast_agent")
    outer = Agent(
        scripted(calls("ask_forecast", {"day": "tomorrow"}, "call_4", (70, 11)), says("Take a coat.", (95, 5))),
        name="concierge_agent",
    )

    @outer.tool_plain
    async def ask_forecast(day: str) -> str:
        """Ask the forecaster."""
        tool_ran("ask_forecast")
        return (await inner.run(f"The weather of {day}?")).output

    told(delegated=["forecast_agent"])
    outer.run_sync("Do I need a coat?")


if __name__ == "__main__":
    offline.attempts.clear()
    main("pydantic-ai-app", lambda _: Agent.instrument_all(), "pydantic-ai-slim")
