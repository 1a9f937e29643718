"""HTTP calls to where a user said: the name is resolved once, every address is checked, and that address is connected.

A client that checks a name and then connects by name can be led to another address in between. Redirects are not
followed, proxies of the environment are not used, and time and size are bounded as a whole.
"""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, cast

from auterity_dagster.public_address import Target, require_public, target_of

CONNECT_TIMEOUT_S = 3.0
BODY_LIMIT_BYTES = 256 * 1024
ADDRESSES_TRIED = 3
Cause = Literal["connection", "timeout", "too_large", "malformed"]
Resolve = Callable[[str, int], tuple[str, ...]]
Connect = Callable[[str, int, float], socket.socket]


class CallFailed(Exception):
    """No usable answer came. `is_unknown` is True once the request may have arrived."""

    def __init__(self, cause: Cause, message: str, *, is_unknown: bool) -> None:
        super().__init__(message)
        self.cause = cause
        self.message = message
        self.is_unknown = is_unknown


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One request; `timeout_s` covers all of it, `body_limit_bytes` the answer."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    timeout_s: float = 10.0
    body_limit_bytes: int = BODY_LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def resolved(host: str, port: int) -> tuple[str, ...]:
    """Ask the system's resolver once. Raises `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def connected(address: str, port: int, timeout_s: float) -> socket.socket:
    """Connect to an address, never to a name. Raises `OSError`."""
    return socket.create_connection((address, port), timeout=timeout_s)


@lru_cache(maxsize=1)
def trusting_the_system() -> ssl.SSLContext:
    """Return the process's TLS context: reading the system's certificates takes as long as a call."""
    return ssl.create_default_context()


@dataclass(frozen=True, slots=True)
class PublicHttp:
    """Calls public hosts; `private_origins` are what the operator allows beside them."""

    private_origins: frozenset[str] = frozenset()
    resolve: Resolve = resolved
    connect: Connect = connected
    tls: ssl.SSLContext = field(default_factory=trusting_the_system)

    def call(self, call: HttpCall) -> HttpAnswer:
        """Raises `BlockedAddress` before anything is connected, and `CallFailed`."""
        deadline = time.monotonic() + call.timeout_s
        target = target_of(call.url, private_origins=self.private_origins)
        raw = self.open(target.host, target.port, deadline=deadline, is_private=target.origin in self.private_origins)
        try:
            return self._exchange(target, raw, call, deadline)
        finally:
            raw.close()

    def open(self, host: str, port: int, *, deadline: float, is_private: bool) -> socket.socket:
        """Connect to the first address of the host that answers, after all of them were checked."""
        try:
            addresses = self.resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise CallFailed("connection", f"{host} cannot be resolved", is_unknown=False) from error
        if not is_private:
            require_public(host, addresses)
        for address in addresses[:ADDRESSES_TRIED]:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            try:
                return self.connect(address, port, min(CONNECT_TIMEOUT_S, remaining))
            except OSError:
                continue
        raise CallFailed("connection", f"{host} does not answer", is_unknown=False)

    def _exchange(self, target: Target, raw: socket.socket, call: HttpCall, deadline: float) -> HttpAnswer:
        stream = raw
        if target.scheme == "https":
            try:
                raw.settimeout(max(deadline - time.monotonic(), 0.001))
                stream = self.tls.wrap_socket(raw, server_hostname=target.host)
            except (OSError, ValueError) as error:
                raise CallFailed("connection", f"no TLS with {target.host}: {error}", is_unknown=False) from error
        connection = http.client.HTTPConnection(target.host, target.port)
        connection.sock = cast(socket.socket, _Bounded(stream, deadline))
        headers = {"host": target.origin.partition("://")[2], "accept-encoding": "identity", "connection": "close"}
        try:
            connection.request(call.method, target.path, body=call.body, headers={**headers, **call.headers})
            answer = connection.getresponse()
            body = answer.read(call.body_limit_bytes + 1)
        except TimeoutError as error:
            raise CallFailed("timeout", f"no answer within {call.timeout_s:g} s", is_unknown=True) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CallFailed("malformed", f"the answer broke off: {type(error).__name__}", is_unknown=True) from error
        finally:
            stream.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        if len(body) > call.body_limit_bytes:
            message = f"the answer has more than {call.body_limit_bytes} bytes"
            raise CallFailed("too_large", message, is_unknown=True)
        if found.get("content-encoding", "identity").lower() != "identity":
            raise CallFailed("malformed", "the answer is compressed, which was not asked for", is_unknown=True)
        return HttpAnswer(answer.status, found, body)


class _Bounded:
    """A connected socket as `http.client` uses one; every wait ends at the deadline, however slowly bytes drip."""

    def __init__(self, inner: socket.socket, deadline: float) -> None:
        self._inner = inner
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._wait()
        self._inner.sendall(data)

    def makefile(self, *_arguments: object, **_named: object) -> io.BufferedReader:
        return io.BufferedReader(cast(io.RawIOBase, _Reader(self._inner, self._wait)))

    def close(self) -> None:
        """Leave it to the owner: the answer's reader outlives the connection."""

    def _wait(self) -> None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._inner.settimeout(remaining)


class _Reader(io.RawIOBase):
    def __init__(self, inner: socket.socket, wait: Callable[[], None]) -> None:
        self._inner = inner
        self._wait = wait

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        self._wait()
        return self._inner.recv_into(buffer)
