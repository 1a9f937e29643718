"""A URL that a user wrote reaches public hosts only: the name is resolved once and the checked address is connected."""

import http.server
import itertools
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from auterity_dagster.public_address import BlockedAddress, is_public, require_public, target_of
from auterity_dagster.public_http import CallFailed, HttpCall, PublicHttp, resolved

PUBLIC = "93.184.215.14"
INSIDE = (
    "127.0.0.1", "127.0.0.2", "127.1", "127.255.255.254", "0", "0.0.0.0", "2130706433", "017700000001", "0x7f000001",
    "0x7f.0.0.1", "0177.0.0.1", "localhost", "LOCALHOST", "localhost.", "[::1]", "[::]", "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]", "[2001::7f00:1]", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "[fd00:ec2::254]", "[fe80::1]", "[fc00::1]", "100.64.0.1", "100.127.255.254", "224.0.0.1",
    "239.255.255.250", "[ff02::1]", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "192.88.99.1", "[fec0::1]", "[100::1]", "[2001:db8::1]", "１２７.０.０.１", "127。0。0。1",
)  # fmt: skip
SHAPES = (
    "https://{}/", "http://{}/", "https://{}:443/x?y=1", "https://{}:8443/", "https://user:secret@{}/",
    "https://example.com@{}/", "https://{}#@example.com/",
)  # fmt: skip
ODD = (
    "", "https://", "https:///path", "//example.com/", "file:///etc/passwd", "ftp://example.com/", "gopher://x/",
    "https://example.com:99999/", "https://exa mple.com/", "https://example.com\\@127.0.0.1/", "https://[::1/",
    "https://a\n.com/", "https://\x00/", "https://-.com/", "https://example.com:443:1/", "javascript:alert(1)",
    "https://" + "a" * 64 + ".com/", "https://e.com/" + "x" * 2000, "https://ex%61mple.com/", "https://*.example.com/",
)  # fmt: skip


def hostile_urls() -> list[str]:
    return [shape.format(host) for shape, host in itertools.product(SHAPES, INSIDE)] + list(ODD)


@dataclass
class Canary:
    """A server that nobody may reach, and a `connect` that leads every port of this machine to it."""

    port: int
    reached: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)

    def connect(self, address: str, _port: int, timeout_s: float) -> socket.socket:
        self.tried.append(address)
        if not address.startswith("127."):
            raise ConnectionRefusedError
        opened = socket.create_connection((address, self.port), timeout=timeout_s)
        self.reached.append(address)
        return opened


@pytest.fixture
def canary() -> Iterator[Canary]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Canary(server.getsockname()[1])


def resolved_here(host: str, port: int) -> tuple[str, ...]:
    """The system's resolver, without asking anybody outside."""
    if host.startswith("localhost"):
        return resolved(host, port)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return tuple(str(entry[4][0]) for entry in found)


def outcome(client: PublicHttp, url: str) -> str:
    try:
        return f"answered {client.call(HttpCall('GET', url, timeout_s=0.2)).status}"
    except BlockedAddress:
        return "blocked"
    except CallFailed as error:
        return error.cause


def test_no_url_reaches_the_inside(canary: Canary) -> None:
    """P-22."""
    urls = hostile_urls()

    found = {url: outcome(PublicHttp(resolve=resolved_here, connect=canary.connect), url) for url in urls}

    assert len(urls) >= 300
    assert [url for url, what in found.items() if what.startswith("answered")] == []
    assert canary.reached == []
    assert [address for address in canary.tried if not is_public(address)] == []


class Rebinding:
    """A resolver that names a public address once and the loopback ever after."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, host: str, port: int) -> tuple[str, ...]:
        self.asked += 1
        return (PUBLIC,) if self.asked == 1 else ("127.0.0.1",)


class CheckThenConnectByName(PublicHttp):
    """P-22's control: checks the name, then connects to whatever the name means by then."""

    def open(self, host: str, port: int, *, deadline: float, is_private: bool) -> socket.socket:
        require_public(host, self.resolve(host, port))
        return self.connect(self.resolve(host, port)[0], port, 1.0)


def test_a_name_that_changes_its_mind_leads_nowhere(canary: Canary) -> None:
    resolver = Rebinding()

    outcome(PublicHttp(resolve=resolver, connect=canary.connect), "https://rebinding.example/")

    assert (resolver.asked, canary.tried, canary.reached) == (1, [PUBLIC], [])


def test_the_control_that_connects_by_name_reaches_the_canary(canary: Canary) -> None:
    """Negative control."""
    outcome(CheckThenConnectByName(resolve=Rebinding(), connect=canary.connect), "https://rebinding.example/")

    assert canary.reached == ["127.0.0.1"]


def test_one_private_address_among_public_ones_blocks_the_host(canary: Canary) -> None:
    def mixed(_host: str, _port: int) -> tuple[str, ...]:
        return (PUBLIC, "10.0.0.1")

    assert outcome(PublicHttp(resolve=mixed, connect=canary.connect), "https://mixed.example/") == "blocked"
    assert canary.tried == []


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url", ["https://example.com", "https://EXAMPLE.com:443/a?b=c", f"https://{PUBLIC}/", "https://bücher.example/"]
)
def test_an_ordinary_url_is_read(url: str) -> None:
    assert target_of(url).port == 443


class Answers(http.server.BaseHTTPRequestHandler):
    """One server for every kind of bad answer."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        match self.path:
            case "/redirect":
                self._answer(302, b"", location="http://127.0.0.1:1/inside")
            case "/large":
                self._answer(200, b"x" * 300_000)
            case "/drip":
                self.wfile.write(b"HTTP/1.1 200 OK\r\n")
                self._drip()
            case "/compressed":
                self._answer(200, b"x", **{"content-encoding": "gzip"})
            case "/nonsense":
                self.wfile.write(b"nonsense\r\n\r\n")
                self.close_connection = True
            case _:
                self._answer(200, self.headers["host"].encode())

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        pace = threading.Event()
        try:
            while not pace.wait(0.02):
                self.wfile.write(b"a")
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_what_the_operator_allows_is_called_as_it_stands_and_nothing_beside_it(origin: str) -> None:
    client = PublicHttp(private_origins=frozenset({origin}))

    assert client.call(HttpCall("GET", f"{origin}/fine")).body == origin.removeprefix("http://").encode()
    with pytest.raises(BlockedAddress):
        client.call(HttpCall("GET", "http://127.0.0.1:1/"))
    with pytest.raises(BlockedAddress):
        PublicHttp().call(HttpCall("GET", f"{origin}/fine"))


def test_a_redirect_is_an_answer_and_is_not_followed(origin: str) -> None:
    client = PublicHttp(private_origins=frozenset({origin}))

    assert client.call(HttpCall("GET", f"{origin}/redirect")).status == 302


@pytest.mark.parametrize(
    ("path", "cause"),
    [("/large", "too_large"), ("/drip", "timeout"), ("/compressed", "malformed"), ("/nonsense", "malformed")],
)
def test_a_bad_answer_ends_in_time_and_may_have_had_an_effect(origin: str, path: str, cause: str) -> None:
    client = PublicHttp(private_origins=frozenset({origin}))

    with pytest.raises(CallFailed) as caught:
        client.call(HttpCall("GET", origin + path, timeout_s=0.3))

    assert (caught.value.cause, caught.value.is_unknown) == (cause, True)


def test_a_port_where_nobody_listens_had_no_effect() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{unused.getsockname()[1]}"

    with pytest.raises(CallFailed) as caught:
        PublicHttp(private_origins=frozenset({origin})).call(HttpCall("GET", origin))

    assert (caught.value.cause, caught.value.is_unknown) == ("connection", False)
