"""A whole verification, from a snapshot to a report.

In this order, and each step relies only on those before it:

1. A snapshot, which every worker shares; the logs in it, and the ranges they are cut into.
2. The ranges, on all cores: leaves, columns, content, tiles, checkpoints' notes (`work`).
3. Each log, when its ranges are in: roots at every checkpoint, and which entries were touched (`logs`, `settle`).
4. Across ranges: ids, run chains, producers' numbers, intake accounts (`cross`, `accounts`).
5. What others hold of the logs: `heads`, the record of what was published, a checkpoint the caller knows (`claims`).
6. Fields that did not open: erased, or a finding.
7. The tables beside the logs (`tables`). Then the verdicts, and the mark for `since_verified`.

Guarantees: reads nothing but the snapshot, so a writer at work neither disturbs it nor waits for it; memory doesn't
grow with the logs but for one hash per 256 entries. Writes nothing to the database.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from ledger.db import Connection, connect
from ledger.errors import KeyStoreError, MalformedLeaf
from ledger.keystore import KeyStore, SqliteKeyStore, VerifiedMark
from ledger.leaf import check_leaf
from ledger.merkle import Edge
from ledger.verify.accounts import PartitionChain, judge_counts
from ledger.verify.claims import check_claims, check_lag, held_outside, latest_in_heads, read_known
from ledger.verify.cross import is_declared
from ledger.verify.entries import numbers_digest
from ledger.verify.fields import Unopened
from ledger.verify.heads import Claim
from ledger.verify.logs import LogCheck, LogRow
from ledger.verify.marks import Marked, read_mark
from ledger.verify.partitions import PARTS, PartitionAnswer, PartitionJob, judge_partition
from ledger.verify.plan import LogPlan, begin_snapshot, plan_log, read_logs
from ledger.verify.pool import ROLE, Pool, Setup
from ledger.verify.ranges import Ranges
from ledger.verify.report import Findings, LogState, Report, completeness_of, integrity_of
from ledger.verify.settle import Settled, settle
from ledger.verify.spool import Spool, partitions_for
from ledger.verify.tables import (
    check_content_rows,
    check_logs,
    check_missing_shards,
    check_producer_keys,
    check_published_sizes,
    check_recorded,
    check_runs,
    listed_runs,
)
from ledger.verify.tree import edge_of
from ledger.verify.work import RANGE_ENTRIES, Job, RangeResult

Progress = Callable[[str, int, int], None]  # stage, done, of how many

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # Postgres counts microseconds from here


@dataclass(slots=True)
class _Across:
    """What ranges handed up for the checks across them."""

    erased: dict[str, set[str]] = field(default_factory=dict)  # by log, references that an erasure entry names
    declared: dict[bytes, list[tuple[int, int]]] = field(default_factory=dict)
    chains: dict[str, PartitionChain] = field(default_factory=dict)
    newest_in_heads: dict[str, int] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    partitions: dict[bytes, tuple[str, int]] = field(default_factory=dict)  # by digest, topic and partition
    unknown: bool = False  # whether completeness can't be told


async def verify(
    url: str,
    keystore: KeyStore,
    *,
    logs: Sequence[str] | None = None,
    tenant: str | None = None,
    known_checkpoint: bytes | None = None,
    since_verified: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verify all logs, or those named, or a tenant's, as the auditor.

    `known_checkpoint`: a signed note that the caller trusts; its log must extend it. `workers`: processes (default: one
    per core). Raises LedgerError or psycopg.Error where it can't be done; findings are not errors.
    """
    conn = await connect(url, ROLE, application="tallystick verify")
    async with conn:
        with tempfile.TemporaryDirectory(prefix="tallystick-verify-") as folder:
            run = _Verification(conn, keystore, Path(folder), progress or _silent)
            await run.choose(logs, tenant, since_verified=since_verified)
            async with run.pool(url, _workers(workers, keystore, run.entries)) as pool:
                await run.ranges(pool)
                await run.judge(pool)
                await pool.dismiss()
                await run.across(url)
                await run.claims(known_checkpoint)
                await run.tables()
            report = run.report()
        await conn.execute("ROLLBACK")
    if report.integrity == "ok" and logs is None and tenant is None:
        run.set_marks()
    return report


def _silent(stage: str, done: int, total: int) -> None:
    """No progress is shown."""


def _workers(wanted: int | None, keystore: KeyStore, entries: int) -> int:
    """One process for what one range holds, or where the key store can't be opened a second time."""
    if not isinstance(keystore, SqliteKeyStore) or (wanted is None and entries <= RANGE_ENTRIES):
        return 1
    return wanted or len(os.sched_getaffinity(0))


class _Verification:
    """The state of one verification. Its methods are the steps, to be called in order."""

    def __init__(self, conn: Connection, keystore: KeyStore, folder: Path, progress: Progress) -> None:
        self.findings = Findings()
        self.entries = 0
        self._conn = conn
        self._keystore = keystore
        self._folder = folder
        self._progress = progress
        self._snapshot = ""
        self._now = datetime.now(UTC)
        self._rows: list[LogRow] = []  # all logs; a log's ordinal is its place here
        self._plans: list[LogPlan] = []  # those to verify
        self._whole = True  # all logs are verified
        self._counts = True  # sources are held against the intake accounts
        self._held: list[Claim] = []
        self._asked: list[str] = []
        self._settled: dict[str, Settled] = {}
        self._marked: dict[str, Marked] = {}
        self._checks: dict[str, LogCheck] = {}
        self._recorded: dict[str, datetime | None] = {}  # the newest `recorded` read, by log
        self._across = _Across()
        self._partitions = 1
        self._answer = PartitionAnswer()
        self._listed_runs: dict[str, int] = {}  # by log
        self._unopened = folder / "unopened"

    # (1)
    async def choose(self, logs: Sequence[str] | None, tenant: str | None, *, since_verified: bool) -> None:
        """Take the snapshot and plan the logs."""
        # Before the snapshot: what was published by now is committed, and so will be in it.
        self._held = held_outside(self._keystore)
        self._snapshot, self._now = await begin_snapshot(self._conn)
        self._rows = await read_logs(self._conn)
        self._whole = logs is None and tenant is None
        self._asked = list(logs or ())
        chosen = [
            row
            for row in self._rows
            if self._whole or row.log in self._asked or (tenant is not None and row.tenant == tenant)
        ]
        if tenant is not None and not any(row.tenant == tenant for row in chosen):
            self._asked.append(f"tenant {tenant}")
        for log in self._asked:
            if log not in {row.log for row in chosen}:
                self.findings.add("log_missing", log, None, "the database has no such log")
        for row in chosen:
            if not row.listed:
                self.findings.add("log_missing", row.log, None, "entries are stored of a log that is not listed")
            mark = await read_mark(self._conn, self._keystore, row) if since_verified else None
            plan = await plan_log(self._conn, row, mark, self.findings)
            if mark is not None and plan.marked_size:
                self._marked[row.log] = mark
            self._plans.append(plan)
        # Accounts and entries are counted from one state of the whole ledger on, or not at all.
        self._counts = self._whole and len({mark.verified_at for mark in self._marked.values()}) <= 1
        self.entries = sum(plan.span - plan.from_mark for plan in self._plans)
        self._partitions = partitions_for(self.entries)

    def pool(self, url: str, workers: int) -> Pool:
        """The processes, to be entered."""
        if isinstance(self._keystore, SqliteKeyStore):
            opener: Callable[[], KeyStore] = partial(SqliteKeyStore, self._keystore.path.parent, create=False)
        else:
            opener = partial(_same, self._keystore)
        return Pool(Setup(url, self._snapshot, opener, self._folder, self._partitions), workers)

    # (2) and (3)
    async def ranges(self, pool: Pool) -> None:
        """Check all ranges, and settle each log."""
        spool = Spool(self._folder, "accounts", self._partitions)
        done = 0
        with self._unopened.open("w", encoding="utf-8") as unopened:
            async for result in pool.check(Ranges(self._plans, pool.workers)):
                self._gather(result, spool)
                for field_ in result.unopened:
                    unopened.write(json.dumps(asdict(field_)) + "\n")
                done += 0 if result.job.beyond else result.job.end - result.job.first
                self._progress("entries", done, self.entries)
                if result.job.beyond:
                    await self._settle(result.job)
        spool.flush()

    def _gather(self, result: RangeResult, spool: Spool) -> None:
        job, gathered, across = result.job, result.gathered, self._across
        self._check_of(job).take(result, self.findings)
        across.erased.setdefault(job.log, set()).update(gathered.erased)
        across.unknown = across.unknown or gathered.unknown
        across.partitions.update(gathered.partitions)
        for producer, run, first, last in gathered.declared_gaps:
            key = job.tenant_ordinal.to_bytes(4, "big") + numbers_digest(producer, run)
            across.declared.setdefault(key, []).append((first, last))
        if job.log_class == "intake":
            chain = across.chains.get(job.log)
            if chain is None:
                chain = PartitionChain.of(job.log, job.ordinal)
                if chain is None:
                    return
                chain.fresh_from, chain.expected = job.fresh_from, None if job.first else 0
                across.chains[job.log] = chain
            for index, kind, data in gathered.accounts:
                chain.take(index, kind, data, self.findings, spool)
        if result.heads is not None:
            across.claims += result.heads.claims
            for origin, size in result.heads.newest.items():
                across.newest_in_heads[origin] = max(across.newest_in_heads.get(origin, 0), size)

    def _check_of(self, job: Job) -> LogCheck:
        check = self._checks.get(job.log)
        if check is None:
            plan = next(plan for plan in self._plans if plan.row.log == job.log)
            check = LogCheck(plan.row, plan.span, self._keystore.vkeys(job.log))
            if job.log in self._marked:
                check.begin_at(self._marked[job.log].tiles)
            self._checks[job.log] = check
        return check

    async def _settle(self, job: Job) -> None:
        check = self._checks.pop(job.log)
        newest = check.recorded_max
        self._recorded[job.log] = None if newest is None else _EPOCH + timedelta(microseconds=newest)
        self._settled[job.log] = await settle(self._conn, check, self.findings)

    # (4)
    async def judge(self, pool: Pool) -> None:
        """Judge the spool's partitions."""
        excluded = {
            self._ordinal(log): settled.located.excluded
            for log, settled in self._settled.items()
            if settled.located.excluded
        }
        parts = [
            PartitionJob(self._folder, number, excluded, not self._marked, accounts=self._counts, part=part)
            for number in range(self._partitions)
            for part in PARTS
        ]
        answers: dict[int, PartitionAnswer] = {}
        listing = asyncio.create_task(self._list_runs())  # Postgres can do that meanwhile
        try:
            async for place, answer in pool.apply(judge_partition, parts):
                answers[place] = answer
                self._progress("across", len(answers), len(parts))
            await listing
        finally:
            listing.cancel()
        for _, answer in sorted(answers.items()):
            self._answer.merge(answer)

    async def _list_runs(self) -> None:
        if not self._marked:  # else not all entries were read
            self._listed_runs = await listed_runs(self._conn)

    def _ordinal(self, log: str) -> int:
        return next(row.ordinal for row in self._rows if row.log == log)

    async def across(self, url: str) -> None:
        """Turn what the partitions came to into findings, without what touched entries explain."""
        answer, findings = self._answer, self.findings
        for duplicate in answer.duplicates:
            log = self._rows[duplicate.ordinal].log
            findings.add("duplicate_id", log, duplicate.index, f"its id is that of entry {duplicate.first_index}")
        await self._links()
        for gap in answer.gaps:
            log = self._rows[gap.ordinal].log
            declared = self._across.declared.get(gap.tenant_ordinal.to_bytes(4, "big") + gap.digest, [])
            said = "declared by the producer" if is_declared(gap, declared) else "not declared"
            numbers = str(gap.first) if gap.first == gap.last else f"{gap.first} to {gap.last}"
            findings.add("producer_gap", log, gap.index, f"the producer's numbers {numbers} are missing, {said}")
        for record, counts in answer.counted.items():
            wrong = judge_counts(record, counts)
            if wrong is not None:
                ordinal, index, detail = wrong
                findings.add("source_hole", self._rows[ordinal].log, index, detail)
        for digest, (count, lowest) in answer.outside.items():
            topic, partition = self._across.partitions[digest]
            ending = f"/_intake/{topic}/{partition}"
            log = next((row.log for row in self._rows if row.log.endswith(ending)), ending.strip("/"))
            findings.add(
                "source_hole", log, None, f"{count} entries name offsets from {lowest} on that no account covers"
            )
        await self._positions()
        await self._fields(url)

    async def _links(self) -> None:
        findings = self.findings
        for link in self._answer.links:
            log = self._rows[link.ordinal].log
            settled = self._settled[log]
            if settled.located.lost.get(link.prev, link.index) < link.index:
                continue  # it follows an entry that was deleted or edited, which is a finding already
            if link.before is not None and not link.reordered:
                suspects = [suspect for suspect in settled.suspects if link.before in suspect]
                if suspects:
                    findings.add(
                        "leaf_edited",
                        log,
                        link.before,
                        f"the next entry of its run was sealed over leaf hash {link.prev.hex()}",
                    )
                    continue
            if await self._follows_unread(log, link.index, link.before, link.prev):
                continue
            if link.reordered:
                if not settled.is_touched(link.index) and not settled.is_touched(link.before or 0):
                    findings.add("order", log, link.index, "it stands or was recorded before its run's previous entry")
                continue
            findings.add(
                "chain_broken",
                log,
                link.index,
                f"run_seq {link.run_seq} with prev {link.prev.hex()} does not follow on its run's previous entry"
                + (f" at index {link.before}" if link.before is not None else ", of which there is none")
                + (f"; run_seq {link.expected_seq} was expected" if link.run_seq != link.expected_seq else ""),
            )

    async def _follows_unread(self, log: str, index: int, before: int | None, prev: bytes) -> bool:
        """Whether a run goes on from an entry that was not read again."""
        if before is not None or log not in self._marked:
            return False
        cursor = self._conn.cursor(binary=True)
        await cursor.execute(
            "SELECT sha256('\\x00'::bytea || p.leaf) FROM entries e JOIN entries p"
            " ON p.log = e.log AND p.run = e.run AND p.run_seq = e.run_seq - 1 WHERE e.log = %b AND e.index = %b",
            (log, index),
        )
        row = await cursor.fetchone()
        return row is not None and row[0] == prev

    async def _positions(self) -> None:
        """The stored offsets must be where the accounts end."""
        if not self._whole:
            return
        cursor = await self._conn.execute(
            "SELECT cluster, topic, partition, next_offset FROM positions ORDER BY cluster, topic, partition"
        )
        ends = {(chain.cluster, chain.topic, chain.partition): chain for chain in self._across.chains.values()}
        stored = {(row[0], row[1], row[2]): row[3] for row in await cursor.fetchall()}
        for (cluster, topic, partition), next_offset in stored.items():
            chain = ends.get((cluster, topic, partition))
            if chain is not None and chain.expected is not None and chain.expected != next_offset:
                self.findings.add(
                    "source_hole",
                    chain.log,
                    None,
                    f"the accounts of {topic}/{partition} end before offset {chain.expected},"
                    f" the stored position is {next_offset}",
                )

        for key, chain in sorted(ends.items(), key=lambda item: item[1].log):
            if chain.cluster is not None and chain.expected is not None and key not in stored:
                self.findings.add(
                    "source_hole", chain.log, None, f"no position is stored, the accounts end before {chain.expected}"
                )

    # (6)
    async def _fields(self, url: str) -> None:
        """Fields that did not open: erased where an erasure entry of their log names one of their keys."""
        erased = self._across.erased
        newer: dict[str, set[str]] = {}
        with self._unopened.open(encoding="utf-8") as lines:
            for line in lines:
                stored = json.loads(line)
                field_ = Unopened(**{**stored, "refs": tuple(stored["refs"])})
                log = field_.log
                if erased.get(log, set()).intersection(field_.refs) or self._settled[log].is_touched(field_.index):
                    continue
                if log not in newer:
                    newer[log] = await _erased_since(url, log, self._settled[log].size)
                if newer[log].intersection(field_.refs):
                    continue
                if field_.reason == "no key":
                    detail = f"{field_.pointer}: the key store lacks {' or '.join(field_.refs)}, and no erasure says so"
                    self.findings.add("key_missing", field_.log, field_.index, detail)
                else:
                    detail = f"{field_.pointer}: its stored bytes are gone, and no erasure says so"
                    self.findings.add("content_tampered", field_.log, field_.index, detail)

    # (5)
    async def claims(self, known_checkpoint: bytes | None) -> None:
        """Hold the logs against what is held of them elsewhere."""
        findings, keystore, across = self.findings, self._keystore, self._across
        heads = [row.log for row in self._rows if row.log_class == "heads"]
        claims = across.claims + [claim for claim in self._held if self._whole or claim.origin in self._settled]
        newest = across.newest_in_heads
        if not self._whole:
            unread = [log for log in heads if log not in self._settled]
            named = await latest_in_heads(self._conn, keystore, unread, self._settled, findings)
            newest.update({claim.origin: claim.tree_size for claim in named})
            claims += named
        if known_checkpoint is not None:
            known = read_known(keystore, known_checkpoint, findings)
            claims += [known] if known is not None else []
        await check_claims(self._conn, claims, self._settled, {row.log for row in self._rows if row.listed}, findings)
        for log, state in self._settled.items():
            if not any(claim.origin == log and claim.tree_size >= state.uncovered.stop for claim in claims):
                for index in state.uncovered:
                    findings.add("entry_inserted", log, index, "an entry under no checkpoint")
        if self._whole:
            await self._listed()
        for log in sorted(self._settled.keys() - set(heads)):
            await check_lag(self._conn, log, self._settled[log].size, newest.get(log, 0), self._now, findings)

    async def _listed(self) -> None:
        """Every log that `heads` names is listed, and every registered tenant has its log."""
        listed = {row.log for row in self._rows if row.listed}
        for log, size in sorted(self._across.newest_in_heads.items()):
            if log not in listed:
                self.findings.add("log_missing", log, None, f"heads has it with {size} entries")
        cursor = await self._conn.execute(
            "SELECT t.tenant, t.slug FROM tenants t LEFT JOIN logs l ON l.tenant = t.tenant AND l.shard = 0"
            " WHERE l.log IS NULL ORDER BY t.tenant"
        )
        for tenant, slug in await cursor.fetchall():
            self.findings.add("log_missing", slug, None, f"the tenant {tenant} is registered and has no log")

    # (7)
    async def tables(self) -> None:
        """The tables beside the logs against what was read of the logs."""
        conn, findings = self._conn, self.findings
        rows = {row.log: row for row in self._rows if row.log in self._settled}
        await check_logs(conn, self._keystore, rows.values(), findings)
        if not self._marked:
            begun = {log: self._answer.begun.get(row.ordinal, 0) for log, row in rows.items()}
            await check_runs(conn, rows, begun, self._listed_runs, findings)
        for log, settled in self._settled.items():
            await check_content_rows(conn, log, settled.size, findings)
        if self._whole:
            await check_missing_shards(conn, findings)
            await check_producer_keys(conn, findings)
            await check_published_sizes(conn, self._across.newest_in_heads, whole=not self._marked, findings=findings)
        found = {finding.log for finding in findings}  # their newest entries may be gone or edited: named already
        sound = {log: newest for log, newest in self._recorded.items() if log not in found}
        await check_recorded(conn, sound, {log: log not in self._marked for log in sound}, findings)

    def report(self) -> Report:
        """The verdicts. Who vouches for the logs besides their own keys is not recorded yet: unwitnessed."""
        states = [
            LogState(log, settled.size, settled.root_hash.hex()) for log, settled in sorted(self._settled.items())
        ]
        classes = {row.log: row.log_class for row in self._rows}
        empty = not states or any(
            state.size == 0 and (state.origin in self._asked or classes[state.origin] in ("tenant", "system"))
            for state in states
        )
        empty = empty or bool(set(self._asked) - self._settled.keys()) or all(state.size == 0 for state in states)
        kinds = self.findings.kinds()
        missing = [log for log in self._asked if log not in self._settled]
        unread = self._answer.open_runs or self._across.unknown or bool(self._marked)
        return Report(
            integrity=integrity_of(kinds - ({"log_missing"} if missing and not self._settled else set()), empty=empty),
            completeness=completeness_of(kinds, unknown=unread or empty),
            independence="unwitnessed",
            logs=states,
            findings=list(self.findings),
            not_reread={log: mark.first for log, mark in self._marked.items() if mark.first},
        )

    def set_marks(self) -> None:
        """Remember how far every log was verified. A key store that can't be written keeps its older marks."""
        at = self._now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        for log, settled in self._settled.items():
            if not settled.size:
                continue
            edge = edge_of(settled.tiles, settled.tail)
            if Edge.parse(settled.size, edge).root() != settled.root_hash:
                continue
            try:
                self._keystore.set_verified_mark(VerifiedMark(log, settled.size, settled.root_hash, edge, at))
            except KeyStoreError:
                return


async def _erased_since(url: str, log: str, size: int) -> set[str]:
    """Keys that were erased after the snapshot: the key store knows already, the snapshot does not yet."""
    conn = await connect(url, ROLE, application="tallystick verify")
    refs: set[str] = set()
    async with conn:
        cursor = await conn.execute(
            "SELECT leaf FROM entries WHERE log = %s AND index >= %s AND kind = 'erasure'", (log, size)
        )
        async for (leaf,) in cursor:
            try:
                refs.update(check_leaf(bytes(leaf))["data"].get("keys", ()))
            except MalformedLeaf:
                continue
    return refs


def _same(keystore: KeyStore) -> KeyStore:
    return keystore
