"""A real Apache Kafka of our own, in a home folder: one node, broker and controller in one.

Guarantees: what a producer with acks=all got acknowledged is on disk (each batch is flushed, for there is no second
replica to stand in); reachable from this machine only; data and port survive restarts; one server per home; nothing of
it runs on after `stop`, or after this process. No passwords: any user of this machine can write to it, so it is no
place for records of people who don't trust each other with them. Does not guarantee the same port when another program
has taken it meanwhile.

    home/kafka/data/                topics and the cluster's own metadata
    home/kafka/server.properties    written anew at each start
    home/kafka/server.log           of this run; server.log.1 of the one before
    home/kafka/tmp/                 native libraries, while it runs
    home/kafka/port, lock
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import signal
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from tallystick.errors import ServerError
from tallystick.servers import diagnose, fetch, java, ports
from tallystick.servers.classes import ClassArchive
from tallystick.servers.home import Lock, advice, make_folder, need_space, reason, sync_folder, write_atomically
from tallystick.servers.process import Command, Guarded
from tallystick.servers.progress import Report, silent
from tallystick.servers.topics import MESSAGE_BYTES_MAX

NODE = 1
FORMAT_S = 120.0
START_S = 120.0
STARTED = "Kafka Server started"  # the broker's own words, once clients are served
STARTS_MAX = 3
STOP = (("SIGTERM", 30.0),)
RETENTION_HOURS = (
    30 * 24
)  # the ledger keeps everything; this is how long a stack may stand still with events not yet read

# Nothing of ours: no JAVA_TOOL_OPTIONS. UTF-8, or Java can't name a home with an umlaut.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
JVM = (
    "-Xms128m",
    "-Xmx320m",
    "-XX:+UseSerialGC",  # the lighter form: fewer threads, less memory, quicker to start
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",  # says when it is started
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
)


class EmbeddedKafka:
    """`async with EmbeddedKafka(home) as kafka: kafka.bootstrap`; or `start`, `stop` and `start` again."""

    def __init__(self, home: Path, progress: Report = silent, port: int | None = None) -> None:
        """`port`: this one or none; by default the one used before, or any that is free."""
        self.folder = home.absolute() / "kafka"
        self.port = 0
        self._wanted_port = port
        self._report = progress
        self._data = self.folder / "data"
        self._log = self.folder / "server.log"
        self._properties = self.folder / "server.properties"
        self._lock = Lock(self.folder / "lock", "Kafka")
        self._server: Guarded | None = None
        self._archive: ClassArchive | None = None

    @property
    def pid(self) -> int:
        """The process id of the broker. Raises RuntimeError when it was not started."""
        if self._server is None:
            raise RuntimeError("Kafka is not started")
        return self._server.pid

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.running

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"{ports.LOOPBACK}:{self.port}"

    async def start(self) -> None:
        """Start the server and return when it serves clients. Raises ServerError; nothing is left running then."""
        make_folder(self.folder)
        await self._lock.acquire()
        try:
            need_space(self.folder, "Kafka")
            await self._start()
        except OSError as error:
            await self.stop()
            raise ServerError(f"can't use {self.folder}: {reason(error)}", advice(error, self.folder)) from error
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the server, cleanly, and free the home."""
        try:
            if self._server is not None:
                await self._server.stop()
                self._settle_archive(self._server.status)
        finally:
            self._server = None
            self._lock.release()

    async def ended(self) -> ServerError:
        """Return, once the server has ended by itself, the error that says why."""
        if self._server is None:
            raise RuntimeError("Kafka is not started")
        server = self._server
        await server.wait()
        return diagnose.ended("Kafka", server.status, self._log)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _start(self) -> None:
        class_path = await fetch.kafka_class_path(self._report)
        program = await asyncio.to_thread(java.find)
        temporary = self.folder / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700)
        self._archive = ClassArchive(program, class_path)
        base = [str(program), *JVM, f"-Djava.io.tmpdir={temporary}", f"-XX:ErrorFile={self.folder}/crash-%p.log"]
        base += ["-cp", class_path]
        once, always = self._archive.use(), self._archive.use_or_make()
        first = not self._data.exists()
        what = "Starting a new Kafka" if first else "Starting Kafka"
        self._report(what, 0, 2)
        if first:
            await self._format([*base, *once])
        self._report(what, 1, 2)
        await self._run([*base, *always])
        self._report(what, 2, 2)

    def _settle_archive(self, status: int | None) -> None:
        """Keep what Java wrote about its classes, if it came to the end of its run by our signal."""
        if self._archive is not None:
            if status in (0, 128 + signal.SIGTERM):
                self._archive.keep()
            else:
                self._archive.discard()

    async def _format(self, base: list[str]) -> None:
        """Make the cluster's folder aside, and rename it into place when it is whole."""
        aside = self.folder / "data.new"
        shutil.rmtree(aside, ignore_errors=True)
        properties = self.folder / "format.properties"
        write_atomically(properties, server_properties(aside.name, ports.pick(), ports.pick()))
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")  # may begin with a dash: "=" below
        argv = [*base, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "--config", properties.name]
        tool = Guarded.start(Command(argv, self.folder, self._fresh_log(), STOP, ENVIRONMENT), [self._lock.fd])
        try:
            async with asyncio.timeout(FORMAT_S):
                await tool.wait(0.01)
        except TimeoutError as error:
            raise ServerError(
                f"Kafka's data folder was not made within {FORMAT_S:.0f} s", f"Read {self._log}; start again."
            ) from error
        finally:
            await tool.stop()
            properties.unlink(missing_ok=True)
        if tool.status != 0:
            raise diagnose.explain(f"Kafka's data folder {self._data} could not be made", self._log)
        aside.rename(self._data)
        sync_folder(self.folder)

    async def _run(self, base: list[str]) -> None:
        for attempt in range(STARTS_MAX):
            self.port = ports.choose("Kafka", self.folder / "port", self._wanted_port, attempt, self._report)
            controller = ports.pick(avoid=frozenset({self.port}))
            write_atomically(self._properties, server_properties(self._data.name, self.port, controller))
            log = self._fresh_log()
            command = Command([*base, "kafka.Kafka", self._properties.name], self.folder, log, STOP, ENVIRONMENT)
            self._server = Guarded.start(command, [self._lock.fd])
            if await self._ready(self._server):
                write_atomically(self.folder / "port", f"{self.port}\n")
                return
            await self._server.stop()
            if "Address already in use" not in diagnose.tail(log):
                break
        raise diagnose.explain(f"Kafka did not start on port {self.port}", self._log)

    async def _ready(self, server: Guarded) -> bool:
        """Whether the server got to serve clients; False when it ended instead."""
        deadline = time.monotonic() + START_S
        while server.running:
            if STARTED in diagnose.tail(self._log):
                return True
            if time.monotonic() > deadline:
                raise ServerError(f"Kafka was not ready within {START_S:.0f} s", f"Read {self._log}; start again.")
            await asyncio.sleep(0.03)
        return False

    def _fresh_log(self) -> Path:
        """Keep the log of the run before, begin one for this run: causes are looked for in it."""
        with contextlib.suppress(FileNotFoundError):
            self._log.rename(self._log.with_name("server.log.1"))
        return self._log


def server_properties(data: str, port: int, controller_port: int) -> str:
    """The broker's configuration. One node: every replication factor is 1.

    `data` is a folder of the broker's working folder: by its name only, since a comma in a home's path would divide it.
    """
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": NODE,
        "controller.quorum.voters": f"{NODE}@{ports.LOOPBACK}:{controller_port}",
        "listeners": f"CLIENT://{ports.LOOPBACK}:{port},CONTROLLER://{ports.LOOPBACK}:{controller_port}",
        "advertised.listeners": f"CLIENT://{ports.LOOPBACK}:{port}",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "CLIENT",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "num.partitions": 1,
        "default.replication.factor": 1,
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "replica.fetch.max.bytes": MESSAGE_BYTES_MAX,
        "log.flush.interval.messages": 1,
        "log.retention.hours": RETENTION_HOURS,
        # The broker's clock decides what is old: by the producer's, last year's events, imported, would go unread.
        "log.message.timestamp.type": "LogAppendTime",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 3,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 3,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 3,
        "group.initial.rebalance.delay.ms": 0,
        # A broker that was killed is only let in again when its old session is over; 9 s by default.
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "num.network.threads": 2,
        "num.io.threads": 2,
        "background.threads": 2,
        "num.recovery.threads.per.data.dir": 2,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())
