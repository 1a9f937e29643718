"""PostgreSQL tells of a change of an organization's steering as soon as it is committed."""

import asyncio
from contextlib import aclosing
from uuid import uuid4

from auterity_dagster.clock import SystemClock
from auterity_dagster.relaycore.steering_file import read_policy
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.repositories.organizations import create_organization
from auterity_dagster.storage.repositories.steering_policies import add_version
from auterity_dagster.storage.steering_changes import steering_changes
from tests.conftest import DatabaseUrls
from tests.fakes.policy_mistakes import SHIPPED


async def test_a_new_version_is_heard_of_when_it_is_committed(
    database: Database, blocking_database: BlockingDatabase, database_urls: DatabaseUrls
) -> None:
    organization_id = create_organization(
        blocking_database,
        name="ours",
        owner_email="owner@ours.test",
        owner_password="a long walk by the river",
        pepper=bytes(32),
        clock=SystemClock(),
    ).organization_id
    policy = read_policy(SHIPPED, source="shipped")
    async with aclosing(steering_changes(database_urls.application)) as changes, asyncio.timeout(60):
        heard = asyncio.create_task(anext(changes))

        while not heard.done():  # until it listens, nothing is heard: write again
            async with database.begin(organization_id) as session:
                text = f"{policy.text}# {uuid4()}"
                await add_version(session, organization_id, read_policy(text, source="next"), note="", by=uuid4())
            await asyncio.wait({heard}, timeout=0.2)

    assert heard.result() == organization_id
