"""LangGraph by OpenInference's instrumentor, with LangChain's fake chat model that says what tokens it used."""

from __future__ import annotations

from tests.runtimes.apps import offline  # isort: skip  (first: nothing may connect)

from collections.abc import Iterator, Sequence
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from openinference.instrumentation.langchain import LangChainInstrumentor

from tests.runtimes.apps.scenarios import OutOfOrderError, main, model_called, model_raised, scenario, told, tool_ran

MODEL = "gpt-4o"


class Scripted(GenericFakeChatModel):
    """LangChain's own fake, with tools bound to it and with usage, as a provider's class has them."""

    model_name: str = MODEL

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Any:
        return self

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": self.model_name, "ls_model_type": "chat"}

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        result = super()._generate(messages, *args, **kwargs)
        answer = result.generations[0].message
        assert isinstance(answer, AIMessage)
        assert answer.usage_metadata is not None
        model_called(self.model_name, answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"])
        return result


def usage(tokens: tuple[int, int]) -> UsageMetadata:
    return UsageMetadata(input_tokens=tokens[0], output_tokens=tokens[1], total_tokens=sum(tokens))


def calls(name: str, arguments: dict[str, Any], call_id: str, tokens: tuple[int, int]) -> AIMessage:
    call = ToolCall(name=name, args=arguments, id=call_id, type="tool_call")
    metadata = {"model_name": MODEL, "finish_reason": "tool_calls"}
    return AIMessage("", tool_calls=[call], usage_metadata=usage(tokens), response_metadata=metadata)


def says(text: str, tokens: tuple[int, int]) -> AIMessage:
    metadata = {"model_name": MODEL, "finish_reason": "stop"}
    return AIMessage(text, usage_metadata=usage(tokens), response_metadata=metadata)


def scripted(*turns: AIMessage | Exception) -> Scripted:
    def play() -> Iterator[AIMessage]:
        for turn in turns:
            if isinstance(turn, Exception):
                model_raised()
                raise turn
            yield turn

    return Scripted(messages=play())


def thread(name: str) -> RunnableConfig:
    return {"configurable": {"thread_id": name}}


def asks(text: str) -> Any:
    return {"messages": [{"role": "user", "content": text}]}


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    tool_ran("get_weather")
    return f"sunny in {city}"


@tool
def pay(amount: int) -> str:
    """Pay an amount."""
    tool_ran("pay")
    return f"paid {amount}"


@tool
def broken_till(amount: int) -> str:
    """Pay an amount at a till that fails."""
    tool_ran("broken_till", raised=True)
    raise OutOfOrderError("the till")


@scenario
def tool_call() -> None:
    model = scripted(calls("get_weather", {"city": "Paris"}, "call_1", (100, 20)), says("Sunny in Paris.", (140, 10)))
    agent = create_agent(model, tools=[get_weather], name="weather_agent")
    agent.invoke(asks("What is the weather in Paris?"), thread("lg-tool-call"))


@scenario
def tool_error() -> None:
    model = scripted(calls("broken_till", {"amount": 12}, "call_2", (90, 15)), says("It failed.", (99, 4)))
    agent = create_agent(model, tools=[broken_till], name="pay_agent")
    agent.invoke(asks("Pay 12."), thread("lg-tool-error"))


@scenario
def model_error() -> None:
    agent = create_agent(scripted(OutOfOrderError("the model")), tools=[get_weather], name="broken_agent")
    agent.invoke(asks("Hello?"), thread("lg-model-error"))


def approval(name: str, decision: dict[str, Any]) -> None:
    """LangChain's human in the loop: the first trace ends in an interrupt, the second goes on with the decision."""
    model = scripted(calls("pay", {"amount": 900}, "call_3", (80, 12)), says("Done as you said.", (110, 9)))
    agent = create_agent(
        model,
        tools=[pay],
        name="pay_agent",
        middleware=[HumanInTheLoopMiddleware(interrupt_on={"pay": True})],
        checkpointer=InMemorySaver(),
    )
    asked = agent.invoke(asks("Pay 900."), thread(name))
    assert asked["__interrupt__"]
    agent.invoke(Command(resume={"decisions": [decision]}), thread(name))


@scenario
def approval_denied() -> None:
    told(denied=["pay"])
    approval("lg-denied", {"type": "reject", "message": "no budget for that"})


@scenario
def approval_given() -> None:
    told(approved=["pay"])
    approval("lg-given", {"type": "approve"})


@scenario
def approval_edited() -> None:
    told(edited=["pay"])
    decision = {"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 90}}}
    approval("lg-edited", decision)


@scenario
def interrupt_denied() -> None:
    """An own graph whose node interrupts, and goes elsewhere by `Command(goto=…)` when refused."""

    def plan(state: MessagesState) -> dict[str, Any]:
        model = scripted(calls("pay", {"amount": 900}, "call_4", (81, 13)))
        return {"messages": [model.invoke(state["messages"])]}

    def gate(state: MessagesState) -> Command[Any]:
        answer = interrupt({"question": "May I pay 900?"})
        return Command(goto="act" if answer == "approve" else "refuse")

    def act(state: MessagesState) -> dict[str, Any]:
        return {"messages": [pay.invoke({"amount": 900})]}

    def refuse(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("I did not pay.")]}

    graph = StateGraph(MessagesState)
    for node in (plan, act, refuse):
        graph.add_node(node)
    graph.add_node("gate", gate, destinations=("act", "refuse"))
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "gate")
    graph.add_edge("act", END)
    graph.add_edge("refuse", END)
    app = graph.compile(checkpointer=InMemorySaver(), name="gated_graph")
    told(denied=["pay"])
    app.invoke(asks("Pay 900."), thread("lg-interrupt"))
    app.invoke(Command(resume="reject"), thread("lg-interrupt"))


if __name__ == "__main__":
    offline.attempts.clear()
    main(
        "langgraph-app",
        lambda tracers: LangChainInstrumentor().instrument(tracer_provider=tracers),
        "langgraph",
        "langchain",
        "openinference-instrumentation-langchain",
    )
