"""What a run's steps come to, each counted once. Pure.

Guarantees: tokens and cost are those of the innermost model calls, each in one of them; sums are exact, and of one
currency each; what the ledger priced, what was claimed of calls, what tools cost and what the run's end claims as a
whole are four sums and never one. Does not: convert, estimate, or fill in what nobody said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Final

from ledger.leaf import Leaf
from projections.reading import Entry, add, amount, count, microseconds, text
from projections.steps.approvals import Answer, Approval, approvals
from projections.steps.run import Run, Step, steps
from projections.steps.spans import TOKENS
from projections.steps.told import node_of

_FAILED: Final = ("error", "timeout")
_EXECUTED: Final = ("started", "finished")


@dataclass(frozen=True, slots=True)
class Cost:
    """Sums by currency."""

    priced: Mapping[str, Decimal]  # by the ledger, when it sealed the calls
    claimed: Mapping[str, Decimal]  # of the same calls, by the runtime
    tools: Mapping[str, Decimal]  # of tool calls, as they say
    whole: Mapping[str, Decimal]  # of the run, as its end claims


@dataclass(frozen=True, slots=True)
class Approvals:
    """How many approvals, by the last word on each; an answer counts also where the question is in another run."""

    asked: int
    approved: int  # edits among them
    rejected: int
    expired: int
    undecided: int  # answered, and nobody said how
    unanswered: int  # asked, and this run has no answer


@dataclass(frozen=True, slots=True)
class Totals:
    """Of one run."""

    model_calls: int
    model_calls_without_tokens: int  # that say no number of input or output tokens: the sums lack theirs
    model_calls_unpriced: int
    model_calls_unclaimed: int  # of which nobody claims a cost
    tokens: Mapping[str, int]  # by class; cached ones are input tokens too, reasoning ones output tokens
    cost: Cost
    tool_calls: int  # that were started or finished, and not denied
    tool_calls_denied: int  # told as denied, or an approval was refused and the call didn't run
    approvals: Approvals
    errors: int  # failures told as such, and failed calls of which no error was told
    retries: int
    delegations: int
    model_latency_us: int
    tool_latency_us: int
    elapsed_us: int | None  # from the first start to the last end
    latency_claimed_us: int | None  # what the run's end says that it took

    def as_json(self) -> dict[str, Any]:
        """As it is printed; money as decimal texts."""
        told: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__ if name != "cost"}
        told["approvals"] = asdict(self.approvals)
        sums = {name: getattr(self.cost, name) for name in self.cost.__slots__}
        told["tokens"] = dict(self.tokens)
        told["cost"] = {name: {of: f"{sum:f}" for of, sum in sorted(by.items())} for name, by in sums.items()}
        return told


def totals(entries: Iterable[tuple[int, Leaf]]) -> Totals:
    """What the run that these entries tell comes to."""
    return totals_of(steps(entries))


def totals_of(run: Run) -> Totals:
    """What the steps of a run come to."""
    models = [step for step in run.steps if step.kind == "model_call" and not step.total]
    tools = [step for step in run.steps if step.kind == "tool_call" and _phases(step) & set(_EXECUTED)]
    executed = [step for step in tools if step.said("status") != "denied"]
    usages = list(_counted(run, _usage))
    asked = approvals(run.steps)
    tokens: Counter[str] = Counter()
    for usage in usages:
        tokens.update({name: number for name in TOKENS if (number := count(usage.get(name))) is not None})
    return Totals(
        model_calls=len(models),
        model_calls_without_tokens=sum(1 for step in models if _usage(step) is None),
        model_calls_unpriced=sum(1 for step in models if amount((_usage(step) or {}).get("price")) is None),
        model_calls_unclaimed=sum(1 for step in models if amount(_claim(step)) is None),
        tokens={name: tokens[name] for name in TOKENS if name in tokens},
        cost=Cost(
            priced=_sums(usage.get("price") for usage in usages),
            claimed=_sums(_counted(run, _claim)),
            tools=_sums(step.said("cost") for step in executed),
            whole=_sums(step.said("cost_claimed") for step in run.steps if step.kind == "run_finished"),
        ),
        tool_calls=len(executed),
        tool_calls_denied=_denied(run, executed, asked),
        approvals=_approvals(asked),
        errors=_errors(run),
        retries=_retries(run, models, executed),
        delegations=sum(1 for step in run.steps if step.kind == "delegation"),
        model_latency_us=_latency(models),
        tool_latency_us=_latency(executed),
        elapsed_us=_elapsed(run),
        latency_claimed_us=next(
            (count(step.said("total_latency_us")) for step in run.steps if step.kind == "run_finished"), None
        ),
    )


def _approvals(asked: Iterable[Approval]) -> Approvals:
    asked = list(asked)
    by: Counter[Answer] = Counter(one.answer for one in asked)
    return Approvals(
        asked=sum(1 for one in asked if one.requests),
        approved=by["approved"],
        rejected=by["rejected"],
        expired=by["expired"],
        undecided=by["undecided"],
        unanswered=by["unanswered"],
    )


def _denied(run: Run, executed: Iterable[Step], asked: Iterable[Approval]) -> int:
    """Calls that are told as denied, and those whose approval was rejected and that didn't run: each once."""
    told = [step for step in run.steps if step.kind == "tool_call" and step.said("status") == "denied"]
    known = {text(step.said("call")) for step in (*told, *executed)}
    refused = [one.calls or {one.name} for one in asked if one.answer == "rejected"]
    return len(told) + len({name for names in refused for name in names} - known)


def _phases(step: Step) -> set[str]:
    return {phase for entry in step.entries if (phase := text(entry.leaf.data.get("phase"))) is not None}


def counted(step: Step, name: str) -> Entry | None:
    """The entry of a model call whose tokens count (of TOKENS: the one that says most of them, the better one of two
    that say as many), or whose `name` does. None where none says it."""
    if name not in TOKENS:
        return next((entry for entry in step.entries if name in entry.leaf.data), None)
    most = _says_most_tokens(step)
    return most if name in most.leaf.data else None


def calls_without_cost(run: Run) -> int:
    """How many model calls have neither a price nor a claimed cost, and are in no total that counts as theirs."""
    says = {at for at, step in enumerate(run.steps) if step.kind == "model_call" and _has_cost(step)}
    spoken: set[int] = set()  # the totals inside which a call says a cost: they don't count
    for at in says:
        above = run.steps[at].within
        while above is not None and above not in spoken:
            spoken.add(above)
            above = run.steps[above].within
    covered: dict[int | None, bool] = {None: False, **dict.fromkeys(says - spoken, True)}
    lacking = 0
    for step in run.steps:
        if step.kind != "model_call" or step.total or _has_cost(step):
            continue
        path, above = [], step.within
        while above not in covered:
            path.append(above)
            above = run.steps[above].within if above is not None else None
        covered.update(dict.fromkeys(path, covered[above]))
        lacking += not covered[step.within]
    return lacking


def _has_cost(step: Step) -> bool:
    return amount(step.said("price")) is not None or amount(_claim(step)) is not None


def _usage(step: Step) -> dict[str, Any] | None:
    """The members of the one entry whose tokens count, with a price if any of its entries has one."""
    most = _says_most_tokens(step).leaf.data
    return {**most, "price": most.get("price", step.said("price"))} if _tokens_said(most) else None


def _says_most_tokens(step: Step) -> Entry:
    return max(step.entries, key=lambda entry: _tokens_said(entry.leaf.data))


def _tokens_said(data: Mapping[str, Any]) -> int:
    return sum(1 for name in TOKENS if count(data.get(name)) is not None)


def _claim(step: Step) -> Any:
    return step.said("cost_claimed")


def _counted(run: Run, said: Callable[[Step], Any]) -> Iterator[Any]:
    """What model calls say: the innermost do, and a total only where nothing inside it does."""
    inside = Counter(step.within for step in run.steps if step.within is not None)
    speaks: set[int] = set()
    ready = [at for at, step in enumerate(run.steps) if step.kind == "model_call" and at not in inside]
    while ready:
        at = ready.pop()
        step = run.steps[at]
        value = None if at in speaks else said(step)
        if value is not None:
            yield value
        if step.within is None:
            continue
        if value is not None or at in speaks:
            speaks.add(step.within)
        inside[step.within] -= 1
        if not inside[step.within]:
            ready.append(step.within)


def _sums(said: Iterable[Any]) -> dict[str, Decimal]:
    sums: dict[str, Decimal] = {}
    for value in said:
        found = amount(value)
        if found is not None:
            add(sums, found)
    return sums


def _latency(of: Iterable[Step]) -> int:
    return sum(took for step in of if (took := count(step.said("latency_us"))) is not None)


def _elapsed(run: Run) -> int | None:
    start, end = microseconds(run.started), microseconds(run.ended)
    return None if start is None or end is None else max(0, end - start)


def _errors(run: Run) -> int:
    told = [step for step in run.steps if step.kind == "error"]
    about = {text(entry.leaf.data.get("of")) or node_of(entry.leaf) for step in told for entry in step.entries}
    failed = (
        step
        for step in run.steps
        if step.kind in ("model_call", "tool_call") and not step.total and step.said("status") in _FAILED
    )
    silent = (step for step in failed if about.isdisjoint(_names(step)))
    return len(told) + sum(1 for _ in silent)


def _names(step: Step) -> set[str]:
    """By what an error may name a step."""
    return {name for entry in step.entries for name in (entry.leaf.id, node_of(entry.leaf))}


def _retries(run: Run, models: Iterable[Step], tools: Iterable[Step]) -> int:
    """Calls that say they are a later attempt, and retries told as such; an attempt that is told both ways counts once.

    A retry names what it repeats, a call which attempt it is: of tool calls the call id joins them, of model calls no
    more than the attempt's number does.
    """
    step_of = {entry.leaf.id: step for step in run.steps for entry in step.entries}
    attempts = Counter(key for step in (*models, *tools) if (key := _attempt(step, step.said("attempt")))[-1] > 1)
    told: Counter[tuple[str, str, int]] = Counter()
    for step in run.steps:
        if step.kind == "retry":
            of = text(step.said("of")) or ""
            told[_attempt(step_of.get(of), step.said("attempt"), of)] += 1
    return (attempts | told).total()


def _attempt(step: Step | None, number: Any, of: str = "") -> tuple[str, str, int]:
    which = count(number) or 0
    if step is None or step.kind not in ("model_call", "tool_call"):
        return "other", of, which
    return step.kind, (text(step.said("call")) or "") if step.kind == "tool_call" else "", which
