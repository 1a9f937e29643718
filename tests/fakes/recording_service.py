"""A web service on loopback that records what it is asked and answers as the test says."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class RecordingService:
    """Answers in turn with `answers`, (status, document), and with the last of them ever after; None hangs up."""

    url: str = ""
    answers: list[tuple[int, Any] | None] = field(default_factory=lambda: [(200, {"external_id": "crm-1"})])
    asked: list[Asked] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def answer(self, asked: Asked) -> tuple[int, Any] | None:
        """What this request gets."""
        self.asked.append(asked)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def recording_service(service: RecordingService | None = None) -> Iterator[RecordingService]:
    """Run the service until the block ends."""
    service = service or RecordingService()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with lock:
                answer = service.answer(Asked(self.command, self.path, headers, body))
            self.close_connection = True
            if answer is None:
                return
            status, document = answer
            written = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            for name, value in service.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield service
        finally:
            server.shutdown()
