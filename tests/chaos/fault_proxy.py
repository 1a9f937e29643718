"""A TCP proxy that can cut its connections, refuse new ones, or swallow answers: a server's ways to be away."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress


class FaultProxy:
    """Forwards a loopback port to another one until told otherwise."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_silent = self._is_cutting = False

    def aim(self, target_port: int) -> None:
        """Forward to this port from now on."""
        self._target_port = target_port

    async def listen(self) -> None:
        """Accept connections, on the port of last time if there was one."""
        self._is_silent = self._is_cutting = False
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def die(self) -> None:
        """Cut every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    def fall_silent(self) -> None:
        """Deliver what is asked and swallow every answer."""
        self._is_silent = True

    def cut_answers(self) -> None:
        """Reset each connection when its answer begins."""
        self._is_cutting = True

    def heal(self) -> None:
        """Forward everything again."""
        self._is_silent = self._is_cutting = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers |= {writer, upstream_writer}
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ask(reader, upstream_writer))
                tasks.create_task(self._answer(upstream_reader, writer))
        finally:
            for one in (writer, upstream_writer):
                one.transport.abort()
                self._writers.discard(one)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if self._is_cutting:
                    writer.transport.abort()
                    return
                if not self._is_silent:
                    writer.write(data)
                    await writer.drain()
        writer.close()


@asynccontextmanager
async def fault_proxy(target_port: int) -> AsyncGenerator[FaultProxy]:
    """A listening proxy, gone afterwards."""
    proxy = FaultProxy(target_port)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.die()
