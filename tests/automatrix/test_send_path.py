"""Messages on their way out, on real PostgreSQL: decided under the contact's lock, put off, stopped, and visible."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from auterity_dagster.automatrix.compliance.decision import Allow, ContactFacts, DraftMessage
from auterity_dagster.automatrix.ports import IntendedMessage, MessengerFailed
from auterity_dagster.automatrix.unsubscribe import written
from auterity_dagster.storage.repositories import inbound_messages, suppressions
from auterity_dagster.storage.repositories.inbound_messages import InboundSms
from auterity_dagster.storage.repositories.send_facts import contact_facts
from auterity_dagster.storage.tables.inbound import ContactRow, InventoryVehicleRow
from auterity_dagster.storage.tables.messaging import MessageRow, SuppressionRow
from auterity_dagster.storage.tables.workflows import ExecutionRow, SideEffectRow, StepResultRow
from tests.fakes.workflow_rows import rows_of, suppress, the_only
from tests.fakes.workflow_world import (
    COMPLIANCE,
    CONTACT,
    DISCLOSURE,
    PEPPER,
    Dealership,
    World,
    install_workflow,
    one_step,
    run_async,
)

MOBILE = "+13125550141"
NIGHT = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)  # midnight in Chicago


def text_message(world: World, dealership: Dealership, body: str, sid: str = "SM1") -> str:
    async def take(session: Any) -> str:
        message = InboundSms(sid, MOBILE, body)
        return await inbound_messages.take(session, message, rows=COMPLIANCE, now=world.clock.now())

    return run_async(dealership.urls, dealership.organization_id, take)


def send(**inputs: Any) -> dict[str, Any]:
    return {
        "id": "sms",
        "kind": "send_sms",
        "idempotency_key": "execution.id + ':sms'",
        "with": {
            "contact_id": "${{ event.data.contact_id }}",
            "purpose": "inquiry_reply",
            "body": "${{ event.data.text }}",
            **inputs,
        },
    }


def sending(world: World, dealership: Dealership, body: str = "Saturday 10:00?", **inputs: Any) -> None:
    install_workflow(dealership, one_step(send(**inputs), policies=["price_claims", "no_credit_decision"]))
    dealership.lead(text=body)
    world.turn("custom_workflow")


def test_a_live_text_waits_for_the_morning_and_leaves_once(world: World, dealership: Dealership) -> None:
    world.clock.advance((NIGHT + timedelta(days=1) - world.clock.now()).total_seconds())
    world.messenger.live = True

    sending(world, dealership)
    waiting = the_only(world, dealership, ExecutionRow)
    step = the_only(world, dealership, StepResultRow)

    assert (waiting.state, world.messenger.sent) == ("queued", [])
    assert waiting.ready_at == datetime(2026, 11, 25, 14, 0, tzinfo=UTC)
    assert step.error == {"code": "quiet_hours", "message": "waits until 08:00 Chicago (us-quiet-hours)"}
    assert rows_of(world, dealership, SideEffectRow) == []

    world.clock.advance(8 * 3600)
    world.turn("custom_workflow")

    assert the_only(world, dealership, ExecutionRow).state == "succeeded"
    assert len(world.messenger.sent) == 1
    assert the_only(world, dealership, MessageRow).state == "sent"


def test_an_opt_out_that_comes_while_a_text_waits_for_the_morning_ends_it(world: World, dealership: Dealership) -> None:
    world.clock.advance((NIGHT + timedelta(days=1) - world.clock.now()).total_seconds())
    world.messenger.live = True
    sending(world, dealership)

    assert text_message(world, dealership, "Stop please") == "opted_out"
    world.clock.advance(8 * 3600)
    world.turn("custom_workflow")

    message = next(one for one in rows_of(world, dealership, MessageRow) if one.direction == "out")
    assert world.messenger.sent == []
    assert (message.state, message.reason) == ("suppressed", "opted_out")


def test_a_mail_carries_its_own_contacts_link_and_none_leaves_after_it_was_used(
    world: World, dealership: Dealership
) -> None:
    mail = send(purpose="service_reminder", subject="Your question", text="${{ event.data.text }}")
    del mail["with"]["body"]
    install_workflow(dealership, one_step({**mail, "kind": "send_email"}))
    dealership.lead(text="Saturday 10:00?")
    world.turn("custom_workflow")
    (_key, message) = world.messenger.sent[0]
    url = f"https://api.example.com/api/v1/unsubscribe/{written(PEPPER, dealership.organization_id, CONTACT)}"
    assert message.unsubscribe_url == url
    assert message.text.endswith(f"No more e-mails from us: {url}")

    run_async(
        dealership.urls,
        dealership.organization_id,
        lambda session: suppressions.end_emails(session, CONTACT, rules=("us-email-opt-out",), now=world.clock.now()),
    )
    dealership.lead(2, text="Sunday 10:00?")
    world.turn("custom_workflow")
    assert len(world.messenger.sent) == 1
    assert sorted(one.state for one in rows_of(world, dealership, MessageRow)) == ["sent", "suppressed"]


def test_a_sandbox_does_not_wait_and_says_so_in_nothing(world: World, dealership: Dealership) -> None:
    world.clock.advance((NIGHT + timedelta(days=1) - world.clock.now()).total_seconds())

    sending(world, dealership)

    assert len(world.messenger.sent) == 1


@pytest.mark.parametrize(
    ("body", "reason", "rule"),
    [
        ("It is $29,999.", "price_not_in_feed", "us-total-price"),
        ("You are approved for credit", "credit_decision", "us-credit-decisions"),
        ("Your CR-V has a recall", "recall_claimed", "us-recall-wording"),
    ],
)
def test_a_refused_message_says_which_rule_and_stays_visible(
    world: World, dealership: Dealership, body: str, reason: str, rule: str
) -> None:
    sending(world, dealership, body)

    output = the_only(world, dealership, StepResultRow).output
    message = the_only(world, dealership, MessageRow)
    assert (output["outcome"], output["reason"], rule in output["rules"]) == ("suppressed", reason, True)
    assert (message.state, message.reason, message.text, rule in message.rules) == ("suppressed", reason, body, True)
    assert the_only(world, dealership, SideEffectRow).state == "failed"


def test_a_price_must_be_in_a_feed_of_today(world: World, dealership: Dealership) -> None:
    with world.database.begin(dealership.organization_id) as session:
        session.execute(update(InventoryVehicleRow).values(fed_at=world.clock.now() - timedelta(hours=25)))

    sending(world, dealership, "It is $36,310.")

    assert the_only(world, dealership, MessageRow).reason == "price_too_old"


def test_a_recall_may_be_named_after_a_match_by_vin(world: World, dealership: Dealership) -> None:
    sending(world, dealership, "Your CR-V has an open recall. The repair is free of charge.", recall_match="vin")

    assert len(world.messenger.sent) == 1


def test_the_seventh_message_of_a_day_is_one_too_many(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(send()))
    for number in range(1, 9):
        dealership.lead(number, contact_id=str(CONTACT), text="Hello")
        world.clock.advance(60)
        world.turn("custom_workflow")

    reasons = [row.reason for row in sorted(rows_of(world, dealership, MessageRow), key=lambda row: row.created_at)]
    assert reasons == [None] * 6 + ["frequency_cap"] * 2


def test_the_second_message_of_a_thread_discloses_nothing_again(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, "lead_response", {"auto_send": True})
    for number in (1, 2):
        dealership.lead(number, contact_id=str(CONTACT))
        world.turn()

    assert [DISCLOSURE in message.text for _key, message in world.messenger.sent] == [True, False]


def test_somebody_of_whom_nothing_is_known_gets_nothing(world: World, dealership: Dealership) -> None:
    install_workflow(dealership, one_step(send()))
    dealership.lead(contact_id="00000000-0000-4000-8000-00000000dead", text="Hello")

    world.turn("custom_workflow")

    assert the_only(world, dealership, StepResultRow).output["reason"] == "no_address"
    assert rows_of(world, dealership, MessageRow) == []


def test_a_messenger_that_was_busy_is_asked_again(world: World, dealership: Dealership) -> None:
    failures = iter([MessengerFailed("overloaded", "busy", is_unknown=False)])
    take = world.messenger.send

    def busy(message: Any, key: str) -> Any:
        failure = next(failures, None)
        if failure is not None:
            raise failure
        return take(message, key)

    world.messenger.send = busy  # type: ignore[method-assign]
    sending(world, dealership)

    assert len(world.messenger.sent) == 1
    assert [row.state for row in rows_of(world, dealership, SideEffectRow)] == ["confirmed"]


class TestInboundTexts:
    def test_a_word_of_the_law_holds_at_once_and_other_wording_waits_for_a_person(
        self, world: World, dealership: Dealership
    ) -> None:
        assert text_message(world, dealership, "STOP", "SM1") == "opted_out"
        assert text_message(world, dealership, "leave me alone", "SM2") == "opted_out"

        states = sorted(row.state for row in rows_of(world, dealership, SuppressionRow))
        assert states == ["in_force", "to_confirm"]
        sending(world, dealership)
        assert world.messenger.sent == []

    def test_start_lifts_what_stop_did_and_nothing_else(self, world: World, dealership: Dealership) -> None:
        text_message(world, dealership, "STOP", "SM1")

        assert text_message(world, dealership, "Start", "SM2") == "resumed"

        sending(world, dealership)
        assert len(world.messenger.sent) == 1

    def test_the_same_message_twice_is_taken_once_and_starts_a_workflow_once(
        self, world: World, dealership: Dealership
    ) -> None:
        trigger = {"id": "text", "type": "event", "event": "message.received"}
        task = {"id": "call", "kind": "assign_task", "with": {"role": "manager", "title": "Call", "due": "PT1H"}}
        install_workflow(dealership, one_step(task, triggers=[trigger]))

        assert [text_message(world, dealership, "Is it there?") for _ in range(2)] == ["received", "duplicate"]

        assert len(rows_of(world, dealership, ExecutionRow)) == 1

    def test_a_suppression_of_another_channel_leaves_this_one_open(self, world: World, dealership: Dealership) -> None:
        suppress(world, dealership, MOBILE, channel="email")

        sending(world, dealership)

        assert len(world.messenger.sent) == 1


def opt_out_comes_between(
    world: World, dealership: Dealership, read: Callable[[Session, IntendedMessage], Any]
) -> bool:
    """The checker: can an opt-out commit while a message of its contact is being decided?"""
    draft = DraftMessage("sms", "inquiry_reply", "Hello", "template", frozenset(), "none")
    message = IntendedMessage(CONTACT, dealership.dealership_id, draft, (), True, lambda _facts: Allow("Hello", ()))

    async def opt_out(session: Any) -> None:
        await session.execute(text("SET LOCAL lock_timeout = '200ms'"))
        await inbound_messages.take(session, InboundSms("SM1", MOBILE, "STOP"), rows=COMPLIANCE, now=world.clock.now())

    with world.database.begin(dealership.organization_id) as session:
        read(session, message)
        try:
            run_async(dealership.urls, dealership.organization_id, opt_out)
        except OperationalError:
            return False
    return True


def test_an_opt_out_and_a_decision_about_the_same_contact_wait_for_each_other(
    world: World, dealership: Dealership
) -> None:
    def locked(session: Session, message: IntendedMessage) -> ContactFacts:
        return contact_facts(session, message, key="k", now=world.clock.now())

    assert not opt_out_comes_between(world, dealership, locked)


def test_without_the_contacts_lock_an_opt_out_comes_between(world: World, dealership: Dealership) -> None:
    """Negative control."""

    def unlocked(session: Session, message: IntendedMessage) -> None:
        session.scalars(select(ContactRow).where(ContactRow.id == message.contact_id)).one()

    assert opt_out_comes_between(world, dealership, unlocked)
