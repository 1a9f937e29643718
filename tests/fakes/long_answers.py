"""Questions that the sandbox answers at length, and a configuration under which streams are held by slices."""

from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import select

from auterity_dagster.storage.tables.ledger import HoldRow
from tests.fakes.gateway_stack import ROOT, Stack

ECHO = "?!" * 900
"""The sandbox repeats what a tool answered: a token a sign, so that the answer costs more than its prompt may."""
QUESTION = {"role": "user", "content": "What does the tool say?"}
MESSAGES: list[dict[str, Any]] = [
    QUESTION,
    {
        "role": "assistant",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "say", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": ECHO},
]
WHOLE_TOKENS = 8_000
OUTPUT_NUSD = 500
"""What one token of sandbox-small's output costs."""
BODY: dict[str, Any] = {"model": "sandbox-small", "messages": MESSAGES, "max_tokens": WHOLE_TOKENS, "stream": True}


def sliced_config(folder: Path) -> Path:
    """Write the shipped configuration, but with streams held by slices; return its folder."""
    made = folder / "config"
    made.mkdir()
    policy = (ROOT / "config" / "steering.yaml").read_text()
    assert "stream_holds: whole" in policy
    (made / "steering.yaml").write_text(policy.replace("stream_holds: whole", "stream_holds: slices"))
    (made / "prices.yaml").write_text((ROOT / "config" / "prices.yaml").read_text())
    return made


async def streamed(stack: Stack, body: dict[str, Any] | None = None) -> tuple[int, str, dict[str, Any]]:
    """Return the status, the text, and the last chunk: its finish reason and what the gateway says of it."""
    async with stack.http() as client:
        answer = await client.post("/v1/chat/completions", json=body or BODY)
    if answer.status_code != 200:
        return answer.status_code, "", answer.json()
    chunks = [orjson.loads(line[6:]) for line in answer.text.split("\n\n") if line.startswith("data: {")]
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    last = next(chunk for chunk in reversed(chunks) if chunk["choices"])
    return 200, text, {"finish": last["choices"][0]["finish_reason"], **last["x_auterity"]}


async def amounts(stack: Stack) -> list[int]:
    """Return what was held for each attempt, in their order."""
    async with stack.database.begin(stack.organization_id) as session:
        return list(await session.scalars(select(HoldRow.amount_nusd).order_by(HoldRow.created_at)))


async def billed(stack: Stack) -> int:
    """Return what the provider billed in all."""
    return sum(line["cost_nusd"] for line in await stack.bill())
