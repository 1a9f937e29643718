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


@dataclass(frozen=True, slots=True)
class Rates:
    """Nano-dollars per million tokens, by class; made up, nobody owes them."""

    input: int
    output: int
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int | None = None


RATES: Mapping[str, Rates] = {
    "sandbox-large": Rates(4_000_000_000, 20_000_000_000, 200_000_000, 5_000_000_000, 8_000_000_000),
    "sandbox-small": Rates(100_000_000, 500_000_000, 10_000_000, 125_000_000),
    "sandbox-embed": Rates(20_000_000, 0),
}

EMBEDDING_MODELS = ("sandbox-embed",)
CHAT_MODELS = tuple(model for model in RATES if model not in EMBEDDING_MODELS)


@dataclass(frozen=True, slots=True)
class BillLine:
    """One answer that was billed; `prompt_tokens` contains the cached ones."""

    id: str
    wire: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_nusd: int
    cache_read_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0


def line(
    answer_id: str,
    *,
    wire: str,
    model: str,
    prompt_tokens: int,
    completion_tokens: int,
    cache_read_tokens: int = 0,
    cache_write_5m_tokens: int = 0,
    cache_write_1h_tokens: int = 0,
) -> BillLine:
    """Return what an answer costs; each class of tokens is rounded up to a nano-dollar."""
    rates = RATES[model]
    uncached = prompt_tokens - cache_read_tokens - cache_write_5m_tokens - cache_write_1h_tokens
    classes = (
        (uncached, rates.input),
        (completion_tokens, rates.output),
        (cache_read_tokens, rates.cache_read),
        (cache_write_5m_tokens, rates.cache_write_5m),
        (cache_write_1h_tokens, rates.cache_write_1h or 0),
    )
    return BillLine(
        id=answer_id,
        wire=wire,
        model=model,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_nusd=sum(ceil(tokens * nusd / 1_000_000) for tokens, nusd in classes),
        cache_read_tokens=cache_read_tokens,
        cache_write_5m_tokens=cache_write_5m_tokens,
        cache_write_1h_tokens=cache_write_1h_tokens,
    )


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
