"""A TCP proxy that cuts connections when a test says so."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType

from tallystick.servers import ports

CHUNK_BYTES = 64 * 1024


class CutProxy:
    """`async with CutProxy("127.0.0.1", port) as proxy: proxy.port`.

    `cut()` resets what is open now; `refuse()` also turns new connections away until `allow()`; `cut_after(n)` resets a
    connection when so many more bytes have passed from the clients to the server; `stall()` lets nothing through, and
    keeps what is open, until `flow()`.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self.connections = 0  # accepted so far
        self.cuts = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._left: int | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def address(self) -> str:
        return f"{ports.LOOPBACK}:{self.port}"

    def cut(self) -> None:
        """Reset every connection that is open: the client sees ECONNRESET, not an orderly end."""
        for writer in list(self._open):
            connection = writer.get_extra_info("socket")
            if connection is not None:
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self._open.clear()
        self.cuts += 1

    def cut_after(self, client_bytes: int) -> None:
        """Cut once so many more bytes have come from clients; those bytes are still passed on."""
        self._left = client_bytes

    def refuse(self) -> None:
        """Cut, and turn away whoever comes."""
        self._refusing = True
        self.cut()

    def allow(self) -> None:
        self._refusing = False

    def stall(self) -> None:
        """Hold everything back: a network that is silent, not gone."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def __aenter__(self) -> CutProxy:
        self.port = ports.pick()
        self._server = await asyncio.start_server(self._serve, ports.LOOPBACK, self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._open.add(writer)
        try:
            if self._refusing:
                return
            upstream_reader, upstream = await asyncio.open_connection(*self.target)
        except OSError:
            return
        finally:
            if self._refusing:
                writer.transport.abort()
        self._open.add(upstream)
        ways = [
            asyncio.create_task(self._pump(reader, upstream, from_client=True)),
            asyncio.create_task(self._pump(upstream_reader, writer, from_client=False)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for side in (writer, upstream):
                self._open.discard(side)
                side.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flowing.wait()
                limit = self._left if from_client else None
                if limit is None:
                    writer.write(data)
                    await writer.drain()
                    continue
                writer.write(data[:limit])
                await writer.drain()
                self._left = limit - len(data) if limit > len(data) else None
                if self._left is None:
                    self.cut()
                    return
