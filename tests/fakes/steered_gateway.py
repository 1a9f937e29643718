"""A gateway whose configuration can be edited, and organizations whose active policy is planted past every check."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from sqlalchemy import func, select, update

from auterity_dagster.identity.permission import Role
from auterity_dagster.relaycore.catalog import DeploymentOverride
from auterity_dagster.relaycore.steering_file import policy_digest
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.repositories import users
from auterity_dagster.storage.repositories.deployment_overrides import put_override
from auterity_dagster.storage.tables.identity import AuditEntryRow
from auterity_dagster.storage.tables.steering import SteeringPolicyRow
from tests.fakes.gateway_stack import QUESTION, new_organization

ASKED = {"model": "sandbox-small", "messages": QUESTION}


@dataclass(frozen=True)
class Steered:
    """A gateway whose configuration can be edited, and organizations whose active policy can be planted."""

    url: str
    metrics_url: str
    policy_file: Path
    application_url: str
    redis_url: str
    database: BlockingDatabase
    secrets_dir: Path

    def organization(self) -> "Organization":
        organization_id, key = new_organization(self.database, self.secrets_dir, name=f"o-{uuid4().hex[:8]}")
        return Organization(self, organization_id, key)

    def refusals(self) -> float:
        lines = httpx.get(self.metrics_url).text.splitlines()
        name = "auterity_relaycore_policy_load_failures_total "
        return next(float(line.removeprefix(name)) for line in lines if line.startswith(name))


@dataclass(frozen=True)
class Organization:
    """One organization, its key, and what the gateway says to it."""

    gateway: Steered
    id: UUID
    key: str

    def post(self, path: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.post(f"{self.gateway.url}{path}", json=ASKED, headers=headers, timeout=30)

    def policy(self) -> str:
        """What answers a call now: name and digest."""
        return self.post("/v1/chat/completions").headers["x-auterity-policy"]

    def plant(self, text: str) -> str:
        """Make a text the active version, past every check; return its digest."""
        digest = policy_digest(text)
        with self.gateway.database.begin(self.id) as session:
            active = update(SteeringPolicyRow).where(SteeringPolicyRow.status == "active").values(status="archived")
            session.execute(active)
            session.add(
                SteeringPolicyRow(
                    organization_id=self.id,
                    name="our-own",
                    version=session.scalars(select(func.count()).select_from(SteeringPolicyRow)).one() + 1,
                    yaml=text,
                    digest=digest,
                    note="",
                    status="active",
                    reports=[],
                    created_by=uuid4(),
                )
            )
        return digest

    def set(self, override: DeploymentOverride) -> None:
        """Set something for a deployment, as the API does."""

        async def setting() -> None:
            database = Database(self.gateway.application_url)
            async with database.begin(self.id) as session:
                await put_override(session, self.id, override, by=uuid4())
            await database.close()

        asyncio.run(setting())

    def administrators(self) -> list[UUID]:
        """Add two people who may write and activate policies."""
        with self.gateway.database.begin(self.id) as session:
            return [
                users.add_blocking(
                    session,
                    email=f"{name}@{self.id.hex}.test",
                    name=name,
                    password_hash="unused",
                    roles=[Role.ADMIN],
                    dealership_ids=None,
                )
                for name in ("author", "other")
            ]

    def refused(self) -> dict[str, list[dict[str, str]]]:
        """The mistakes that were audited, by what was refused."""
        with self.gateway.database.begin(self.id) as session:
            entries = session.scalars(select(AuditEntryRow).where(AuditEntryRow.action == "steering.refused"))
            return {str(one.details.get("digest", one.subject)): one.details["mistakes"] for one in entries}

    def reports(self, digest: str) -> list[Any]:
        with self.gateway.database.begin(self.id) as session:
            return session.scalars(select(SteeringPolicyRow.reports).where(SteeringPolicyRow.digest == digest)).one()


def until(condition: Callable[[], object], *, within_s: float = 20) -> None:
    """Wait for something that the gateway does by itself."""
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)
