"""How rate limits stand, as headers: for requests and tokens the limit, what remains, and when it is full again."""

from collections.abc import Iterable

from auterity_dagster.relaycore.rate_limit import Standing


def limit_headers(standings: Iterable[Standing]) -> list[tuple[bytes, bytes]]:
    """Return `x-ratelimit-…` of each measure; the reset is seconds with their unit, as OpenAI writes it."""
    headers: list[tuple[bytes, bytes]] = []
    for one in standings:
        values = {"limit": one.bucket.limit, "remaining": one.remaining, "reset": f"{one.reset_s:.3f}s"}
        headers += [
            (f"x-ratelimit-{name}-{one.bucket.measure}".encode(), str(value).encode()) for name, value in values.items()
        ]
    return headers
