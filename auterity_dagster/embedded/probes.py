"""Ask a server whether it can do its work, in the way that fits it."""

import ssl
import time
from collections.abc import Awaitable, Callable, Collection

import grpc
import httpx
import psycopg
import redis.asyncio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from redis.exceptions import RedisError

from auterity_dagster.embedded.ports import LOOPBACK

TIMEOUT_S = 5.0
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Without certificates, for addresses on the loopback: reading the system's takes tens of milliseconds a probe."""
DAGSTER_SERVICE = "DagsterApi"
DAEMONS_BEAT_EVERY_S = 30.0


def http(url: str) -> Callable[[], Awaitable[bool]]:
    """The server answers 200 at this address."""

    async def probe() -> bool:
        # The environment may name a proxy, which would not reach our loopback.
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S, verify=NO_TLS) as client:
            try:
                return (await client.get(url)).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

    return probe


def postgres(url: str) -> Callable[[], Awaitable[bool]]:
    """The database lets us in."""

    async def probe() -> bool:
        try:
            connection = await psycopg.AsyncConnection.connect(url, connect_timeout=int(TIMEOUT_S))
        except psycopg.OperationalError:
            return False
        await connection.close()
        return True

    return probe


def valkey(url: str) -> Callable[[], Awaitable[bool]]:
    """The Redis-compatible server answers PING."""

    async def probe() -> bool:
        async with redis.asyncio.Redis.from_url(url, socket_timeout=TIMEOUT_S) as client:
            try:
                await client.ping()
            except RedisError:
                return False
        return True

    return probe


def code_server(port: int) -> Callable[[], Awaitable[bool]]:
    """The code location is loaded and served."""

    async def probe() -> bool:
        async with grpc.aio.insecure_channel(f"{LOOPBACK}:{port}") as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=HealthCheckRequest.SerializeToString,
                response_deserializer=HealthCheckResponse.FromString,
            )
            try:
                answer = await check(HealthCheckRequest(service=DAGSTER_SERVICE), timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError:
                return False
        return answer.status == HealthCheckResponse.SERVING

    return probe


def dagster_daemons(url: str, *, required: Collection[str]) -> Callable[[], Awaitable[bool]]:
    """Each of these daemons wrote a heartbeat lately, and after this probe was made."""
    since = time.time()

    async def probe() -> bool:
        # The database may go away between any two words; before the daemon's first start there is no such table.
        try:
            async with await psycopg.AsyncConnection.connect(url, connect_timeout=int(TIMEOUT_S)) as connection:
                found = await connection.execute(
                    "SELECT daemon_type FROM daemon_heartbeats WHERE timestamp AT TIME ZONE 'UTC' > to_timestamp(%s)",
                    (max(since, time.time() - 4 * DAEMONS_BEAT_EVERY_S),),
                )
                beating = {row[0] for row in await found.fetchall()}
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return False
        return beating.issuperset(required)

    return probe
