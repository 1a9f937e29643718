"""The boundary between organizations is PostgreSQL's: it holds with every filter of ours taken away."""

from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import tuple_row
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from auterity_dagster.clock import SystemClock
from auterity_dagster.errors import ConfigurationInvalid, Conflict
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.repositories.application_role import require_bound_role
from auterity_dagster.storage.repositories.organizations import CreatedOrganization, create_organization
from tests.conftest import DatabaseUrls

OF_NOBODY = {"sign_in_failure", "alembic_version", "gateway_process"}
"""The only tables that belong to no organization; they hold digests, a version number, and processes' random ids."""

IDENTITY = {"organization", "dealership", "user_account", "membership", "refresh_token", "api_key", "audit_entry"}
UNPROTECTED = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT (
    c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
        SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd = '*'
          AND pg_get_expr(p.polqual, p.polrelid) LIKE '%%auterity.organization_id%%'))
"""
HALF_KEYS = """
SELECT c.relname, i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
WHERE c.relnamespace = 'public'::regnamespace AND i.indisunique AND a.attname <> 'organization_id'
"""
ACROSS_ORGANIZATIONS = {
    "organization_pkey", "user_account_email_key", "api_key_public_id_key", "refresh_token_token_digest_key",
    "sign_in_failure_pkey", "alembic_version_pkc", "gateway_process_pkey",
}  # fmt: skip
"""Unique over everybody: how a caller is found before their organization is known, and what belongs to nobody."""


def create(database: BlockingDatabase, name: str) -> CreatedOrganization:
    return create_organization(
        database,
        name=name,
        owner_email=f"owner@{name}.test",
        owner_password="a long walk by the river",
        pepper=bytes(32),
        clock=SystemClock(),
    )


def unprotected(urls: DatabaseUrls) -> set[str]:
    with psycopg.connect(urls.owner, row_factory=tuple_row) as connection:
        return {name for (name,) in connection.execute(UNPROTECTED)} - OF_NOBODY


def organization_tables(urls: DatabaseUrls) -> list[str]:
    with psycopg.connect(urls.owner, row_factory=tuple_row) as connection:
        rows = connection.execute(
            "SELECT table_name FROM information_schema.columns c JOIN information_schema.tables t USING (table_name)"
            " WHERE column_name = 'organization_id' AND c.table_schema = 'public' AND t.table_type = 'BASE TABLE'"
        )
        return [name for (name,) in rows]


def test_every_table_forces_row_security(database_urls: DatabaseUrls) -> None:
    assert unprotected(database_urls) == set()
    assert len(organization_tables(database_urls)) >= 6


@pytest.mark.parametrize(
    "plant",
    [
        "CREATE TABLE planted (organization_id uuid)",
        "ALTER TABLE dealership NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE dealership DISABLE ROW LEVEL SECURITY",
        "DROP POLICY organization ON dealership",
        "DROP POLICY organization ON dealership; CREATE POLICY organization ON dealership USING (true)",
    ],
)
def test_the_check_sees_a_table_that_does_not(database_urls: DatabaseUrls, plant: str) -> None:
    """Negative control."""
    with psycopg.connect(database_urls.owner) as connection:
        connection.execute(plant.encode())

    assert unprotected(database_urls) in ({"planted"}, {"dealership"})


def test_no_view_and_no_materialized_view_goes_around_it(database_urls: DatabaseUrls) -> None:
    with psycopg.connect(database_urls.owner) as connection:
        views = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND (relkind = 'm'"
            " OR relkind = 'v' AND NOT coalesce('security_invoker=true' = ANY (reloptions), false))"
        ).fetchall()

    assert views == []


def test_unique_keys_begin_with_the_organization(database_urls: DatabaseUrls) -> None:
    with psycopg.connect(database_urls.owner) as connection:
        found = {index for table, index in connection.execute(HALF_KEYS) if table in IDENTITY | OF_NOBODY}

    assert found == ACROSS_ORGANIZATIONS


def test_the_application_may_not_empty_a_table(database_urls: DatabaseUrls) -> None:
    with psycopg.connect(database_urls.owner) as connection:
        granted = connection.execute(
            "SELECT table_name FROM information_schema.role_table_grants"
            " WHERE grantee = 'auterity_app' AND privilege_type IN ('TRUNCATE', 'TRIGGER', 'REFERENCES')"
        ).fetchall()

    assert granted == []


def test_without_any_filter_each_organization_sees_its_own_rows_only(
    blocking_database: BlockingDatabase, database_urls: DatabaseUrls
) -> None:
    ours, theirs = create(blocking_database, "ours"), create(blocking_database, "theirs")

    for table in ("user_account", "membership", "api_key", "audit_entry"):
        with blocking_database.begin(ours.organization_id) as session:
            owners = session.scalars(text(f"SELECT organization_id FROM {table}")).all()
        assert set(owners) == {ours.organization_id}, table
    with blocking_database.begin(ours.organization_id) as session:
        assert session.scalars(text("SELECT id FROM organization")).all() == [ours.organization_id]
    with psycopg.connect(database_urls.owner) as connection:
        assert connection.execute("SELECT count(*) FROM organization").fetchone() == (2,)
    assert theirs.organization_id != ours.organization_id


def test_without_an_organization_nothing_is_seen(
    blocking_database: BlockingDatabase, database_urls: DatabaseUrls
) -> None:
    create(blocking_database, "ours")

    with blocking_database.begin_without_organization() as session:
        for table in (*organization_tables(database_urls), "organization"):
            assert session.scalar(text(f"SELECT count(*) FROM {table}")) == 0, table


def test_rows_of_another_organization_are_not_changed_or_made(blocking_database: BlockingDatabase) -> None:
    ours, theirs = create(blocking_database, "ours"), create(blocking_database, "theirs")

    with blocking_database.begin(ours.organization_id) as session:
        session.execute(text("UPDATE user_account SET name = 'seized'"))
    with blocking_database.begin(theirs.organization_id) as session:
        assert session.scalar(text("SELECT name FROM user_account")) == "owner"
    insert = text("INSERT INTO organization (id, name) VALUES (:id, 'x')")
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        blocking_database.begin(ours.organization_id) as session,
    ):
        session.execute(insert, {"id": uuid4()})


def test_look_ups_answer_with_ids_and_digests_only(database_urls: DatabaseUrls) -> None:
    with psycopg.connect(database_urls.owner) as connection:
        rows = connection.execute(
            "SELECT p.proname, r.rolname, p.proconfig::text, pg_get_function_result(p.oid) FROM pg_proc p"
            " JOIN pg_roles r ON r.oid = p.proowner WHERE p.prosecdef AND p.pronamespace = 'public'::regnamespace"
        ).fetchall()

    assert {"find_user", "find_api_key", "find_refresh_token"} <= {row[0] for row in rows}
    for name, owner, configuration, result in rows:
        assert owner == "auterity_lookup", name
        assert "search_path" in (configuration or ""), name
        assert " text" not in result.replace("job text", "").replace("lane text", ""), name


async def test_a_process_refuses_a_role_that_row_security_does_not_bind(database_urls: DatabaseUrls) -> None:
    bound, unbound = Database(database_urls.application), Database(database_urls.owner)

    await require_bound_role(bound)
    with pytest.raises(ConfigurationInvalid, match="use auterity_app"):
        await require_bound_role(unbound)

    await bound.close()
    await unbound.close()


def test_an_address_belongs_to_one_user(blocking_database: BlockingDatabase) -> None:
    create(blocking_database, "ours")

    with pytest.raises(Conflict):
        create(blocking_database, "OURS")


def test_a_new_organization_has_keys_for_its_own_services(blocking_database: BlockingDatabase) -> None:
    created = create(blocking_database, "ours")

    with blocking_database.begin(created.organization_id) as session:
        rows = session.execute(text("SELECT purposes, scopes, created_by FROM api_key ORDER BY purposes")).all()

    assert [tuple(row) for row in rows] == [
        (["judging"], ["gateway.call"], None),
        (["workflow"], ["gateway.call"], None),
    ]
    assert isinstance(created.owner_id, UUID)
