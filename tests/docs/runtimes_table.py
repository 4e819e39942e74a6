"""The table of docs/runtimes/index.md that says how each link is known of a captured run, made by mapping the captures.

`python -m tests.docs.runtimes_table` writes it into the page; test_runtimes.py checks that it is up to date.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.otlp.mapping import map_request
from ledger.leaf import Leaf
from projections.knowledge import Known, knowledge
from projections.links import LINKS
from schemas.event import Event
from schemas.normalize import normalize_draft

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "runtimes" / "index.md"
CAPTURES = ROOT / "tests" / "fixtures" / "otlp"
BEGIN, END = "<!-- links: begin -->", "<!-- links: end -->"
RUNS: Final = {
    "Pydantic AI": ("pydantic_ai_testmodel.pb",),
    "the same, a denied call": ("pydantic_ai_approval_denied.pb",),
    "LangGraph": ("langgraph_oi.pb",),
    "OpenAI Agents": ("openai_agents_oi.pb",),
    "smolagents": ("smolagents_oi.pb",),
    "Google ADK": ("google_adk.pb", "google_adk_logs.pb"),
}


def page_with_table(page: str) -> str:
    """The page's text, with the part between the marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}{END}{after}"


def table() -> str:
    """A row for each link, a column for each capture."""
    known = {name: known_of(*files) for name, files in RUNS.items()}
    lines = [f"| link | {' | '.join(known)} |", f"| --- {'| --- ' * len(known)}|"]
    for link in LINKS:
        cells = [_cell(links[link]) for links in known.values()]
        lines.append(f"| {link.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(known: Known) -> str:
    if known.state == "missing":
        return "missing"
    without = f", without {' and '.join(known.lacks)}" if known.lacks else ""
    return f"{known.state}{without}"


def known_of(*files: str) -> dict[str, Known]:
    """How each link is known of what these files hold, taken as one run."""
    return dict(knowledge(enumerate(leaves_of(*files))).links)


def leaves_of(*files: str) -> Iterator[Leaf]:
    """Leaves as ingest and the ledger would make them, all of one run: public members, references, what is sealed."""
    for file in files:
        body = (CAPTURES / file).read_bytes()
        mapped = (
            map_request("logs", ExportLogsServiceRequest.FromString(body))
            if file.endswith("_logs.pb")
            else map_request("spans", ExportTraceServiceRequest.FromString(body))
        )
        for one in mapped:
            for draft in one.drafts:
                yield _leaf(normalize_draft(draft))


def _leaf(event: Event) -> Leaf:
    actor, data = dict(event.actor), {**event.data, "vouched": "claimed"}
    for pointer, _ in event.persons:
        if pointer.startswith("/actor/"):
            actor[pointer.removeprefix("/actor/")] = "p:0"
        else:
            data[pointer[1:]] = "p:0"
    return Leaf(
        v=1,
        log="example/default",
        id=event.id,
        kind=event.kind,
        schema=1,
        run="r",
        run_seq=0,
        prev=None,
        src=None,
        time=event.time,
        recorded="2026-11-21T03:00:00.000000Z",
        source={"ledger": "example"},
        actor=actor or None,
        data=data,
        commit={content.pointer: {"c": "", "k": []} for content in event.content} or None,
        sig=None,
    )


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
