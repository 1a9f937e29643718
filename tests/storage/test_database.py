"""A transaction names its organization, and forgets it at its end."""

from uuid import uuid4

from sqlalchemy import text

from auterity_dagster.storage.database import BlockingDatabase, Database

CURRENT = text("select current_setting('auterity.organization_id', true)")


async def test_a_transaction_belongs_to_the_organization_it_was_begun_for(database: Database) -> None:
    organization_id = uuid4()

    async with database.begin(organization_id) as session:
        seen = await session.scalar(CURRENT)

    assert seen == str(organization_id)


async def test_a_pooled_connection_does_not_carry_the_organization_over(database: Database) -> None:
    async with database.begin(uuid4()) as session:
        await session.scalar(CURRENT)

    async with database.begin_without_organization() as session:
        seen = await session.scalar(CURRENT)

    assert seen == ""


def test_the_application_role_cannot_bypass_row_security(blocking_database: BlockingDatabase) -> None:
    with blocking_database.begin_without_organization() as session:
        row = session.execute(text("select rolsuper, rolbypassrls from pg_roles where rolname = current_user")).one()

    assert tuple(row) == (False, False)
