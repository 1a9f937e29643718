from datetime import timedelta
from uuid import UUID

import pytest

from auterity_dagster.clock import SystemClock
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import gate_verdicts, training_stages
from auterity_dagster.storage.repositories.organizations import create_organization
from auterity_dagster.storage.tables.specialisation import GateVerdictRow

PEPPER = bytes(32)
DIGEST, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def organization_id(blocking_database: BlockingDatabase) -> UUID:
    return organization(blocking_database, "owner@example.com")


def organization(database: BlockingDatabase, email: str) -> UUID:
    created = create_organization(
        database,
        name="Harbor Group",
        owner_email=email,
        owner_password="a long enough passphrase",
        pepper=PEPPER,
        clock=SystemClock(),
    )
    return created.organization_id


def verdict(organization_id: UUID, outcome: str, *, digest: str = DIGEST, age_h: int = 0, days: int = 14):
    decided_at = SystemClock().now() - timedelta(hours=age_h)
    return GateVerdictRow(
        organization_id=organization_id,
        verdict_digest=f"{outcome}{age_h}{digest}",
        artefact_digest=digest,
        scope="o-1",
        outcome=outcome,
        profile="embedded",
        champion_digest="provider:sandbox/sandbox-large",
        report_digest="r",
        reasons=[],
        decided_at=decided_at,
        expires_at=decided_at + timedelta(days=days),
    )


@pytest.mark.parametrize(
    ("outcome", "digest", "days", "passes"),
    [
        ("PASS", DIGEST, 14, True),
        ("FAIL", DIGEST, 14, False),
        ("INCONCLUSIVE", DIGEST, 14, False),
        ("PASS", OTHER, 14, False),
        ("PASS", DIGEST, -1, False),
    ],
)
def test_only_a_pass_in_force_for_these_bytes_opens_the_door(
    blocking_database, organization_id, outcome, digest, days, passes
) -> None:
    with blocking_database.begin(organization_id) as session:
        gate_verdicts.add_verdict(session, verdict(organization_id, outcome, digest=digest, days=days))

        assert gate_verdicts.verdict_passes(session, DIGEST) is passes


def test_without_a_verdict_the_door_stays_shut(blocking_database, organization_id) -> None:
    with blocking_database.begin(organization_id) as session:
        assert gate_verdicts.verdict_passes(session, DIGEST) is False


def test_a_later_fail_takes_an_earlier_pass_back(blocking_database, organization_id) -> None:
    with blocking_database.begin(organization_id) as session:
        gate_verdicts.add_verdict(session, verdict(organization_id, "PASS", age_h=2))
        gate_verdicts.add_verdict(session, verdict(organization_id, "FAIL", age_h=1))

        assert gate_verdicts.verdict_passes(session, DIGEST) is False


def test_another_organizations_pass_opens_nothing(blocking_database, organization_id) -> None:
    stranger = organization(blocking_database, "stranger@example.com")
    with blocking_database.begin(stranger) as session:
        gate_verdicts.add_verdict(session, verdict(stranger, "PASS"))

    with blocking_database.begin(organization_id) as session:
        assert gate_verdicts.verdict_passes(session, DIGEST) is False


def test_a_finished_stage_is_found_again_and_a_failed_one_is_not(blocking_database, organization_id) -> None:
    with blocking_database.begin(organization_id) as session:
        for key in ("k1", "k2"):
            training_stages.start_stage(session, organization_id=organization_id, stage_key=key, stage="sft")
        training_stages.finish_stage(session, stage_key="k1", artefact_digest=DIGEST, metrics={"metrics": {}})
        training_stages.end_stage(session, stage_key="k2", state="failed")

        found = training_stages.finished_stage(session, "k1")
        assert found is not None
        assert found.artefact_digest == DIGEST
        assert training_stages.finished_stage(session, "k2") is None
        again = training_stages.start_stage(session, organization_id=organization_id, stage_key="k2", stage="sft")
        assert again == 2
