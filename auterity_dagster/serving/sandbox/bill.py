"""What the sandbox bills: its own copy of its prices, and a file that is safe on disk before an answer leaves.

It shares no code with the gateway's pricing: tests hold the gateway's ledger against this total.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path

NUSD_PER_MTOK: Mapping[str, tuple[int, int]] = {
    "sandbox-large": (4_000_000_000, 20_000_000_000),
    "sandbox-small": (100_000_000, 500_000_000),
}
"""Prompt and completion, in nano-dollars per million tokens; made up, nobody owes them."""

MODELS = tuple(NUSD_PER_MTOK)


@dataclass(frozen=True, slots=True)
class BillLine:
    """One answer that was billed."""

    id: str
    wire: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_nusd: int


def line(answer_id: str, *, wire: str, model: str, prompt_tokens: int, completion_tokens: int) -> BillLine:
    """Return what an answer costs; each class of tokens is rounded up to a nano-dollar."""
    prompt_nusd, completion_nusd = NUSD_PER_MTOK[model]
    cost = ceil(prompt_tokens * prompt_nusd / 1_000_000) + ceil(completion_tokens * completion_nusd / 1_000_000)
    return BillLine(answer_id, wire, model, prompt_tokens, completion_tokens, cost)


class Bill:
    """The lines so far, in `path`, one JSON object a line; a restarted sandbox goes on with the same bill."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.seek(0)
        self.lines = [BillLine(**json.loads(text)) for text in self._file.read().splitlines() if text.endswith(b"}")]
        self._waiting: list[BillLine] = []
        self._writing = asyncio.Lock()

    @property
    def total_nusd(self) -> int:
        """Everything billed so far."""
        return sum(one.cost_nusd for one in self.lines)

    async def add(self, one: BillLine) -> None:
        """Write a line; it is on the disk when this returns. Lines that wait together share one flush."""
        self._waiting.append(one)
        async with self._writing:
            if not self._waiting:
                return
            batch, self._waiting = self._waiting, []
            await asyncio.to_thread(self._write, batch)
            self.lines += batch

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, batch: list[BillLine]) -> None:
        self._file.write(b"".join(json.dumps(asdict(one)).encode() + b"\n" for one in batch))
        self._file.flush()
        os.fsync(self._file.fileno())
