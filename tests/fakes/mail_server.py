"""A mail server on loopback that speaks SMTP with STARTTLS and keeps what it took; it can refuse and break off."""

import base64
import socketserver
import ssl
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message as Mail
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"


@dataclass
class MailServer:
    """`behaviour` is `take`, `refuse` (550), `busy` (451), `hang_up` after the text, or `deny` the password."""

    port: int = 0
    behaviour: str = "take"
    taken: list[Mail] = field(default_factory=list)
    signed_in: list[str] = field(default_factory=list)
    trusting: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    @property
    def origin(self) -> str:
        return f"smtp://{HOST}:{self.port}"


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """Run the server until the block ends."""
    server = MailServer()
    context = _certificate(server)

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            _Conversation(self, server, context).run()

    with socketserver.ThreadingTCPServer((HOST, 0), Session) as listener:
        listener.daemon_threads = True
        server.port = listener.server_address[1]
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            listener.shutdown()


class _Conversation:
    def __init__(self, session: socketserver.StreamRequestHandler, server: MailServer, context: ssl.SSLContext) -> None:
        self._server = server
        self._context = context
        self._socket = session.request
        self._file = session.request.makefile("rwb")

    def run(self) -> None:
        self._say("220 fake")
        while line := self._file.readline().decode().strip():
            if not self._answer(line):
                return

    def _answer(self, line: str) -> bool:
        command = line.partition(" ")[0].upper()
        match command:
            case "EHLO":
                self._say("250-fake", "250-STARTTLS", "250 AUTH PLAIN")
            case "STARTTLS":
                self._say("220 go")
                self._socket = self._context.wrap_socket(self._socket, server_side=True)
                self._file = self._socket.makefile("rwb")
            case "AUTH":
                self._server.signed_in.append(base64.b64decode(line.split()[-1]).decode())
                self._say("535 no" if self._server.behaviour == "deny" else "235 in")
            case "RCPT":
                self._say("550 unknown" if self._server.behaviour == "refuse" else "250 ok")
            case "DATA":
                return self._take()
            case "QUIT":
                self._say("221 bye")
                return False
            case _:
                self._say("250 ok")
        return True

    def _take(self) -> bool:
        self._say("354 go on")
        lines: list[bytes] = []
        while (line := self._file.readline()) != b".\r\n":
            lines.append(line.removeprefix(b".") if line.startswith(b"..") else line)
        if self._server.behaviour == "busy":
            self._say("451 later")
            return True
        self._server.taken.append(message_from_bytes(b"".join(lines)))
        if self._server.behaviour == "hang_up":
            self._socket.close()
            return False
        self._say("250 taken")
        return True

    def _say(self, *lines: str) -> None:
        self._file.write("".join(f"{line}\r\n" for line in lines).encode())
        self._file.flush()


def _certificate(server: MailServer) -> ssl.SSLContext:
    """Make a certificate for the loopback that `server.trusting` trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fake")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.pem"
        path.write_bytes(secret + pem)
        context.load_cert_chain(path)
    server.trusting = ssl.create_default_context(cadata=pem.decode())
    return context
