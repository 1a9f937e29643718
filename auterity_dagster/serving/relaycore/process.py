"""The gateway's server, which drops nothing when it is told to end: `python -m …serving.relaycore.process`.

uvicorn alone closes its sockets and waits; streams are told nothing and are cancelled in the end.
"""

import argparse
import asyncio
import socket
from types import FrameType

import uvicorn

from auterity_dagster.serving.relaycore.app import build_app
from auterity_dagster.serving.relaycore.stalled_callers import CutWhenStalled
from auterity_dagster.serving.relaycore.state import GatewayState
from auterity_dagster.settings import GatewaySettings

ENDING_S = 15.0
"""What connections may take to close after every call has ended, before they are cut."""


ACCEPTED_S = 0.5
"""What a connection that was accepted just before the end may take to send its request."""


class DrainingServer(uvicorn.Server):
    """On SIGTERM or SIGINT: not ready, open calls go on, what is still open after the time to finish is told so.

    Connections are not kept from then on, so that no client sends a request over one that is about to close.
    """

    def __init__(self, config: uvicorn.Config, *, not_ready_s: float) -> None:
        super().__init__(config)
        self._not_ready_s = not_ready_s

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        state: GatewayState | None = self.lifespan.state.get("relaycore")
        if state is None or state.drain.is_begun:  # not started yet, or told a second time
            super().handle_exit(sig, frame)
            return
        self._captured_signals.append(sig)
        self._loop.call_soon_threadsafe(self._drain, state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await asyncio.sleep(ACCEPTED_S)
        await super().shutdown(sockets)

    def _drain(self, state: GatewayState) -> None:
        state.drain.begin()
        self.config.encoded_headers.append((b"connection", b"close"))
        self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        self._loop.call_later(self._not_ready_s, self._stop_listening)

    def _stop_listening(self) -> None:
        self.should_exit = True


def draining_server(settings: GatewaySettings, *, host: str, port: int) -> DrainingServer:
    """Return the server of one gateway process."""
    config = uvicorn.Config(
        build_app(settings),
        host=host,
        port=port,
        access_log=False,
        server_header=False,
        log_level="warning",
        http=CutWhenStalled,
        timeout_graceful_shutdown=round(settings.gateway_drain_s + ENDING_S),
    )
    return DrainingServer(config, not_ready_s=settings.gateway_not_ready_s)


def main() -> None:
    """Serve until a signal; `--fd` is a listening socket that a parent process holds for all its gateways."""
    parser = argparse.ArgumentParser(description="The gateway's server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8400)
    parser.add_argument("--fd", type=int)
    given = parser.parse_args()
    server = draining_server(GatewaySettings(), host=given.host, port=given.port)  # pyright: ignore[reportCallIssue]
    server.run([socket.socket(fileno=given.fd)] if given.fd is not None else None)


if __name__ == "__main__":
    main()
