"""Plays the samples of a template through the real engine, all of them in each turn, to the end of every one."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert, select, update

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.connection import SETTINGS
from auterity_dagster.automatrix.engine import Engine
from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.recall import read_recalls
from auterity_dagster.automatrix.workflow import StepKind
from auterity_dagster.identity.permission import Role
from auterity_dagster.identity.principal import user_principal
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories import approvals, connections, inbound_messages, recalls
from auterity_dagster.storage.repositories.audiences import Subject
from auterity_dagster.storage.repositories.batches import Batch, start_batch
from auterity_dagster.storage.repositories.events import deliver_blocking
from auterity_dagster.storage.repositories.inbound_messages import InboundSms
from auterity_dagster.storage.repositories.slots import NEVER
from auterity_dagster.storage.repositories.triggering import Lane
from auterity_dagster.storage.tables.identity import DealershipRow
from auterity_dagster.storage.tables.inbound import ContactRow
from auterity_dagster.storage.tables.messaging import ContactConsentRow
from auterity_dagster.storage.tables.workflows import (
    ApprovalRow,
    CustomerVehicleRow,
    ExecutionRow,
    WaitRow,
    WorkflowRow,
)
from tests.fakes.template_outcome import LOOKED_AT, execution_of, outcome
from tests.fakes.template_samples import Sample, SampleService, sample_event, told_event
from tests.fakes.workflow_rows import suppress
from tests.fakes.workflow_world import (
    COMPLIANCE,
    PEPPER,
    Dealership,
    World,
    contact_id,
    customer,
    install_workflow,
    templates,
)

OPEN = ("queued", "running", "waiting")
CALLED: dict[str, Lane] = {"execution.requested": "interactive", "schedule.fired": "batch"}
TURNS = 200
TODAY = date(2026, 11, 24)
RECALLS = """campaign,make,model,year,vin,summary,remedy
26V123,Honda,CR-V,2026,,The hood latch may open.,Dealers replace the latch.
25V555,Honda,Accord,2003,1HGCM82633A004352,The airbag inflator may fail.,Dealers replace the inflator.
"""


@dataclass
class Play:
    """One template, its samples and the executions that they started; those that they called themselves among them."""

    world: World
    dealership: Dealership
    key: str
    samples: list[Sample]
    service: SampleService
    executions: dict[UUID, Sample]
    runner: asyncio.Runner
    asynchronous: Database

    def begin(self, changed: CompiledWorkflow | None = None) -> None:
        """Install the template, or a changed one in its place, make the customers, let every event happen."""
        for key in self._keys():
            install_workflow(self.dealership, changed if changed is not None and key == self.key else key)
        for name, kind, url in (
            ("crm", "crm_http", self.service.url),
            ("service", "http", self.service.url),
            ("inside", "http", "https://169.254.169.254/latest"),
        ):
            self._connect(name, {"kind": kind, "base_url": url, "honours_idempotency_key": True})
        self._run(lambda session: recalls.replace_all(session, read_recalls(RECALLS)[0], as_of=TODAY))
        with self.world.database.begin(self.dealership.organization_id) as session:
            session.execute(update(DealershipRow).values(street="1 Main Street", city="Peoria"))
        for sample in self.samples:
            if sample.customer == sample.number:
                self._add_customer(sample)
            self._set(sample)
            for execution_id in self._start(sample):
                self.executions[execution_id] = sample

    def to_the_end(self) -> None:
        """Turn after turn: what may happen happens, and when nothing may the clock jumps to what is due next."""
        engine = self.world.engine()
        for _turn in range(TURNS):
            while self._turn(engine):
                pass
            if self._something_happens():
                self.world.clock.advance(1)
                continue
            due_at = self._next_due()
            if due_at is None:
                return
            self.world.clock.advance((due_at - self.world.clock.now()).total_seconds())
        raise AssertionError(f"{self.key}: not over after {TURNS} turns")

    def found(self) -> dict[str, dict[str, Any]]:
        """What came of each sample, in the form of `expected`."""
        by_name: dict[str, UUID] = {}
        for execution_id, sample in self.executions.items():
            by_name.setdefault(sample.name, execution_id)
        with self.world.database.begin(self.dealership.organization_id) as session:
            rows = {table: list(session.scalars(select(table))) for table in LOOKED_AT}
            executions = session.scalars(select(ExecutionRow)).all()
        outcomes: dict[str, dict[str, Any]] = {}
        for sample in self.samples:
            own_id = by_name.get(sample.name)
            own = {table: [row for row in rows[table] if execution_of(row) == own_id] for table in LOOKED_AT}
            outcomes[sample.name] = {"state": "not started"} if own_id is None else outcome(self.key, own)
            children = [
                f"{row.job}: {row.state}" for row in executions if row.parent_id is not None and row.parent_id == own_id
            ]
            if children:
                outcomes[sample.name]["called"] = children
        return outcomes

    def _keys(self) -> list[str]:
        """The template, and those that it calls."""
        steps = [one.step for one in templates()[self.key].every()]
        return [self.key, *(str(one.inputs["workflow"]) for one in steps if one.kind is StepKind.SUB_WORKFLOW)]

    def _turn(self, engine: Engine) -> int:
        """One run of each job; an execution that a sample's calls is that sample's too."""
        carried = 0
        for key in self._keys():
            carried += sum(self.world.turn(key, lane=lane, engine=engine) for lane in ("interactive", "batch"))
            with self.world.database.begin(self.dealership.organization_id) as session:
                for execution_id, parent_id in session.execute(select(ExecutionRow.id, ExecutionRow.parent_id)):
                    if parent_id is not None:
                        self.executions.setdefault(execution_id, self.executions[parent_id])
        return carried

    def _start(self, sample: Sample) -> tuple[UUID, ...]:
        event = sample_event(self.dealership, self.key, sample)
        lane = CALLED.get(event.type)
        with self.world.database.begin(self.dealership.organization_id) as session:
            known = set(session.scalars(select(ExecutionRow.id)))
        if lane is None:
            self._happens(event)
        else:
            batch = Batch(
                sample.same_event_as or sample.name, event.type, event.dealership_id,
                [Subject(event.subject, event.data)], lane,
            )  # fmt: skip
            self._run(lambda session: start_batch(session, self.key, batch, now=self.world.clock.now()))
        # One that a concurrency limit turned away is listed as well, though it was not started.
        with self.world.database.begin(self.dealership.organization_id) as session:
            return tuple(set(session.scalars(select(ExecutionRow.id))) - known)

    def _run(self, work: Callable[[Any], Awaitable[Any]]) -> None:
        async def run() -> None:
            async with self.asynchronous.begin(self.dealership.organization_id) as session:
                await work(session)

        self.runner.run(run())

    def _happens(self, event: Event) -> None:
        with self.world.database.begin(event.organization_id) as session:
            deliver_blocking(session, event)

    def _connect(self, name: str, settings: dict[str, Any]) -> None:
        self._run(
            lambda session: connections.add(
                session, name, SETTINGS.validate_python(settings), secret="sk-test-0123456789", pepper=PEPPER,
                now=self.world.clock.now(),
            )
        )  # fmt: skip

    def _add_customer(self, sample: Sample) -> None:
        person = contact_id(sample.number)
        with self.world.database.begin(self.dealership.organization_id) as session:
            session.execute(customer(self.dealership, sample.number))
            for channel, level in sample.contact.get("consent", {}).items():
                session.execute(
                    insert(ContactConsentRow).values(
                        organization_id=self.dealership.organization_id, id=uuid4(), contact_id=person,
                        channel=channel, level=level, evidence="a sample", granted_at=self.world.clock.now(),
                    )
                )  # fmt: skip
            if sample.contact.get("owns"):
                session.execute(
                    insert(CustomerVehicleRow).values(
                        organization_id=self.dealership.organization_id, id=uuid4(), external_key=sample.ref,
                        dealership_id=self.dealership.dealership_id, contact_id=person, customer_name="Marisol Teague",
                        channel="sms", vin=None, make="Honda", vehicle_model="CR-V", make_key="honda",
                        vehicle_model_key="crv", year=2026, changed_at=self.world.clock.now(),
                    )
                )  # fmt: skip
            if sample.contact.get("no_mobile"):
                session.execute(update(ContactRow).where(ContactRow.id == person).values(mobile=None))
        if sample.contact.get("opted_out"):
            suppress(self.world, self.dealership, _mobile(sample))

    def _set(self, sample: Sample) -> None:
        with self.world.database.begin(self.dealership.organization_id) as session:
            session.execute(update(WorkflowRow).where(WorkflowRow.key == self.key).values(variables=sample.settings))

    def _something_happens(self) -> bool:
        """Let the next thing of every waiting sample happen, if it is what that sample waits for."""
        with self.world.database.begin(self.dealership.organization_id) as session:
            forms = {
                row.execution_id: row.id
                for row in session.scalars(select(ApprovalRow).where(ApprovalRow.state == "open"))
            }
            awaited = {
                row.execution_id: row.event_type
                for row in session.scalars(select(WaitRow).where(WaitRow.state == "open"))
            }
        happened = False
        for execution_id, sample in self.executions.items():
            following = sample.then[0] if sample.then else {}
            if "decide" in following and execution_id in forms:
                self._decide(forms[execution_id], following)
            elif "says" in following and awaited.get(execution_id) == "message.received":
                self._says(sample, following["says"])
            elif "tells" in following and awaited.get(execution_id) == following["tells"]["type"]:
                self._happens(told_event(self.dealership, sample, following["tells"]))
            else:
                continue
            sample.then.pop(0)
            happened = True
        return happened

    def _decide(self, approval_id: UUID, told: dict[str, Any]) -> None:
        # Everybody decides once: a second approval may want another person.
        person = user_principal(
            uuid4(), organization_id=self.dealership.organization_id, roles=[Role.OWNER],
            dealership_ids=None,
        )  # fmt: skip
        self._run(
            lambda session: approvals.decide(
                session, approval_id, principal=person, outcome=told["decide"], edited=told.get("edited", {}),
                now=self.world.clock.now(),
            )
        )  # fmt: skip

    def _says(self, sample: Sample, text: str) -> None:
        message = InboundSms(uuid4().hex, _mobile(sample), text)
        self._run(lambda session: inbound_messages.take(session, message, rows=COMPLIANCE, now=self.world.clock.now()))

    def _next_due(self) -> datetime | None:
        with self.world.database.begin(self.dealership.organization_id) as session:
            rows = session.execute(
                select(ExecutionRow.id, ExecutionRow.ready_at).where(ExecutionRow.state.in_(OPEN))
            ).all()
        due = {execution_id: ready_at for execution_id, ready_at in rows if ready_at < NEVER}
        if not due:
            assert not rows, f"{self.key}: {len(rows)} executions wait for ever"
            return None
        at = max(min(due.values()), self.world.clock.now() + timedelta(seconds=1))
        for execution_id, ready_at in due.items():
            sample = self.executions.get(execution_id)
            if ready_at <= at and sample is not None and sample.then and "silence" in sample.then[0]:
                sample.then.pop(0)
        return at


def _mobile(sample: Sample) -> str:
    return f"+1312555{141 + sample.customer - 1:04}"
