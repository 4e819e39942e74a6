"""smolagents by OpenInference's instrumentor, with a model of this file's own."""

from __future__ import annotations

from tests.runtimes.apps import offline  # isort: skip  (first: nothing may connect)

from typing import Any

import smolagents
from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from smolagents import ChatMessage, CodeAgent, LogLevel, Model, Tool, ToolCallingAgent
from smolagents.models import ChatMessageToolCall, ChatMessageToolCallFunction, MessageRole
from smolagents.monitoring import TokenUsage

from tests.runtimes.apps.scenarios import OutOfOrderError, main, model_called, model_raised, scenario, told, tool_ran

MODEL = "gpt-4o"

Turn = ChatMessage | Exception


class Scripted(Model):
    """Gives these answers one after another."""

    def __init__(self, *turns: Turn) -> None:
        super().__init__(model_id=MODEL)
        self._turns = list(turns)

    def generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatMessage:
        turn = self._turns.pop(0)
        if isinstance(turn, Exception):
            model_raised()
            raise turn
        assert turn.token_usage is not None
        model_called(MODEL, turn.token_usage.input_tokens, turn.token_usage.output_tokens)
        return turn


def calls(name: str, arguments: dict[str, Any], call_id: str, tokens: tuple[int, int]) -> ChatMessage:
    call = ChatMessageToolCall(
        id=call_id, type="function", function=ChatMessageToolCallFunction(name=name, arguments=arguments)
    )
    return ChatMessage(
        role=MessageRole.ASSISTANT, content="", tool_calls=[call], token_usage=TokenUsage(tokens[0], tokens[1])
    )


def writes(code: str, tokens: tuple[int, int]) -> ChatMessage:
    content = f"I think, then act.\n<code>\n{code}\n</code>"
    return ChatMessage(role=MessageRole.ASSISTANT, content=content, token_usage=TokenUsage(tokens[0], tokens[1]))


class GetWeather(Tool):  # type: ignore[misc]
    name = "get_weather"
    description = "The weather of a city."
    inputs = {"city": {"type": "string", "description": "a city"}}  # noqa: RUF012  (read by the framework)
    output_type = "string"

    def forward(self, city: str) -> str:
        tool_ran("get_weather")
        return f"sunny in {city}"


class BrokenTill(Tool):  # type: ignore[misc]
    name = "broken_till"
    description = "Pay an amount at a till that fails."
    inputs = {"amount": {"type": "integer", "description": "an amount"}}  # noqa: RUF012  (read by the framework)
    output_type = "string"

    def forward(self, amount: int) -> str:
        tool_ran("broken_till", raised=True)
        raise OutOfOrderError("the till")


def quiet(model: Scripted, tools: list[Tool], **more: Any) -> ToolCallingAgent:
    return ToolCallingAgent(tools=tools, model=model, verbosity_level=LogLevel.OFF, **more)


@scenario
def tool_call() -> None:
    model = Scripted(
        calls("get_weather", {"city": "Paris"}, "call_1", (100, 20)),
        calls("final_answer", {"answer": "Sunny in Paris."}, "call_2", (140, 10)),
    )
    quiet(model, [GetWeather()], name="weather_agent", description="Tells the weather.").run("The weather in Paris?")


@scenario
def tool_error() -> None:
    """A failing tool is told to the model, which gives up."""
    model = Scripted(
        calls("broken_till", {"amount": 12}, "call_3", (90, 15)),
        calls("final_answer", {"answer": "It failed."}, "call_4", (99, 4)),
    )
    quiet(model, [BrokenTill()], name="pay_agent", description="Pays.").run("Pay 12.")


@scenario
def model_error() -> None:
    model = Scripted(OutOfOrderError("the model"))
    quiet(model, [GetWeather()], name="broken_agent", description="Is broken.").run("Hello?")


@scenario
def delegation() -> None:
    """A managed agent: called like a tool, and no tool."""
    inner = quiet(
        Scripted(
            calls("get_weather", {"city": "Oslo"}, "call_6", (60, 6)),
            calls("final_answer", {"answer": "Sunny in Oslo."}, "call_7", (75, 7)),
        ),
        [GetWeather()],
        name="forecast_agent",
        description="Forecasts.",
    )
    outer = quiet(
        Scripted(
            calls("forecast_agent", {"task": "The weather in Oslo?"}, "call_5", (70, 11)),
            calls("final_answer", {"answer": "Take sunglasses."}, "call_8", (95, 5)),
        ),
        [],
        name="concierge_agent",
        description="Delegates.",
        managed_agents=[inner],
    )
    told(delegated=["forecast_agent"])
    outer.run("Do I need a coat in Oslo?")


@scenario
def code_agent() -> None:
    """An agent that acts by code: its tools are called from the code it wrote."""
    model = Scripted(
        writes('weather = get_weather(city="Rome")\nprint(weather)', (120, 25)),
        writes('final_answer("Sunny in Rome.")', (150, 12)),
    )
    CodeAgent(
        tools=[GetWeather()], model=model, verbosity_level=LogLevel.OFF, name="code_agent", description="Codes."
    ).run("The weather in Rome?")


def instrument(tracers: Any) -> None:
    """The instrumentor wraps the models that the package exports, as a provider's are: this file's joins them."""
    smolagents.Scripted = Scripted  # type: ignore[attr-defined]
    SmolagentsInstrumentor().instrument(tracer_provider=tracers)


if __name__ == "__main__":
    offline.attempts.clear()
    main(
        "smolagents-app",
        instrument,
        "smolagents",
        "openinference-instrumentation-smolagents",
    )
