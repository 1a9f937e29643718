"""One request among many is looked up by an index, also under row security: the table grows with every call."""

from pathlib import Path
from uuid import UUID

import psycopg
from sqlalchemy import func, select

from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.repositories.routing import request_by_id
from tests.conftest import DatabaseUrls
from tests.fakes.gateway_stack import new_organization

MANY = """
INSERT INTO request (organization_id, day, id, key_id, purpose, model, is_stream, policy_digest, decision, attempts,
                     outcome, cost_nusd, latency_ms)
SELECT %s, current_date - (n %% 30), gen_random_uuid(), gen_random_uuid(), 'interactive', 'auto', false, '', '{}', '[]',
       'ok', 0, 1
  FROM generate_series(1, 5000) n
"""
SCANS = """
SELECT (SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'request'),
       (SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'ix_request_id')
"""


def scans(urls: DatabaseUrls) -> tuple[int, int]:
    """How often the whole table was read, and how often the index."""
    with psycopg.connect(urls.owner) as connection:
        row = connection.execute(SCANS).fetchone()
    assert row is not None
    return row[0], row[1]


async def looked_up(database: Database, organization_id: UUID, request_id: UUID) -> bool:
    async with database.begin(organization_id) as session:
        found = await request_by_id(session, request_id)
        await session.execute(select(func.pg_stat_force_next_flush()))
    return found is not None


async def test_a_request_is_looked_up_by_its_index(
    database: Database, blocking_database: BlockingDatabase, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    ensure_secrets(tmp_path)
    organization_id, _ = new_organization(blocking_database, tmp_path)
    with psycopg.connect(database_urls.owner, autocommit=True) as connection:
        connection.execute(MANY, (organization_id,))
        connection.execute("ANALYZE request")
        row = connection.execute("SELECT id FROM request LIMIT 1").fetchone()
        connection.execute("SELECT pg_stat_force_next_flush()")
    assert row is not None
    before = scans(database_urls)

    assert await looked_up(database, organization_id, row[0])

    after = scans(database_urls)
    assert (after[0] - before[0], after[1] - before[1]) == (0, 1)
