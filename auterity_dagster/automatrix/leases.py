"""Keep the leases of a batch alive while its steps work."""

import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

from auterity_dagster.automatrix.ports import Claim, Journal
from auterity_dagster.clock import Clock

LEASE = timedelta(seconds=30)
EXTEND_EVERY_S = 5.0


@contextmanager
def kept_leases(journal: Journal, clock: Clock, claims: Sequence[Claim]) -> Generator[None]:
    """Extend the leases now and every five seconds until the block ends.

    A worker that is stopped for longer than its lease loses it: its writes are refused by the fence.
    """
    journal.extend(claims, clock.now() + LEASE)
    is_over = threading.Event()

    def keep() -> None:
        while not is_over.wait(EXTEND_EVERY_S):
            # The database may be away for a moment; if it stays away the leases lapse, and the work fails by itself.
            with suppress(Exception):
                journal.extend(claims, clock.now() + LEASE)

    keeper = threading.Thread(target=keep, name="lease keeper", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        is_over.set()
        keeper.join()
