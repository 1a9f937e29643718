"""The audit log: writers never fork it, and whatever is done to it afterwards is found."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import Session

from auterity_dagster.clock import SystemClock
from auterity_dagster.errors import Invalid
from auterity_dagster.identity.audit import AuditHead, AuditVerdict, canonical, genesis
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import audit
from auterity_dagster.storage.repositories.organizations import create_organization
from tests.conftest import DatabaseUrls

WRITERS, EACH = 8, 25


@pytest.fixture
def organization_id(blocking_database: BlockingDatabase) -> UUID:
    created = create_organization(
        blocking_database,
        name="house",
        owner_email=f"{uuid4().hex}@house.test",
        owner_password="a long walk by the river",
        pepper=bytes(32),
        clock=SystemClock(),
    )
    return created.organization_id


def append(session: Session, number: int) -> None:
    audit.append_blocking(session, actor=None, action="test.wrote", subject=f"number/{number}", details={"n": number})


def filled(database: BlockingDatabase, organization_id: UUID, count: int) -> AuditHead:
    for number in range(count):
        with database.begin(organization_id) as session:
            append(session, number)
    return verified(database, organization_id).head


def verified(database: BlockingDatabase, organization_id: UUID, noted: AuditHead | None = None) -> AuditVerdict:
    with database.begin(organization_id) as session:
        return audit.verify_blocking(session, noted=noted)


def tamper(urls: DatabaseUrls, statement: str) -> None:
    """Do what only the tables' owner can, with the trigger off."""
    with psycopg.connect(urls.owner, autocommit=True) as connection:
        connection.execute("ALTER TABLE audit_entry DISABLE TRIGGER append_only")
        connection.execute(statement.encode())
        connection.execute("ALTER TABLE audit_entry ENABLE TRIGGER append_only")


def write_at_once(database: BlockingDatabase, organization_id: UUID, write: Callable[[Session, int], None]) -> int:
    """Let eight writers append at the same time and return how many appends were lost to a fork."""
    together = Barrier(WRITERS)

    def writer(number: int) -> int:
        lost = 0
        together.wait()
        for round_ in range(EACH):
            try:
                with database.begin(organization_id) as session:
                    write(session, number * EACH + round_)
            except IntegrityError:
                lost += 1
        return lost

    with ThreadPoolExecutor(WRITERS) as threads:
        return sum(threads.map(writer, range(WRITERS)))


@pytest.fixture
def wide_database(database_urls: DatabaseUrls):
    database = BlockingDatabase(database_urls.application, pool_size=WRITERS)
    yield database
    database.close()


def test_eight_writers_make_one_chain(wide_database: BlockingDatabase, organization_id: UUID) -> None:
    lost = write_at_once(wide_database, organization_id, append)

    verdict = verified(wide_database, organization_id)
    assert lost == 0
    assert verdict.is_intact
    assert verdict.head.sequence == 1 + WRITERS * EACH


def append_after(head_query: str) -> Callable[[Session, int], None]:
    """An append that reads the head without the chain's lock, or with a lock on the last row only."""

    def write(session: Session, number: int) -> None:
        last = session.execute(text(head_query)).one()
        session.execute(
            text(
                "INSERT INTO audit_entry VALUES (:organization_id, :sequence, clock_timestamp(), 'system', NULL,"
                " 'test.wrote', :subject, '{}', :previous, sha256(:own))"
            ),
            {
                "organization_id": audit.organization_of(session),
                "sequence": last.sequence + 1,
                "subject": f"number/{number}",
                "previous": last.entry_hash,
                "own": str(number).encode(),
            },
        )

    return write


@pytest.mark.parametrize(
    "head_query",
    [
        "SELECT sequence, entry_hash FROM audit_entry ORDER BY sequence DESC LIMIT 1",
        "SELECT sequence, entry_hash FROM audit_entry, pg_advisory_xact_lock(7) ORDER BY sequence DESC LIMIT 1",
    ],
    ids=["no lock", "lock and read in one statement"],
)
def test_writers_without_the_two_statements_fork(
    wide_database: BlockingDatabase, organization_id: UUID, head_query: str
) -> None:
    """Negative control: the same eight writers lose entries, which the unique previous hash refuses."""
    lost = write_at_once(wide_database, organization_id, append_after(head_query))

    assert lost > 0


def test_a_lock_on_the_last_row_needs_a_right_that_nobody_has(
    wide_database: BlockingDatabase, organization_id: UUID
) -> None:
    query = "SELECT sequence, entry_hash FROM audit_entry ORDER BY sequence DESC LIMIT 1 FOR UPDATE"

    with pytest.raises(ProgrammingError, match="permission denied"), wide_database.begin(organization_id) as session:
        append_after(query)(session, 0)


TAMPERING = {
    "edit": ("UPDATE audit_entry SET subject = 'number/99' WHERE sequence = 4", 4),
    "edit of details": ("UPDATE audit_entry SET details = '{\"n\": 3.0}' WHERE sequence = 4", 4),
    "edit of the time": (
        "UPDATE audit_entry SET recorded_at = recorded_at + interval '1 microsecond' WHERE sequence = 4", 4),
    "edit with a new hash": (
        "UPDATE audit_entry SET subject = 'x', entry_hash = sha256('x') WHERE sequence = 4", 4),
    "delete": ("DELETE FROM audit_entry WHERE sequence = 4", 4),
    "delete of the first": ("DELETE FROM audit_entry WHERE sequence = 1", 1),
    "delete and close the gap": (
        "DELETE FROM audit_entry WHERE sequence = 4; UPDATE audit_entry SET sequence = sequence - 1 WHERE sequence > 4",
        4),
    "insert": (
        "UPDATE audit_entry SET sequence = sequence + 100 WHERE sequence > 4;"
        "INSERT INTO audit_entry SELECT organization_id, 5, recorded_at, actor_kind, actor_id, action, subject,"
        " details, sha256('p'), sha256('e') FROM audit_entry WHERE sequence = 4;"
        "UPDATE audit_entry SET sequence = sequence - 99 WHERE sequence > 100", 5),
    "reorder": (
        "UPDATE audit_entry SET sequence = 100 WHERE sequence = 4;"
        "UPDATE audit_entry SET sequence = 4 WHERE sequence = 5;"
        "UPDATE audit_entry SET sequence = 5 WHERE sequence = 100", 4),
    "cut": ("DELETE FROM audit_entry WHERE sequence > 7", 8),
    "everything gone": ("DELETE FROM audit_entry", 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", TAMPERING)
def test_tampering_is_found_at_its_first_row(
    blocking_database: BlockingDatabase, database_urls: DatabaseUrls, organization_id: UUID, kind: str
) -> None:
    noted = filled(blocking_database, organization_id, 9)
    statement, first_broken = TAMPERING[kind]

    tamper(database_urls, statement)

    verdict = verified(blocking_database, organization_id, noted)
    assert verdict.broken_sequence == first_broken
    assert verdict.reason


def test_a_chain_rebuilt_whole_differs_from_the_noted_head(
    blocking_database: BlockingDatabase, database_urls: DatabaseUrls, organization_id: UUID
) -> None:
    noted = filled(blocking_database, organization_id, 3)
    tamper(database_urls, "DELETE FROM audit_entry")
    filled(blocking_database, organization_id, noted.sequence)

    assert verified(blocking_database, organization_id).is_intact
    assert verified(blocking_database, organization_id, noted).broken_sequence == noted.sequence


def test_an_untouched_chain_is_intact(blocking_database: BlockingDatabase, organization_id: UUID) -> None:
    """Negative control of the tampering: the same chain, left alone."""
    noted = filled(blocking_database, organization_id, 9)

    assert verified(blocking_database, organization_id, noted).is_intact


@pytest.mark.parametrize("statement", ["UPDATE audit_entry SET subject = ''", "DELETE FROM audit_entry"])
def test_nobody_changes_entries_by_accident(
    blocking_database: BlockingDatabase, database_urls: DatabaseUrls, organization_id: UUID, statement: str
) -> None:
    with pytest.raises(ProgrammingError), blocking_database.begin(organization_id) as session:
        session.execute(text(statement))
    with psycopg.connect(database_urls.owner) as owner, pytest.raises(psycopg.errors.RaiseException):
        owner.execute(statement.encode())


def test_a_change_that_fails_leaves_no_entry(blocking_database: BlockingDatabase, organization_id: UUID) -> None:
    def change_that_fails() -> None:
        with blocking_database.begin(organization_id) as session:
            append(session, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_that_fails()

    assert verified(blocking_database, organization_id).head.sequence == 1


@pytest.mark.parametrize("details", [{"n": 1.5}, {"n": float("nan")}, {"n": uuid4()}, {1: "x"}, {"n": "a\x00b"}])
def test_details_that_would_not_read_back_alike_are_refused(details: dict) -> None:
    with pytest.raises(Invalid):
        canonical(details)


def test_details_read_back_alike(blocking_database: BlockingDatabase, organization_id: UUID) -> None:
    details = {"z": [1, -(2**70), True, None, "é\u2028\U0001f600"], "a": {"b": {}, "": []}}

    with blocking_database.begin(organization_id) as session:
        audit.append_blocking(session, actor=None, action="test.wrote", subject="s", details=details)

    assert verified(blocking_database, organization_id).is_intact
    assert json.loads(canonical(details)) == details


def test_two_organizations_begin_differently() -> None:
    assert genesis(uuid4()) != genesis(uuid4())
