"""Argon2id for many callers: two computations at once in threads of their own, and a short queue before them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from auterity_dagster.errors import Unavailable
from auterity_dagster.identity.password import hash_password, verify_password

AT_ONCE = 2
LONGEST_QUEUE = 32
Result = TypeVar("Result")


class PasswordWork:
    """Bounds the memory (64 MiB each) and the processors that signing in can take from everything else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="password")
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """Return a password's hash. Raises `Unavailable` when too many callers wait already."""
        return await self._run(lambda: hash_password(password))

    async def verify(self, password: str, *, password_hash: str) -> bool:
        """True if the password has this hash. Raises `Unavailable` when too many callers wait already."""
        return await self._run(lambda: verify_password(password, password_hash=password_hash))

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= LONGEST_QUEUE:
            raise Unavailable("too many people are signing in at once", code="overloaded", retry_after_s=5)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1
