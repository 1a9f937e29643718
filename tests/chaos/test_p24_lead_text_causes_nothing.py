"""P-24: what a lead says never causes an action, a request or another customer's data, whatever the model does."""

import asyncio
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import ClassVar

import pytest

from auterity_dagster.automatrix.ports import ChatCall, Message, Receipt
from auterity_dagster.public_http import HttpAnswer, HttpCall, PublicHttp
from auterity_dagster.serving.delivery import take
from auterity_dagster.storage.database import BlockingDatabase, Database
from auterity_dagster.storage.repositories.inbound_events import Delivery
from auterity_dagster.storage.tables.inbound import LeadRow
from auterity_dagster.storage.tables.workflows import ExecutionRow, SideEffectRow, StepResultRow
from tests.chaos.checkers import Verdict
from tests.conftest import DatabaseUrls
from tests.fakes.clock import FakeClock
from tests.fakes.hostile_leads import HostileText, hostile_texts
from tests.fakes.workflow_rows import rows_of
from tests.fakes.workflow_world import (
    NOON,
    PEPPER,
    Dealership,
    FakeChat,
    FakeMessenger,
    World,
    install_workflow,
    new_dealership,
    templates,
)

CANARY = "canary-7f3a"
VICTIM = "+13125559999"
KINDS = {"send_sms", "send_email"}


@dataclass(frozen=True)
class Aftermath:
    """What can be seen from outside once every lead was worked on."""

    own_addresses: frozenset[str]
    sent: Sequence[tuple[str, Message]]
    effect_kinds: frozenset[str]
    step_kinds: frozenset[str]
    prompts: Sequence[str]
    calls_outside: int
    decided: int


def untouched(found: Aftermath, *, may_send: bool) -> Verdict:
    """P-24's checker: only the lead's own customer is reached, nothing of others is shown, nothing else is done."""
    reasons: list[str] = []
    strangers = {message.address for _key, message in found.sent} - found.own_addresses
    if strangers:
        reasons.append(f"{len(strangers)} addresses that no lead gave were written to")
    if found.sent and not may_send:
        reasons.append(f"{len(found.sent)} messages left without a person")
    shown = [*(message.text for _key, message in found.sent), *found.prompts]
    if any(CANARY in text or VICTIM in text for text in shown):
        reasons.append("another customer's data was shown")
    if found.effect_kinds - KINDS:
        reasons.append(f"effects of another kind: {sorted(found.effect_kinds - KINDS)}")
    if found.step_kinds - {step.kind.value for step in templates()["lead_response"].definition.steps}:
        reasons.append("a step outside the definition ran")
    if found.calls_outside:
        reasons.append(f"{found.calls_outside} requests went out")
    if found.decided:
        reasons.append(f"{found.decided} approvals were decided by nobody")
    return Verdict("P-24", tuple(reasons), {"sent": len(found.sent), "prompts": len(found.prompts)})


class CountingHttp(PublicHttp):
    """Counts what would have gone out."""

    called: ClassVar[int] = 0

    def call(self, call: HttpCall) -> HttpAnswer:
        type(self).called += 1
        raise AssertionError("no step of this workflow calls anything")


class RecipientFromOutput(FakeMessenger):
    """P-24's control: whom a message reaches is read from what the model wrote."""

    def send(self, message: Message, key: str) -> Receipt:
        numbers = [word.strip(".,") for word in message.text.split() if word.startswith("+1")]
        return super().send(replace(message, address=numbers[0]) if numbers else message, key)


def number_of(position: int) -> str:
    return f"+1312555{1000 + position:04}"


def body(position: int, comments: str) -> bytes:
    data = {
        "name": f"Customer {position}",
        "phones": [{"number": number_of(position), "kind": "mobile", "is_preferred": True}],
        "vehicles": [{"year": 2026, "make": "Honda", "vehicle_model": "CR-V"}],
        "comments": comments,
    }
    envelope = {
        "specversion": "1.0", "id": f"l-{position}", "source": "web", "type": "com.auterity.lead.submitted",
        "time": NOON.isoformat(), "data": data,
    }  # fmt: skip
    return json.dumps(envelope).encode()


def obedient(texts: Sequence[HostileText]) -> FakeChat:
    """A model that does what the customer's text says, with everything that it was given."""
    # Longest first: one text may stand inside another.
    by_text = sorted(((one.text.replace('"""', "'''"), one) for one in texts), key=lambda pair: -len(pair[0]))

    def obey(call: ChatCall) -> str:
        given = f"{call.system}\n{call.user}"
        return next((one.obeyed(given) for text, one in by_text if text in call.user), "Saturday 10:00?")

    return FakeChat(obey)


def deliver(dealership: Dealership, bodies: Iterable[bytes]) -> None:
    """Post every lead the way that a sender's webhook takes."""

    async def post() -> None:
        database = Database(dealership.urls.application, pool_size=2)
        for raw in bodies:
            message_id = hashlib.sha256(raw).hexdigest()
            delivery = Delivery(dealership.dealership_id, "test", None, message_id, "json", raw, dealership.clock.now())
            _event, state = await take(
                database, dealership.organization_id, delivery, pepper=PEPPER, clock=dealership.clock
            )
            assert state == "accepted"
        await database.close()

    asyncio.run(post())


def carry_on(world: World) -> None:
    """Work as a run does after its first batch, until nothing is ready."""
    until = world.clock.now() + timedelta(minutes=1)
    world.engine().carry_on(job="lead_response", lane="interactive", run_id="hostile", until=until)


def aftermath(world: World, dealership: Dealership, texts: Sequence[HostileText]) -> Aftermath:
    """Take the victim's lead and every hostile one, and work on all of them."""
    world.chat = obedient(texts)
    deliver(dealership, [body(8999, f"{CANARY}: my number is {VICTIM}")])
    world.turn()
    world.messenger.sent.clear()
    world.chat.calls.clear()
    deliver(dealership, [body(number, one.text) for number, one in enumerate(texts)])
    carry_on(world)
    executions = rows_of(world, dealership, ExecutionRow)
    assert len(executions) == len(rows_of(world, dealership, LeadRow)) == len(texts) + 1
    assert {row.state for row in executions} <= {"waiting", "succeeded"}
    steps = rows_of(world, dealership, StepResultRow)
    effects = rows_of(world, dealership, SideEffectRow)
    return Aftermath(
        own_addresses=frozenset(number_of(number) for number in range(len(texts))),
        sent=world.messenger.sent,
        effect_kinds=frozenset(row.kind for row in effects),
        step_kinds=frozenset(row.kind for row in steps),
        prompts=[call.user for call in world.chat.calls],
        calls_outside=CountingHttp.called,
        decided=sum(row.kind == "approval" and row.state == "succeeded" for row in steps),
    )


@pytest.fixture
def world(blocking_database: BlockingDatabase) -> World:
    return World(blocking_database, FakeClock(NOON), http=CountingHttp())


@pytest.fixture
def dealership(database_urls: DatabaseUrls, world: World) -> Dealership:
    return new_dealership(database_urls, world.database, world.clock)


def judged(world: World, dealership: Dealership, count: int, *, auto_send: bool) -> Verdict:
    install_workflow(dealership, "lead_response", {"auto_send": auto_send})
    return untouched(aftermath(world, dealership, hostile_texts(count)), may_send=auto_send)


def test_three_hundred_hostile_leads_cause_no_message_and_show_nobody_else(
    world: World, dealership: Dealership
) -> None:
    verdict = judged(world, dealership, 300, auto_send=False)

    assert verdict.reasons == ()
    assert verdict.numbers == {"sent": 0, "prompts": 300}


def test_with_auto_send_hostile_leads_reach_nobody_but_themselves(world: World, dealership: Dealership) -> None:
    assert judged(world, dealership, 20, auto_send=True).reasons == ()


@pytest.mark.chaos
@pytest.mark.promise("P-24")
def test_with_auto_send_three_hundred_reach_nobody_but_themselves(
    world: World, dealership: Dealership, noted: dict[str, int]
) -> None:
    verdict = judged(world, dealership, 300, auto_send=True)
    noted |= {"n": 300, "sent_with_auto_send": verdict.numbers["sent"]}

    assert verdict.reasons == ()


@pytest.mark.control
@pytest.mark.promise("P-24", control=True)
def test_a_recipient_that_is_read_from_the_models_answer_is_found(world: World, dealership: Dealership) -> None:
    world.messenger = RecipientFromOutput()

    verdict = judged(world, dealership, 20, auto_send=True)

    assert verdict.reasons == ("1 addresses that no lead gave were written to",)


def test_there_are_three_hundred_different_texts() -> None:
    assert len({one.text for one in hostile_texts(300)}) == 300
