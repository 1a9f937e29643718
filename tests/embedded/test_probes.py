"""A health check answers yes or no and never raises: an exception would end everything that runs beside it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.engine import make_url

from auterity_dagster.embedded import probes
from tests.conftest import DatabaseUrls


@asynccontextmanager
async def cutting(url: str, *, at: bytes) -> AsyncIterator[str]:
    """A way to the database that breaks off as soon as a client says that; yields the address."""
    database = make_url(url)

    async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_cut: bool) -> None:
        while said := await source.read(65_536):
            if is_cut and at in said:
                break
            target.write(said)
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert database.host is not None
        theirs, to_them = await asyncio.open_connection(database.host, database.port)
        back = asyncio.create_task(carry(theirs, writer, is_cut=False))
        await carry(reader, to_them, is_cut=True)
        writer.close()
        await asyncio.wait([back])

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    yield database.set(port=port).render_as_string(hide_password=False)
    server.close()


async def test_a_database_that_dies_in_the_middle_of_the_question_means_no(database_urls: DatabaseUrls) -> None:
    async with cutting(database_urls.owner, at=b"daemon_heartbeats") as address:
        assert not await probes.dagster_daemons(address, required=("SENSOR",))()


async def test_a_database_without_daemons_or_without_anybody_means_no(database_urls: DatabaseUrls) -> None:
    nobody = make_url(database_urls.owner).set(port=1).render_as_string(hide_password=False)

    assert not await probes.dagster_daemons(database_urls.owner, required=("SENSOR",))()
    assert not await probes.dagster_daemons(nobody, required=("SENSOR",))()
    assert not await probes.postgres(nobody)()
    assert await probes.postgres(database_urls.owner)()
