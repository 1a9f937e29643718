"""How the sandbox's answers go over the line: at the pace of tokens, and billed for what was sent."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

from auterity_dagster.serving.sandbox.spoiling import Event


async def paced(
    events: Iterable[Event],
    bill: Callable[[int], Awaitable[None]],
    *,
    total_tokens: int,
    token_latency_s: float,
    byte_s: float,
) -> AsyncGenerator[str]:
    """Send the events at the pace of the tokens; what was sent is billed, before the end, also when it is cut off."""
    sent = 0
    is_billed = False
    try:
        for event, tokens in events:
            if tokens:
                sent += tokens
                await asyncio.sleep(token_latency_s * tokens)
            elif sent == total_tokens and not is_billed:
                is_billed = True
                await bill(sent)
            async for part in slowly([event], byte_s=byte_s):
                yield part
    finally:
        if not is_billed:
            await asyncio.shield(bill(sent))


async def slowly(texts: Iterable[str], *, byte_s: float) -> AsyncGenerator[str]:
    """Yield the texts as they are, or a character at a time."""
    for text in texts:
        if not byte_s:
            yield text
            continue
        for character in text:
            await asyncio.sleep(byte_s)
            yield character
