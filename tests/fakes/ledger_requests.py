"""Hold requests, usage records and budgets with every field filled in, for tests that care about a few of them."""

from uuid import UUID, uuid4

from auterity_dagster.relaycore.budget import Enforcement, Period, Scope
from auterity_dagster.relaycore.chat import IdempotencyClaim
from auterity_dagster.relaycore.ports import HoldRequest, UsageRecord
from auterity_dagster.relaycore.pricing import Usage
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories.budgets import NewBudget, create_budget


def hold_request(
    organization_id: UUID,
    *,
    amount_nusd: int = 100,
    dealership_id: UUID | None = None,
    key_id: UUID | None = None,
    user_id: UUID | None = None,
    purpose: str = "workflow",
    tags: tuple[str, ...] = (),
    deployment_id: str = "sandbox-large",
    expires_in_s: int = 60,
    claim: IdempotencyClaim | None = None,
) -> HoldRequest:
    return HoldRequest(
        organization_id=organization_id,
        dealership_id=dealership_id,
        key_id=key_id or uuid4(),
        user_id=user_id,
        purpose=purpose,
        tags=tags,
        request_id=uuid4(),
        attempt=1,
        deployment_id=deployment_id,
        price_key="sandbox/large",
        price_digest="0" * 64,
        amount_nusd=amount_nusd,
        prompt_nusd=0,
        max_tokens=amount_nusd,
        expires_in_s=expires_in_s,
        claim=claim,
    )


def usage_record(outcome: str = "ok") -> UsageRecord:
    return UsageRecord(
        outcome=outcome,
        usage=Usage(prompt_tokens=10, completion_tokens=5) if outcome == "ok" else None,
        latency_ms=12,
        first_token_ms=None,
        is_streamed=False,
        provider_request_id="sandbox-1",
        task="lead_reply",
        policy_digest="1" * 64,
        rule=None,
    )


async def make_budget(
    database: Database,
    organization_id: UUID,
    *,
    cap_nusd: int,
    name: str = "Test",
    scope: Scope = Scope.ORGANIZATION,
    value: str = "*",
    period: Period = Period.MONTH,
    enforcement: Enforcement = Enforcement.HARD,
    time_zone: str = "America/Chicago",
    alert_percents: tuple[int, ...] = (),
) -> UUID:
    wanted = NewBudget(
        name=name,
        scope=scope,
        value=value,
        period=period,
        time_zone=time_zone,
        cap_nusd=cap_nusd,
        enforcement=enforcement,
        alert_percents=alert_percents,
    )
    async with database.begin(organization_id) as session:
        return (await create_budget(session, organization_id, wanted)).id
