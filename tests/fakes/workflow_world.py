"""Fakes of AutoMatrix's ports, and a dealership with installed templates on real PostgreSQL."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert
from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.dialects.postgresql import insert as upsert

from auterity_dagster.automatrix.actions.registry import actions
from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.compliance.rows import load_compliance
from auterity_dagster.automatrix.engine import Engine
from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.expression import CelEngine
from auterity_dagster.automatrix.ports import (
    ChatCall,
    ChatReply,
    Message,
    Receipt,
    StockVehicle,
)
from auterity_dagster.automatrix.publication import compile_document
from auterity_dagster.automatrix.template import job_of, load_templates
from auterity_dagster.automatrix.unsubscribe import UnsubscribeLinks
from auterity_dagster.identity.permission import Role
from auterity_dagster.identity.principal import user_principal
from auterity_dagster.prompt import PromptTemplate, load_prompts
from auterity_dagster.public_http import PublicHttp
from auterity_dagster.resources.connection_calls import ConnectionCalls
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.repositories import executions
from auterity_dagster.storage.repositories.children import PostgresChildren
from auterity_dagster.storage.repositories.events import deliver
from auterity_dagster.storage.repositories.inventory import feed_blocking
from auterity_dagster.storage.repositories.journal import PostgresJournal
from auterity_dagster.storage.repositories.recalls import PostgresRecalls
from auterity_dagster.storage.repositories.workflow_versions import Publication, install
from auterity_dagster.storage.tables.identity import DealershipRow, OrganizationRow, UserRow
from auterity_dagster.storage.tables.inbound import ContactRow
from tests.fakes.clock import FakeClock

CONFIG = Path(__file__).parent.parent.parent / "config"
CEL = CelEngine()
PEPPER = bytes(range(32))
COMPLIANCE = load_compliance(CONFIG / "compliance.yaml")
DISCLOSURE = next(row.text for row in COMPLIANCE.rows if row.kind == "ai_disclosure")
CONTACT = UUID("00000000-0000-4000-8000-00000000c0de")
CRV = StockVehicle(
    "H26110", "2HKRS4H42TH719547", 2026, "Honda", "CR-V", "EX", "new", "available", 36_310 * 10**9
)  # fmt: skip


@dataclass
class FakeChat:
    """Answers by a function; a repeated idempotency key gets the first answer, as RelayCore promises."""

    answer: Callable[[ChatCall], str] = lambda _call: "The 2026 Honda CR-V EX is here. Saturday 10:00?"
    calls: list[ChatCall] = field(default_factory=list)
    answers: dict[str, ChatReply] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def complete(self, call: ChatCall) -> ChatReply:
        with self._lock:
            self.calls.append(call)
            if call.idempotency_key not in self.answers:
                self.answers[call.idempotency_key] = ChatReply(self.answer(call), "sandbox-small", 100, 20, 12_345)
            return self.answers[call.idempotency_key]


@dataclass
class FakeMessenger:
    """Takes messages and forgets keys: sending twice delivers twice, unless it is told to repeat safely."""

    is_repeat_safe: bool = False
    live: bool = False
    sent: list[tuple[str, Message]] = field(default_factory=list)

    def is_live(self, organization_id: UUID, channel: str) -> bool:
        return self.live

    def repeats_safely(self, message: Message) -> bool:
        return self.is_repeat_safe

    def send(self, message: Message, key: str) -> Receipt:
        if self.is_repeat_safe and self.lookup(message, key) is not None:
            return Receipt(f"message-{key}")
        self.sent.append((key, message))
        return Receipt(f"message-{key}")

    def lookup(self, message: Message, key: str) -> Receipt | None:
        return Receipt(f"message-{key}") if any(sent == key for sent, _message in self.sent) else None


@dataclass
class FakeInventory:
    """One car in stock."""

    vehicles: tuple[StockVehicle, ...] = (CRV,)

    def search(
        self, organization_id: UUID, dealership_id: UUID, wanted: Sequence[Mapping[str, object]], limit: int
    ) -> tuple[StockVehicle, ...]:
        return self.vehicles[:limit] if wanted else ()


@dataclass
class Dealership:
    """One organization with one dealership and whatever workflows were installed."""

    urls: Any
    organization_id: UUID
    dealership_id: UUID
    user_id: UUID
    clock: FakeClock

    def lead(self, number: int = 1, **data: Any) -> tuple[UUID, ...]:
        """A lead of the one customer comes in."""
        event = lead_event(self, number, **data)
        return run_async(self.urls, self.organization_id, lambda session: deliver(session, event)).started

    def lead_of_another(self, number: int, **data: Any) -> tuple[UUID, ...]:
        """A lead of the n-th customer, whom nobody wrote to before."""
        event = lead_event(self, number, contact_id=str(contact_id(number)), **data)

        async def start(session: Any) -> tuple[UUID, ...]:
            await session.execute(customer(self, number))
            return (await deliver(session, event)).started

        return run_async(self.urls, self.organization_id, start)


@dataclass
class World:
    """The parts a test turns and looks at."""

    database: BlockingDatabase
    clock: FakeClock
    chat: FakeChat = field(default_factory=FakeChat)
    messenger: FakeMessenger = field(default_factory=FakeMessenger)
    inventory: FakeInventory = field(default_factory=FakeInventory)
    http: PublicHttp = field(default_factory=PublicHttp)

    def engine(self, **parts: Any) -> Engine:
        """A worker; `parts` replace what the world has."""
        world = replace(self, **{key: value for key, value in parts.items() if key not in ("journal", "children")})
        return Engine(
            journal=parts.get("journal") or PostgresJournal(self.database, CEL),
            actions=actions(
                chat=world.chat,
                prompts=shipped_prompts(),
                messenger=world.messenger,
                compliance=COMPLIANCE,
                unsubscribe=UnsubscribeLinks("https://api.example.com", lambda: PEPPER),
                inventory=world.inventory,
                children=parts.get("children") or PostgresChildren(self.database),
                connections=ConnectionCalls(self.database, world.http, pepper=lambda: PEPPER),
                recalls=PostgresRecalls(self.database),
            ),
            clock=self.clock,
            pause=self.clock.advance,
            jitter=lambda: 1.0,
            workers=4,
        )

    def turn(self, job: str = "lead_response", *, lane: str = "interactive", engine: Engine | None = None) -> int:
        """One run of a job: claim, every step, finish; returns how many executions it carried."""
        engine = engine or self.engine()
        claims = engine.claim(job=job, lane=lane, run_id=uuid4().hex)
        for path in templates()[job].order if job in templates() else ():
            claims = engine.advance(path, claims).claims
        if job not in templates():
            claims = engine.advance_all(claims).claims
        engine.finish(claims)
        return len(claims)


@cache
def templates() -> Mapping[str, CompiledWorkflow]:
    """The shipped templates, read once."""
    return load_templates(CONFIG / "workflows", CEL)


@cache
def shipped_prompts() -> Mapping[str, PromptTemplate]:
    """The shipped prompts, read once."""
    return load_prompts(CONFIG / "prompts")


def run_async(urls: Any, organization_id: UUID, work: Callable[[Any], Any]) -> Any:
    """Run async repository code in one transaction of an organization."""

    async def run() -> Any:
        database = Database(urls.application, pool_size=1)
        try:
            async with database.begin(organization_id) as session:
                return await work(session)
        finally:
            await database.close()

    return asyncio.run(run())


def new_dealership(
    urls: Any, database: BlockingDatabase, clock: FakeClock, *, name: str = "Lakeside Honda"
) -> Dealership:
    """An organization with one dealership and one user."""
    dealership = Dealership(urls, uuid4(), uuid4(), uuid4(), clock)
    with database.begin(dealership.organization_id) as session:
        session.execute(insert(OrganizationRow).values(id=dealership.organization_id, name=name))
        session.execute(
            insert(DealershipRow).values(
                organization_id=dealership.organization_id, id=dealership.dealership_id, name=name,
                time_zone="America/Chicago", street="", city="", region="", postal_code="", country="US",
            )
        )  # fmt: skip
        session.execute(
            insert(UserRow).values(
                organization_id=dealership.organization_id, id=dealership.user_id, email=f"{uuid4().hex}@example.com",
                name="Dana Manager", password_hash="x", session_epoch=0, is_active=True,
            )
        )  # fmt: skip
        session.execute(customer(dealership, 1))
        feed_blocking(session, [CRV], dealership_id=dealership.dealership_id, now=clock.now())
    return dealership


def contact_id(number: int) -> UUID:
    """The n-th customer's contact; the first is `CONTACT`."""
    return UUID(int=CONTACT.int + number - 1)


def customer(dealership: Dealership, number: int) -> Insert:
    """A contact with a mobile in Chicago and an e-mail address, made once."""
    mobile = f"+1312555{141 + number - 1:04}"
    return (
        upsert(ContactRow)
        .values(
            organization_id=dealership.organization_id, id=contact_id(number), dealership_id=dealership.dealership_id,
            address_digest=contact_id(number).bytes, name="Marisol Teague", is_business=False,
            email=f"customer{number}@example.com", mobile=mobile, emails=[f"customer{number}@example.com"],
            phones=[{"number": mobile, "kind": "mobile"}], created_at=dealership.clock.now(),
        )
        .on_conflict_do_nothing()
    )  # fmt: skip


def install_workflow(
    dealership: Dealership, compiled: CompiledWorkflow | str, settings: Mapping[str, Any] | None = None
) -> None:
    """Install a template by key, or a compiled workflow."""
    workflow = templates()[compiled] if isinstance(compiled, str) else compiled
    publication = Publication(workflow, job_of(workflow, templates()), None, "first", None)
    run_async(
        dealership.urls,
        dealership.organization_id,
        lambda session: install(
            session, dealership.organization_id, publication, settings=settings or {}, now=dealership.clock.now()
        ),
    )


def cancel(dealership: Dealership, execution_id: UUID) -> str:
    """A person stops an execution."""
    person = user_principal(
        dealership.user_id, organization_id=dealership.organization_id, roles=[Role.OWNER], dealership_ids=None
    )
    return run_async(
        dealership.urls,
        dealership.organization_id,
        lambda session: executions.cancel(session, person, execution_id, now=dealership.clock.now()),
    )


def lead_event(dealership: Dealership, number: int = 1, **data: Any) -> Event:
    """A sales lead as INBOUND hands it over."""
    given = {
        "kind": "sales",
        "lead_id": str(uuid4()),
        "contact_id": str(CONTACT),
        "dedupe_key": f"adf:carhaven:{number}",
        "customer_name": "Marisol Teague",
        "comments": "Is the CR-V still there?",
        "is_untrusted": True,
        "channel": "sms",
        "vehicles": [{"make": "Honda", "vehicle_model": "CR-V", "year": 2026}],
        "flags": [],
        **data,
    }
    return Event(
        id=uuid4(),
        type="lead.received",
        organization_id=dealership.organization_id,
        dealership_id=dealership.dealership_id,
        subject=f"leads/{given['lead_id']}",
        time=dealership.clock.now(),
        dedupe_key=str(given["dedupe_key"]),
        data=given,
    )


def one_step(*steps: Mapping[str, Any], **more: Any) -> CompiledWorkflow:
    """A workflow of these steps, started by any lead."""
    return compile_document(
        {
            "api_version": "automatrix/v1", "key": "own", "name": "Own",
            "triggers": [{"id": "lead", "type": "event", "event": "lead.received"}], "steps": list(steps), **more,
        },
        CEL,
    )  # fmt: skip


NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
