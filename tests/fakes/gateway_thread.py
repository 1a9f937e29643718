"""A whole gateway in a thread of its own, one for many tests: the official SDKs call it as any program would."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import anthropic
import httpx
import openai

from auterity_dagster.storage.database import BlockingDatabase
from tests.fakes.gateway_stack import Stack, new_organization

Result = TypeVar("Result")
OpenStack = Callable[[], AbstractAsyncContextManager[Stack]]


@dataclass(frozen=True)
class RunningGateway:
    """A stack on a loop in another thread; what the stack does asynchronously is awaited there."""

    stack: Stack
    loop: asyncio.AbstractEventLoop
    application_url: str
    secrets_dir: Path

    def openai(self, **headers: str) -> openai.OpenAI:
        url = f"{self.stack.gateway_url}/v1"
        return openai.OpenAI(base_url=url, api_key=self.stack.key, max_retries=0, default_headers=headers)

    def anthropic(self, **headers: str) -> anthropic.Anthropic:
        url = self.stack.gateway_url
        return anthropic.Anthropic(base_url=url, api_key=self.stack.key, max_retries=0, default_headers=headers)

    def http(self, **headers: str) -> httpx.Client:
        credential = {"authorization": f"Bearer {self.stack.key}"}
        return httpx.Client(base_url=self.stack.gateway_url, headers=credential | headers, timeout=60, verify=False)

    def bill(self) -> Sequence[Mapping[str, Any]]:
        return self.wait_for(self.stack.bill())

    def set_faults(self, *settings: Mapping[str, Any]) -> None:
        self.wait_for(self.stack.set_faults(*settings))

    def new_organization(self) -> str:
        """Return the key of an organization of its own."""
        database = BlockingDatabase(self.application_url)
        _, key = new_organization(database, self.secrets_dir, name=f"theirs-{uuid4().hex[:8]}")
        database.close()
        return key

    def until(self, ask: Callable[[], httpx.Response], *, within_s: float = 20) -> httpx.Response:
        """Ask until the answer is 200: what is asked for is written off the caller's path."""
        until_s = time.monotonic() + within_s
        while (answer := ask()).status_code != 200:
            assert time.monotonic() < until_s, answer.text
            time.sleep(0.05)
        return answer

    def wait_for(self, what: Awaitable[Result]) -> Result:
        async def awaited() -> Result:
            return await what

        return asyncio.run_coroutine_threadsafe(awaited(), self.loop).result(timeout=120)


@contextmanager
def gateway_in_a_thread(opened: OpenStack, *, application_url: str, secrets_dir: Path) -> Generator[RunningGateway]:
    """Run a stack until the block ends; what its start raises is raised here."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway", daemon=True)
    thread.start()
    running: AsyncGenerator[Stack] = _opened(opened)
    try:
        stack = asyncio.run_coroutine_threadsafe(anext(running), loop).result(timeout=300)
        try:
            yield RunningGateway(stack, loop, application_url, secrets_dir)
        finally:
            asyncio.run_coroutine_threadsafe(running.aclose(), loop).result(timeout=120)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _opened(opened: OpenStack) -> AsyncGenerator[Stack]:
    async with opened() as stack:
        yield stack
