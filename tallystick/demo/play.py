"""The demo, act by act. It ends well only if everything came out as it must; each of these is one check.

    servers → contracts and policy → three tickets → a fourth by OpenTelemetry → an imported file
            → what is on the record → verified → tampered with

Guarantees: what is counted is counted from the entries that Postgres holds, not from what was sent; the payment
provider's list, kept in a file of its own, is what the money is compared with.
"""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from ledger.leaf import Leaf
from ledger.verify import Report, verify
from projections.knowledge import knowledge
from projections.links import LINKS, Link, links
from tallystick.demo import by_otlp, counting
from tallystick.demo.by_otlp import ByOtlp
from tallystick.demo.command import own_command
from tallystick.demo.shop import CURRENCY, ORDERS, Payments, Shop
from tallystick.demo.stage import Entry, Stage, stage
from tallystick.demo.story import DESK, OUTCOMES, PERSONS, Story, Told
from tallystick.demo.tampering import Tampering, copied, tamper
from tallystick.demo.telling import Teller, listed
from tallystick.servers.progress import progress_bar

PLAIN_STEPS: Final = "plain-steps.jsonl"
PLAIN_RUN: Final = "7f31-returns"
LOSES_ITS_ANSWER: Final = "A-1077"
# The lamp, the mug, and the credit; the bulbs were taken back.
RIGHT_NET: Final = ORDERS["A-1042"].total + ORDERS["A-1120"].total + 5
# What the fourth run can't have: nobody had to be asked, and it looked nothing up and remembered nothing.
NOT_IN_OTLP: Final = {"retrieved_context", "memory_reads_and_writes", "human_approval", "error_path"}
JOURNAL: Final = "payments.jsonl"


@dataclass(slots=True)
class Summary:
    """What came out: the checks, and what they were made of."""

    home: str
    tenant: str = ""
    log: str = ""
    seconds: float = 0.0
    runs: list[dict[str, Any]] = field(default_factory=list)
    links: dict[str, Any] = field(default_factory=dict)
    money: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, bool | str] = field(default_factory=dict)
    vouched: dict[str, int] = field(default_factory=dict)
    imported: dict[str, int] = field(default_factory=dict)
    otlp: dict[str, Any] = field(default_factory=dict)
    verdicts: dict[str, Any] = field(default_factory=dict)
    tampering: dict[str, Any] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.checks) and all(check["ok"] for check in self.checks)

    def to_json(self) -> str:
        """The summary that `tally demo --json` prints."""
        return json.dumps({"ok": self.ok, **asdict(self)}, ensure_ascii=False)


async def play(home: Path, console: Console, began: float) -> Summary:
    """Play all acts in a home; nothing runs on afterwards. `began`: the monotonic time at which whoever waits began
    to. Raises what `stage` raises, and LedgerError or psycopg.Error where a step can't be done."""
    acts = _Acts(home, Teller(console))
    async with AsyncExitStack() as ending:
        with progress_bar() as show:
            running = await ending.enter_async_context(stage(home, show))
        await acts.play(running)
    acts.summary.seconds = round(time.monotonic() - began, 1)
    acts.end()
    return acts.summary


class _Acts:
    """The acts and what they hand on. Called in order."""

    def __init__(self, home: Path, teller: Teller) -> None:
        self.summary = Summary(str(home))
        self._home, self._teller = home, teller
        self._told: list[Told] = []
        self._entries: list[Entry] = []
        self._of_otlp: list[Entry] = []

    async def play(self, stage: Stage) -> None:
        """All acts but the last words."""
        self._servers(stage)
        shop = Shop(Payments(self._home / JOURNAL, {LOSES_ITS_ANSWER}))
        story = Story(stage.bootstrap, stage.tenant.tenant, shop, stage.keys)
        await self._work(story, stage.default.tenant)
        sent = await self._by_otlp(stage, shop)
        await self._import(stage)  # which waits until all of it, and all before it, is committed
        self._entries = await stage.entries(stage.tenant)
        self._of_otlp = [entry for entry in await stage.entries(stage.default) if entry.leaf.run == sent.run]
        self._told = story.told
        self._record(shop.payments, sent)
        self._links()
        self._what_otlp_tells(sent)
        await self._one_run(stage)
        progress = await stage.end_consumer()
        refused = progress.rejected + progress.conflicts
        detail = f"{progress.records} records read, {progress.duplicates} were there already, {refused} refused"
        self._check("intake", refused == 0 and progress.duplicates > 0, detail)
        reports = await self._verify(stage)
        await self._tamper(stage, reports)

    def _check(self, name: str, ok: bool, detail: str) -> None:
        self.summary.checks.append({"name": name, "ok": ok, "detail": detail})
        self._teller.check(name, ok, detail)

    def _servers(self, stage: Stage) -> None:
        self.summary.tenant, self.summary.log = stage.tenant.tenant, stage.tenant.origins[0]
        teller = self._teller
        teller.act("A real Postgres, a real Kafka and one consumer")
        teller.say(f"They live in {self._home}, which is kept; remove the folder to be rid of it.")
        teller.say(f"This showing is the tenant {stage.tenant.tenant}. Its log is {stage.tenant.origins[0]}.")
        teller.say("Two keys are registered: one of a runtime that signs, one of a reviewer who attests.")
        teller.leaves_open("stand for a deployment: one Kafka node, one host, no TLS.")

    async def _work(self, story: Story, default: str) -> None:
        teller = self._teller
        teller.act("Three tickets, settled by a support desk (Pydantic AI)")
        digests = await story.apply(story.tenant)
        await story.apply(default)
        teller.say(
            f"First an operator applies two contracts and a policy through tally.control ({len(digests)} digests)."
        )
        await story.play()
        for told in story.told:
            below = " in a run below it" if told.parent else ""
            teller.say(f"{told.ticket}  {told.agent:<12} {told.status:<12} run {told.run}{below}")
        teller.proves("each payment was announced before it was made: Kafka had `started` when the money moved.")
        teller.leaves_open(
            "prove that a model was asked or a person answered: both are functions here, and the record would not"
            " know. The runtime claims; what a key signed, only its holder could."
        )

    async def _by_otlp(self, stage: Stage, shop: Shop) -> ByOtlp:
        teller = self._teller
        teller.act("A fourth ticket, by an agent of which the ledger gets OpenTelemetry only")
        sent = await by_otlp.settle(stage.gateway, shop)
        teller.say(f"{sent.ticket}  {DESK:<12} run {sent.run}, sent to {stage.gateway}, for the tenant default")
        teller.proves("an agent that is instrumented as it is gets on the record by an endpoint and a few lines.")
        teller.leaves_open(
            "prove that everything arrived: spans have no numbers, are sent when they have ended, and nobody signed"
            " them. So this payment was not announced before it was made."
        )
        return sent

    async def _import(self, stage: Stage) -> None:
        teller = self._teller
        teller.act(f"A file of plain steps, imported twice ({PLAIN_STEPS})")
        lines = (resources.files("tallystick.demo") / PLAIN_STEPS).read_bytes().splitlines()
        counts = []
        for _ in range(2):
            await stage.send_lines(lines, PLAIN_STEPS)
            await stage.committed()
            found = [entry for entry in await stage.entries(stage.default) if entry.leaf.run == PLAIN_RUN]
            counts.append(sum(entry.leaf.kind != "run_head" for entry in found))
        self.summary.imported = {"lines": len(lines), "after_first": counts[0], "after_second": counts[1]}
        self._check("import", counts == [len(lines)] * 2, f"{len(lines)} lines, {counts[0]} entries, then {counts[1]}")
        teller.proves("the same line is one entry, however often it is sent.")
        teller.leaves_open("show that no line is missing from the file: plain lines carry no producer's numbers.")

    def _leaves(self) -> list[Leaf]:
        return [entry.leaf for entry in self._entries]

    def _record(self, payments: Payments, sent: ByOtlp) -> None:
        teller, leaves, summary = self._teller, self._leaves(), self.summary
        teller.act("What is on the record, counted from the entries in Postgres")
        by_otlp = [entry.leaf for entry in self._of_otlp]
        ledger, provider = counting.moved([*leaves, *by_otlp]), counting.paid(payments.made())
        summary.money = {
            "ledger": {action: str(amount) for action, amount in ledger.items()},
            "provider": {action: str(amount) for action, amount in provider.items()},
            "net": str(counting.net(ledger)),
            "currency": CURRENCY,
        }
        detail = f"{_sums(ledger)}; the payment provider's own list: {_sums(provider)}"
        self._check("money", ledger == provider and counting.net(ledger) == RIGHT_NET, detail)
        through_kafka = [payment for payment in payments.made() if payment.key != sent.key]
        announced = counting.announced(leaves, through_kafka)
        detail = f"{len(through_kafka)} payments, each recorded as started before it was made"
        self._check("announced", announced, f"{detail}; not the one told by OTLP")
        priced, claimed = counting.cost(leaves)
        summary.cost = {"priced": str(priced), "claimed": str(claimed), "currency": CURRENCY}
        self._check("cost", 0 < priced == claimed, f"{priced} {CURRENCY} by the ledger's prices, {claimed} as claimed")
        found = counting.vouched(leaves)
        summary.vouched = dict(found)
        words = listed(f"{found[word]} {word}" for word in ("claimed", "signed", "attested"))
        self._check("vouched", all(found[word] for word in ("claimed", "signed", "attested")), words)
        same = counting.approved_as_executed(leaves)
        self._check("approvals", same, "what was executed has the arguments that were approved, by digest")
        everything = (*self._entries, *self._of_otlp)
        named = [name for name in PERSONS if any(name.encode() in entry.raw for entry in everything)]
        self._check("persons", not named, listed(named) or "no leaf holds a person's name; they stand as references")
        learned = counting.outcomes(leaves)
        summary.outcomes = learned
        words = listed(f"{ticket} {_word(verified)}" for ticket, verified in sorted(learned.items()))
        self._check("outcomes", learned == OUTCOMES, f"the helpdesk's word, later: {words}")
        teller.proves("the ledger's figures are those of a list that the agent did not write.")
        teller.leaves_open("prove that the list of the payment provider is right.")

    def _links(self) -> None:
        teller = self._teller
        teller.act("The twelve links of a run, and the entries that show them")
        by_run = {told.run: links(self._of_run(told.run)) for told in self._told}
        runs = {told.run for told in self._told}
        together = links((entry.index, entry.leaf) for entry in self._entries if entry.leaf.run in runs)
        teller.links(self._told, by_run)
        self.summary.runs = [self._run_summary(told, by_run[told.run]) for told in self._told]
        self.summary.links = {
            name: {"held": link.held, "entries": [shown.index for shown in link.shown]}
            for name, link in together.items()
        }
        missing = [name for name, link in together.items() if not link.held]
        held = len(LINKS) - len(missing)
        self._check(
            "links", not missing, f"{held} of {len(LINKS)} are held" + (f", not {listed(missing)}" if missing else "")
        )
        child = next(told for told in self._told if told.parent)
        started = self._of_run(child.run)[0][1].data
        below = started.get("parent_run") == child.parent == started.get("root_run") and started.get("depth") == 1
        self._check("run tree", below, f"{child.agent} worked at depth 1 below {child.parent}")
        teller.proves("who asked, which policy and which person allowed it, what was done and what it cost are there.")
        teller.leaves_open("say that the evidence is enough; that is for whoever reads it.")

    def _what_otlp_tells(self, sent: ByOtlp) -> None:
        teller = self._teller
        teller.act(f"What OpenTelemetry tells of a run: {sent.ticket}, {sent.run}")
        known = knowledge([(entry.index, entry.leaf) for entry in self._of_otlp])
        teller.known(known.links)
        kinds = Counter(entry.leaf.kind for entry in self._of_otlp)
        self.summary.otlp = {
            **asdict(sent),
            "kinds": dict(kinds),
            "links": {name: {"state": link.state, "rules": list(link.rules)} for name, link in known.links.items()},
        }
        missing = {name for name, link in known.links.items() if link.state == "missing"}
        answered = counting.answers([entry.leaf for entry in self._of_otlp], sent.key)
        self._check("by OTLP", missing == NOT_IN_OTLP, f"{len(LINKS) - len(missing)} of {len(LINKS)} links are known")
        self._check(
            "three questions", all(answered.values()), listed(f"{name}: {how}" for name, how in answered.items())
        )
        priced, claimed = counting.cost([entry.leaf for entry in self._of_otlp])
        self._check(
            "cost by OTLP", 0 < priced == claimed, f"{priced} {CURRENCY} by the ledger's prices, {claimed} as claimed"
        )
        teller.proves("for whom, by which policy, and what was done can be told from what an OTLP-only runtime sends.")
        teller.leaves_open("fill in what nobody said: what is missing here may have happened.")

    def _of_run(self, run: str) -> list[tuple[int, Leaf]]:
        return [(entry.index, entry.leaf) for entry in self._entries if entry.leaf.run == run]

    def _run_summary(self, told: Told, found: dict[str, Link]) -> dict[str, Any]:
        entries = self._of_run(told.run)
        finished = next((leaf.data["status"] for _, leaf in entries if leaf.kind == "run_finished"), None)
        held = [name for name, link in found.items() if link.held]
        return {**asdict(told), "status": finished, "entries": len(entries), "links": held}

    async def _one_run(self, stage: Stage) -> None:
        teller, first = self._teller, self._told[0]
        teller.act(f"One run, as the ledger has it: {first.ticket}, {first.run}")
        teller.run([entry for entry in self._entries if entry.leaf.run == first.run])
        teller.say("Each also holds, sealed: the persons it names, and the signed bytes with their signature.")
        opened = (await stage.shown(first.run, with_keys=True)).entries
        closed = (await stage.shown(first.run, with_keys=False)).entries
        verdicts = [
            Counter(said["verdict"] for entry in of for said in entry["content"].values()) for of in (opened, closed)
        ]
        total = sum(verdicts[0].values())
        self._check(
            "content",
            total > 0 and verdicts == [{"disclosed": total}, {"withheld": total}],
            f"{total} fields open with the key store, each as its leaf commits to; without it none does",
        )
        teller.say(f"What was asked, opened: {opened[0]['content']['/request']['value']}")
        teller.proves("each entry names the hash of the one before it in its run, and commits to what is sealed.")
        teller.leaves_open("keep content from whoever holds the key store.")

    async def _verify(self, stage: Stage) -> dict[str, Report]:
        teller = self._teller
        teller.act("Verified: everything recomputed from Postgres")
        url = stage.url("tally_auditor")
        tenant = await verify(url, stage.keystore, tenant=stage.tenant.tenant)
        whole = await verify(url, stage.keystore)
        reports = {f"tenant {stage.tenant.tenant}": tenant, "the whole ledger": whole}
        teller.verdicts(reports)
        self.summary.verdicts = {"tenant": _verdicts(tenant), "ledger": _verdicts(whole)}
        findings = [found for report in reports.values() for found in report.findings]
        self._check("integrity", tenant.integrity == whole.integrity == "ok", "no byte differs from what was signed")
        self._check(
            "completeness",
            (tenant.completeness, whole.completeness) == ("ok", "unknown"),
            f"{tenant.completeness} for the tenant: every number of every producer is there, every run ended;"
            f" {whole.completeness} for the whole: imported lines and spans have no numbers to go by",
        )
        self._check(
            "independence",
            tenant.independence == whole.independence == "unwitnessed",
            "unwitnessed: only the ledger's own keys signed. Whoever holds them, the database and all that was"
            " published could rewrite everything; a witness elsewhere would close this, and there is none yet",
        )
        self._check("findings", not findings, listed(found.kind for found in findings) or "none")
        teller.proves("nothing was edited, deleted, inserted or reordered since it was signed.")
        teller.leaves_open("prove that what was reported is true, or that everything was reported.")
        return reports

    async def _tamper(self, stage: Stage, reports: dict[str, Report]) -> None:
        teller = self._teller
        teller.act("Tampered with, in a copy of the database")
        entry = next(
            entry
            for entry in self._entries
            if entry.leaf.kind == "tool_call" and entry.leaf.data["phase"] == "finished" and "effect" in entry.leaf.data
        )
        amount = entry.leaf.data["effect"]["amount"]
        before, after = f'"amount":"{amount}"', f'"amount":"{amount[1:]}"'
        async with copied(stage) as database:
            done = await tamper(stage, database, entry, before, after)
            teller.say(f"In the copy, {before} of entry {done.index} becomes {after}.")
            self._check("triggers", bool(done.refusal), f"the first try: {done.refusal or 'not refused'}")
            teller.say("So the superuser turns the triggers off, and tries again.")
            found = await verify(stage.url("tally_auditor", database), stage.keystore)
        teller.verdicts({"the copy": found})
        teller.findings(found)
        original = await verify(stage.url("tally_auditor"), stage.keystore)
        self._judge(done, found, original)
        teller.proves("whoever has the database, but not the signing keys, can't change an entry unnoticed.")
        teller.leaves_open("undo the change: what was touched is named, and a backup has to give it back.")

    def _judge(self, done: Tampering, found: Report, original: Report) -> None:
        hits = [item for item in found.findings if (item.log, item.index) == (done.log, done.index)]
        named = next((item for item in hits if item.kind == "leaf_edited"), None)
        self.summary.tampering = {
            **asdict(done),
            "verdicts": _verdicts(found),
            "finding": asdict(named) if named else None,
            "findings": [asdict(item) for item in found.findings],
            "original": _verdicts(original),
        }
        where = f"{done.log} at {done.index}"
        self._check("tampering", named is not None and found.integrity == "failed", f"leaf_edited in {where}")
        same = _verdicts(original) == self.summary.verdicts["ledger"]
        self._check("original", same and original.integrity == "ok", f"integrity {original.integrity}, as before")

    def end(self) -> None:
        """The last words."""
        summary, teller = self.summary, self._teller
        failed = [check["name"] for check in summary.checks if not check["ok"]]
        teller.act(f"Ended after {summary.seconds} s; nothing runs on")
        teller.say(
            f"All {len(summary.checks)} checks came out as they must."
            if summary.ok
            else f"NOT as it must be: {listed(failed)}."
        )
        tally = f"TALLY_HOME={shlex.quote(summary.home)} {own_command()}"
        teller.say("Look around: start its servers,")
        teller.command(f"{tally} up")
        teller.say("and when they are ready, in another terminal, see the first run, or any other:")
        teller.command(f"{tally} show {summary.runs[0]['run']}")


def _verdicts(report: Report) -> dict[str, str]:
    return {
        "integrity": report.integrity,
        "completeness": report.completeness,
        "independence": report.independence,
    }


def _word(verified: bool | str) -> str:
    return verified if isinstance(verified, str) else "confirmed" if verified else "not confirmed"


def _sums(sums: dict[str, Any]) -> str:
    return listed(f"{action} {amount}" for action, amount in sorted(sums.items())) or "nothing"
