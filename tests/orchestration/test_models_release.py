"""The doors of the code location `models`: registration and deployment open for a stored PASS of these bytes only."""

from datetime import timedelta
from uuid import UUID

import pytest

from auterity_dagster.assets.neuroweaver.documents import Judged
from auterity_dagster.assets.neuroweaver.release import refusal
from auterity_dagster.clock import SystemClock
from auterity_dagster.neuroweaver.verdict import Outcome, Verdict
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.gate_verdicts import add_verdict, verdict_row
from auterity_dagster.storage.repositories.organizations import create_organization

DIGEST, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def organization_id(blocking_database: BlockingDatabase) -> UUID:
    created = create_organization(
        blocking_database,
        name="Harbor Group",
        owner_email="owner@example.com",
        owner_password="a long enough passphrase",
        pepper=bytes(32),
        clock=SystemClock(),
    )
    return created.organization_id


def judged(outcome: str, *, digest: str = DIGEST, days: int = 14) -> Judged:
    now = SystemClock().now()
    verdict = Verdict(
        outcome=Outcome(outcome),
        gates=(),
        artefact_digest=digest,
        champion_digest="provider:sandbox/sandbox-large",
        suite_digest=None,
        evaluation_digest=None,
        judge_report_digest=None,
        preference_grade="synthetic",
        profile="embedded",
        profile_digest="p",
        may_route="demo organizations",
        code="c",
        decided_at=now,
        expires_at=now + timedelta(days=days),
    )
    return Judged(verdict=verdict, verdict_digest=verdict.verdict_digest)


def store(database: BlockingDatabase, organization_id: UUID, document: Judged) -> None:
    with database.begin(organization_id) as session:
        add_verdict(session, verdict_row(document.verdict, organization_id=organization_id, scope="o-1"))


def asked(database: BlockingDatabase, organization_id: UUID, document: Judged) -> str | None:
    candidate = CandidateResource(organization_id=str(organization_id), recipe="tiny_cpu")
    return refusal(database, candidate, document, DIGEST)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (judged("FAIL"), "the verdict is FAIL"),
        (judged("INCONCLUSIVE"), "the verdict is INCONCLUSIVE"),
        (judged("PASS", digest=OTHER), "another artefact"),
        (judged("PASS", days=-1), "the verdict ended"),
    ],
)
def test_a_verdict_that_is_no_pass_for_these_bytes_opens_nothing(
    blocking_database: BlockingDatabase, organization_id: UUID, document: Judged, said: str
) -> None:
    store(blocking_database, organization_id, document)

    assert said in (asked(blocking_database, organization_id, document) or "")


def test_a_pass_that_is_not_stored_opens_nothing(blocking_database: BlockingDatabase, organization_id: UUID) -> None:
    assert asked(blocking_database, organization_id, judged("PASS")) == "no passing verdict is stored for this artefact"


def test_a_stored_pass_opens_the_door(blocking_database: BlockingDatabase, organization_id: UUID) -> None:
    document = judged("PASS")
    store(blocking_database, organization_id, document)

    assert asked(blocking_database, organization_id, document) is None
