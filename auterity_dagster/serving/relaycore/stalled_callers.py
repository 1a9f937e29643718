"""Connections of callers that take nothing are cut: nobody else would ever give back what they hold.

Closing such a connection does not help: what waits in it has to leave first, and it never does.
"""

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

STALLED_S = 30.0
SEND_BUFFER_BYTES = 128 * 1024
"""What the kernel keeps for one caller, twice; left to itself it would be 4 MiB, of memory that no process shows."""

WRITE_BUFFER_BYTES = 16 * 1024
"""What waits in this process for the kernel to take it, before the stream behind it stops."""


class CutWhenStalled(HttpToolsProtocol):
    """Aborts its connection once the caller's side was full, and nothing was taken from it, for `stalled_s`."""

    stalled_s = STALLED_S
    send_buffer_bytes = SEND_BUFFER_BYTES
    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        connection: Any = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer_bytes)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut = self.loop.call_later(self.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._go_on()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._go_on()
        super().connection_lost(exc)

    def _go_on(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None
