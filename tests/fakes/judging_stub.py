"""An OpenAI-wire server that answers NeuroWeaver's questions by fixed rules; it records what it was asked."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from auterity_dagster.neuroweaver.judging import load_rubric

RUBRIC = load_rubric(Path(__file__).parents[2] / "config" / "rubrics" / "dealership-1.yaml")


@dataclass
class StubGateway:
    """Judges prefer what sorts first and call equal answers a tie; every other task gets one polite sentence.

    A spoilt judge `prefers_longer` answers, or the gateway answers with another `status`.
    """

    url: str = ""
    prefers_longer: bool = False
    status: int = 200
    asked: list[dict[str, str]] = field(default_factory=list)

    def answer(self, headers: dict[str, str], messages: list[dict[str, str]]) -> str:
        self.asked.append({name: headers.get(f"x-auterity-{name}", "") for name in ("task", "purpose")})
        if headers.get("x-auterity-task") != "judging":
            return "Thank you. Which of the two times works for you?"
        first, second = re.findall(r"ANSWER [AB]\n(.*)", messages[-1]["content"])
        is_first = len(first) > len(second) if self.prefers_longer else first < second
        winner = "tie" if first == second else "A" if is_first else "B"
        criteria = dict.fromkeys(RUBRIC.criteria, 0)
        return json.dumps({"reason": "order", "criteria": criteria, "critical": [], "winner": winner})


@contextmanager
def stub_gateway() -> Iterator[StubGateway]:
    """Serve on a free loopback port until the block ends."""
    stub = StubGateway()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            text = stub.answer({name.lower(): value for name, value in self.headers.items()}, body["messages"])
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
            answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
            data = json.dumps(answer | {"usage": usage}).encode()
            self.send_response(stub.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.send_header("x-auterity-cost-nusd", "1000")
            self.send_header("x-auterity-deployment", "sandbox-large")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
