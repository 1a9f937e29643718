"""Daily assets, materialised: usage adds up and stays so, labels are shared, recommendations hold what they promise."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import dagster as dg
import pytest
from sqlalchemy import func, select, update

from auterity_dagster.assets.relaycore.advice import market_of, recommendations
from auterity_dagster.assets.relaycore.analytics import shared_quality, usage_day
from auterity_dagster.clock import SystemClock
from auterity_dagster.definitions import models
from auterity_dagster.relaycore.price_list import parse_entries
from auterity_dagster.relaycore.quality import QualityEvidence
from auterity_dagster.relaycore.steering_file import policy_digest
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.feedback import add_label
from auterity_dagster.storage.repositories.organizations import create_organization
from auterity_dagster.storage.repositories.routing import record_quality
from auterity_dagster.storage.tables.analytics import RecommendationRow, UsageDayRow
from auterity_dagster.storage.tables.ledger import UsageRow
from auterity_dagster.storage.tables.routing import RouteQualityRow
from auterity_dagster.storage.tables.steering import PriceRow, SteeringPolicyRow
from tests.conftest import DatabaseUrls
from tests.fakes.policy_mistakes import SHIPPED
from tests.fakes.usage_rows import usage_row

TODAY = datetime.now(UTC).date()
YESTERDAY = TODAY - timedelta(days=1)
CONFIG = Path(__file__).parents[2] / "config"
CHEAPER = """version: 1
prices:
  - key: sandbox/small
    in_force_from: 2026-11-01
    source: a letter of the provider
    usd_per_mtok: [{input: "0.05", output: "0.25"}]
"""
LARGE, SMALL = "provider:sandbox/sandbox-large", "provider:sandbox/sandbox-small"


def new_organization(database: BlockingDatabase, name: str) -> UUID:
    return create_organization(
        database,
        name=name,
        owner_email=f"owner@{name}.test",
        owner_password="a long enough passphrase",
        pepper=bytes(32),
        clock=SystemClock(),
    ).organization_id


@pytest.fixture
def ours(blocking_database: BlockingDatabase) -> UUID:
    return new_organization(blocking_database, "ours")


@pytest.fixture
def theirs(blocking_database: BlockingDatabase) -> UUID:
    return new_organization(blocking_database, "theirs")


@pytest.fixture
def resources(database_urls: DatabaseUrls, tmp_path: Path) -> dict[str, object]:
    return {
        "database": DatabaseResource(url=database_urls.application),
        "installation": InstallationResource(
            data_dir=str(tmp_path),
            secrets_dir=str(tmp_path),
            config_dir=str(CONFIG),
            gateway_url="",
            model_server_url="",
            mlflow_url="",
        ),
    }


def materialised(
    asset: dg.AssetsDefinition, resources: dict[str, object], *, day: date | None = None
) -> dg.ExecuteInProcessResult:
    key = None if day is None else day.isoformat()
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize([asset], resources=resources, instance=instance, partition_key=key)


def add(database: BlockingDatabase, organization_id: UUID, *rows: UsageRow) -> None:
    with database.begin(organization_id) as session:
        session.add_all(rows)


def test_a_day_adds_up_for_every_organization_and_again_to_the_same(
    ours: UUID, theirs: UUID, blocking_database: BlockingDatabase, resources: dict[str, object]
) -> None:
    add(
        blocking_database,
        ours,
        usage_row(ours, YESTERDAY),
        usage_row(ours, YESTERDAY, first_token_ms=120, is_streamed=True),
        usage_row(ours, YESTERDAY, outcome="timeout", prompt_tokens=None, completion_tokens=None, cost_nusd=5),
        usage_row(ours, YESTERDAY, task=None, purpose="judging"),
    )
    add(blocking_database, theirs, usage_row(theirs, YESTERDAY, deployment_id="sandbox-small"))

    first, second = (materialised(usage_day, resources, day=YESTERDAY) for _ in range(2))

    assert first.success
    assert all(one.passed for one in second.get_asset_check_evaluations())
    with blocking_database.begin(ours) as session:
        rows = session.scalars(select(UsageDayRow).order_by(UsageDayRow.task.desc())).all()
    assert [(row.task, row.purpose, row.attempts, row.ok, row.cost_nusd) for row in rows] == [
        ("lead_reply", "workflow", 3, 2, 16_000_005),
        ("", "judging", 1, 1, 8_000_000),
    ]
    assert rows[0].outcomes == {"ok": 2, "timeout": 1}
    assert sum(rows[0].first_tokens.values()) == 1
    with blocking_database.begin(theirs) as session:
        assert session.scalars(select(UsageDayRow.deployment_id)).all() == ["sandbox-small"]


def test_a_corrected_bill_is_seen_when_the_day_is_added_up_again(
    ours: UUID, blocking_database: BlockingDatabase, resources: dict[str, object]
) -> None:
    before = YESTERDAY - timedelta(days=2)
    add(blocking_database, ours, usage_row(ours, before))
    materialised(usage_day, resources, day=before)
    with blocking_database.begin(ours) as session:
        session.execute(update(UsageRow).values(cost_nusd=3))

    materialised(usage_day, resources, day=YESTERDAY)

    with blocking_database.begin(ours) as session:
        assert session.scalar(select(func.sum(UsageDayRow.cost_nusd))) == 3


def test_labels_reach_others_as_a_small_prior_and_oneself_in_full(
    ours: UUID, theirs: UUID, blocking_database: BlockingDatabase, resources: dict[str, object]
) -> None:
    now = datetime.now(UTC)
    for organization_id, digest in ((ours, SMALL), (ours, "a" * 64), (theirs, LARGE)):
        with blocking_database.begin(organization_id) as session:
            add_label(session, QualityEvidence(organization_id, "lead_reply", digest, "thumb", 100, 0.9, now))

    for _ in range(2):
        materialised(shared_quality, resources)

    def shared(organization_id: UUID) -> list[tuple[str, float, float]]:
        with blocking_database.begin(organization_id) as session:
            rows = session.scalars(select(RouteQualityRow).where(RouteQualityRow.source == "shared"))
            return [(row.artefact_digest, round(row.items, 3), round(row.mean_score, 3)) for row in rows]

    assert shared(theirs) == [(SMALL, 0.5, 0.9)]
    assert shared(ours) == [(LARGE, 0.5, 0.9)]


class TestRecommendations:
    @pytest.fixture(autouse=True)
    def used(self, ours: UUID, blocking_database: BlockingDatabase) -> None:
        days = [YESTERDAY - timedelta(days=back) for back in range(14)]
        add(blocking_database, ours, *(usage_row(ours, day) for day in days for _ in range(12)))

    def evaluate(self, database: BlockingDatabase, organization_id: UUID, digest: str, score: float) -> None:
        with database.begin(organization_id) as session:
            record_quality(session, QualityEvidence(organization_id, "lead_reply", digest, "evaluation", 50, score))

    def found(self, database: BlockingDatabase, organization_id: UUID) -> list[RecommendationRow]:
        with database.begin(organization_id) as session:
            return list(session.scalars(select(RecommendationRow)))

    def test_one_is_made_with_evidence_and_renewed_not_repeated(
        self, ours: UUID, blocking_database: BlockingDatabase, resources: dict[str, object]
    ) -> None:
        self.evaluate(blocking_database, ours, SMALL, 0.95)

        results = [materialised(recommendations, resources) for _ in range(2)]

        assert all(one.passed for result in results for one in result.get_asset_check_evaluations())
        [row] = self.found(blocking_database, ours)
        assert (row.task, row.from_deployment, row.to_deployment, row.state) == (
            "lead_reply",
            "sandbox-large",
            "sandbox-small",
            "open",
        )
        assert 0 < row.saving_low_nusd <= row.saving_nusd <= row.saving_high_nusd
        assert (row.evidence["requests"], row.evidence["days"]) == (168, 14)
        assert row.patch["pools"] == {"recommended-lead-reply": ["sandbox-small", "sandbox-large"]}

    def test_none_is_made_below_the_floor_and_an_open_one_ends(
        self, ours: UUID, blocking_database: BlockingDatabase, resources: dict[str, object]
    ) -> None:
        self.evaluate(blocking_database, ours, SMALL, 0.95)
        materialised(recommendations, resources)
        self.evaluate(blocking_database, ours, SMALL, 0.6)

        materialised(recommendations, resources)

        assert [row.state for row in self.found(blocking_database, ours)] == ["expired"]

    def test_what_was_really_saved_stands_beside_it(
        self, ours: UUID, blocking_database: BlockingDatabase, resources: dict[str, object]
    ) -> None:
        self.evaluate(blocking_database, ours, SMALL, 0.95)
        materialised(recommendations, resources)
        applied_at = datetime.now(UTC) - timedelta(days=15)
        before = [applied_at.date() - timedelta(days=back) for back in range(1, 9)]
        with blocking_database.begin(ours) as session:
            session.execute(update(RecommendationRow).values(state="applied", applied_at=applied_at))
            session.execute(update(UsageRow).values(deployment_id="sandbox-small", cost_nusd=1_000_000))
        add(blocking_database, ours, *(usage_row(ours, day) for day in before for _ in range(12)))

        materialised(recommendations, resources)

        [row] = [one for one in self.found(blocking_database, ours) if one.state == "applied"]
        assert row.realised is not None
        assert row.realised["saving_nusd"] == pytest.approx(12 * 7_000_000 * 30.4, rel=0.01)
        assert row.realised["days"] == 14


def test_advice_looks_at_an_organizations_own_policy_and_prices(
    blocking_database: BlockingDatabase, ours: UUID, theirs: UUID
) -> None:
    text = SHIPPED.replace("{id: sandbox-small", "{id: our-small").replace("sandbox-small]", "our-small]")
    [entry] = parse_entries(CHEAPER, source="import")
    price = PriceRow(
        organization_id=ours,
        id=uuid4(),
        key=entry.key,
        in_force_from=entry.in_force_from,
        entry=entry.model_dump(mode="json"),
        digest=entry.price().digest,
        imported_by=uuid4(),
        approved_by=uuid4(),
        approved_at=func.now(),
    )
    version = SteeringPolicyRow(
        organization_id=ours,
        name="dealership-default",
        version=1,
        yaml=text,
        digest=policy_digest(text),
        note="",
        status="active",
        reports=[],
        created_by=uuid4(),
    )
    with blocking_database.begin(ours) as session:
        session.add_all([price, version])

    now = datetime.now(UTC)
    with blocking_database.begin(ours) as session:
        own = market_of(session, CONFIG, now=now)
    with blocking_database.begin(theirs) as session:
        common = market_of(session, CONFIG, now=now)

    assert own.prices["our-small"] == entry.price()
    assert own.digests["our-small"] == common.digests["sandbox-small"] == SMALL
    assert "our-small" not in common.prices
    assert "sandbox-small" not in own.prices


def test_the_location_holds_assets_jobs_and_running_schedules() -> None:
    repository = models().get_repository_def()

    keys = {key.path[-1] for key in repository.asset_graph.get_all_asset_keys()}
    assert keys >= {
        *("routing_outcomes", "quality_model", "quality_report"),
        *("usage_day", "shared_quality", "recommendations"),
    }
    assert {"rc_quality", "rc_usage", "rc_advice"} <= set(repository.job_names)
    for name in ("daily_advice", "rc_usage_schedule"):
        assert repository.get_schedule_def(name).default_status is dg.DefaultScheduleStatus.RUNNING
