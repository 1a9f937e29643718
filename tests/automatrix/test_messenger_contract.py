"""What every messenger promises, against servers that speak the wire: sandbox, SMTP and a text service."""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from auterity_dagster.automatrix.connection import SmsSettings, SmtpSettings
from auterity_dagster.automatrix.ports import Message, Messenger, MessengerFailed
from auterity_dagster.public_http import PublicHttp
from auterity_dagster.resources.live_messenger import LiveMessenger
from auterity_dagster.resources.sandbox_messenger import SandboxMessenger
from auterity_dagster.resources.sms_messenger import SmsMessenger
from auterity_dagster.resources.smtp_messenger import SmtpMessenger
from auterity_dagster.storage.repositories import connections
from tests.fakes.clock import FakeClock
from tests.fakes.mail_server import HOST, MailServer, mail_server
from tests.fakes.recording_service import recording_service
from tests.fakes.text_service import TextService
from tests.fakes.workflow_world import PEPPER, Dealership, World, run_async

SMS = Message(uuid4(), uuid4(), "sms", "+13125550141", None, "Saturday 10:00?\nDana", "inquiry_reply")
MAIL = replace(
    SMS,
    channel="email",
    address="ana@example.com",
    subject="Your\r\nBcc: x@evil.example question",
    text="Hi é\n.\nDana",
)
SECRET = "a long password"


@dataclass
class Wire:
    """A messenger and what is at the other end of its wire."""

    messenger: Messenger
    message: Message
    delivered: Callable[[], int]


@pytest.fixture(scope="module")
def mail() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture(scope="module")
def texts() -> Iterator[TextService]:
    service = TextService()
    with recording_service(service):
        yield service


@pytest.fixture
def wires(tmp_path: Path, mail: MailServer, texts: TextService) -> Mapping[str, Wire]:
    mail.behaviour = texts.behaviour = "take"
    mail.taken, texts.taken = [], []

    def recorded() -> int:
        return len((tmp_path / "sent.jsonl").read_text().splitlines())

    return {
        "sandbox": Wire(SandboxMessenger(tmp_path, FakeClock()), SMS, recorded),
        "smtp": Wire(smtp(mail), MAIL, lambda: len(mail.taken)),
        "sms": Wire(sms(texts), SMS, lambda: len(texts.taken)),
    }


@pytest.fixture(params=["sandbox", "smtp", "sms"])
def wire(request: pytest.FixtureRequest, wires: Mapping[str, Wire]) -> Wire:
    return wires[request.param]


def smtp(server: MailServer, **changes: Any) -> SmtpMessenger:
    settings = SmtpSettings(
        kind="smtp", host=HOST, port=server.port, username="store", from_address="sales@lakeside.example.com",
        from_name="Lakeside Honda", **changes,
    )  # fmt: skip
    http = PublicHttp(private_origins=frozenset({server.origin}), tls=server.trusting)
    return SmtpMessenger(settings, lambda: SECRET, http)


def sms(service: TextService) -> SmsMessenger:
    settings = SmsSettings(kind="sms", base_url=service.url, account_sid="AC1", from_number="+13125550100")
    http = PublicHttp(private_origins=frozenset({service.url}))
    return SmsMessenger(settings, lambda: SECRET, http, FakeClock())


def test_a_message_is_delivered_once_and_named(wire: Wire) -> None:
    receipt = wire.messenger.send(wire.message, "k1")

    assert wire.delivered() == 1
    assert receipt.message_id


def test_a_repeat_delivers_once_exactly_where_that_is_promised(wire: Wire) -> None:
    first = wire.messenger.send(wire.message, "k1")
    second = wire.messenger.send(wire.message, "k1")

    assert wire.delivered() == (1 if wire.messenger.repeats_safely(wire.message) else 2)
    if wire.messenger.repeats_safely(wire.message):
        assert first == second


def test_a_lookup_never_names_what_was_not_sent_and_may_know_what_was(wire: Wire) -> None:
    assert wire.messenger.lookup(wire.message, "k1") is None

    receipt = wire.messenger.send(wire.message, "k1")

    assert wire.messenger.lookup(wire.message, "k1") in (None, receipt)
    assert wire.messenger.lookup(replace(wire.message, text="Another"), "k2") is None


@pytest.mark.parametrize(
    ("name", "how", "code"),
    [
        ("smtp", "refuse", "invalid_input"),
        ("smtp", "busy", "overloaded"),
        ("smtp", "deny", "invalid_input"),
        ("sms", "refuse", "invalid_input"),
        ("sms", "limit", "rate_limited"),
    ],
)
def test_a_refusal_is_known_and_delivered_nothing(
    wires: Mapping[str, Wire], mail: MailServer, texts: TextService, name: str, how: str, code: str
) -> None:
    mail.behaviour = texts.behaviour = how

    with pytest.raises(MessengerFailed) as caught:
        wires[name].messenger.send(wires[name].message, "k1")

    assert (caught.value.code, caught.value.is_unknown) == (code, False)
    assert wires[name].delivered() == 0


@pytest.mark.parametrize("name", ["smtp", "sms"])
def test_a_connection_that_breaks_off_leaves_open_whether_it_was_delivered(
    wires: Mapping[str, Wire], mail: MailServer, texts: TextService, name: str
) -> None:
    mail.behaviour = texts.behaviour = "hang_up"

    with pytest.raises(MessengerFailed) as caught:
        wires[name].messenger.send(wires[name].message, "k1")

    assert caught.value.is_unknown
    assert wires[name].delivered() == 1


def test_a_text_that_was_taken_and_not_acknowledged_is_found(texts: TextService) -> None:
    texts.behaviour, texts.taken = "fail", []
    messenger = sms(texts)
    with pytest.raises(MessengerFailed):
        messenger.send(SMS, "k1")

    found = messenger.lookup(SMS, "k1")

    assert found is not None
    assert found.message_id == texts.taken[0]["sid"]


def test_a_mail_says_who_writes_and_its_id_is_the_keys(mail: MailServer) -> None:
    mail.behaviour, mail.taken = "take", []

    first = smtp(mail).send(MAIL, "k1")
    second = smtp(mail).send(MAIL, "k1")

    (taken, again) = mail.taken
    assert taken["message-id"] == again["message-id"] == first.message_id == second.message_id
    assert taken["from"] == "Lakeside Honda <sales@lakeside.example.com>"
    assert (taken["to"], taken["bcc"]) == ("ana@example.com", None)
    assert taken["subject"] == "Your Bcc: x@evil.example question"
    payload = taken.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.decode().replace("\r\n", "\n").strip() == MAIL.text
    assert mail.signed_in[-1] == f"\0store\0{SECRET}"


def test_a_mail_that_can_be_ended_tells_the_mail_program_how(mail: MailServer) -> None:
    mail.behaviour, mail.taken = "take", []
    url = f"https://api.example.com/api/v1/unsubscribe/{'A-_z' * 16}"

    smtp(mail).send(MAIL, "k1")
    smtp(mail).send(replace(MAIL, text=f"Hi\n\n{url}", unsubscribe_url=url), "k2")

    (plain, ending) = mail.taken
    assert plain["list-unsubscribe"] is None
    assert ending["list-unsubscribe"] == f"<{url}>"
    assert ending["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    payload = ending.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert url in payload.decode()


def test_a_text_carries_the_account_and_the_number(texts: TextService) -> None:
    texts.behaviour, texts.taken = "take", []

    sms(texts).send(SMS, "k1")

    asked = texts.asked[-1]
    assert asked.path == "/2010-04-01/Accounts/AC1/Messages.json"
    assert base64.b64decode(asked.headers["authorization"].split()[1]).decode() == f"AC1:{SECRET}"
    assert texts.taken[0]["body"] == SMS.text


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254"])
def test_a_server_inside_is_not_connected(mail: MailServer, host: str) -> None:
    messenger = replace(smtp(mail), http=PublicHttp(tls=mail.trusting))
    messenger = replace(messenger, settings=messenger.settings.model_copy(update={"host": host}))

    with pytest.raises(MessengerFailed) as caught:
        messenger.send(MAIL, "k1")

    assert (caught.value.code, caught.value.is_unknown) == ("blocked_address", False)


def test_a_certificate_that_nobody_vouches_for_ends_it(mail: MailServer) -> None:
    mail.behaviour, mail.taken = "take", []
    http = PublicHttp(private_origins=frozenset({mail.origin}))

    with pytest.raises(MessengerFailed) as caught:
        replace(smtp(mail), http=http).send(MAIL, "k1")

    assert not caught.value.is_unknown
    assert mail.taken == []


def test_messages_leave_only_where_an_administrator_made_them_live(
    world: World, dealership: Dealership, texts: TextService, tmp_path: Path
) -> None:
    texts.behaviour, texts.taken = "take", []
    settings = SmsSettings(kind="sms", base_url=texts.url, account_sid="AC1", from_number="+13125550100")
    http = PublicHttp(private_origins=frozenset({texts.url}))
    sandbox = SandboxMessenger(tmp_path, FakeClock())
    messenger = LiveMessenger(world.database, sandbox, http, pepper=lambda: PEPPER, clock=world.clock)
    message = replace(SMS, organization_id=dealership.organization_id)
    now = world.clock.now()

    async def connect(session: Any) -> None:
        await connections.add(session, "texts", settings, secret=SECRET, pepper=PEPPER, now=now)

    async def go_live(session: Any) -> None:
        await connections.set_live(session, "texts", is_live=True, now=now)

    run_async(dealership.urls, dealership.organization_id, connect)
    recorded = messenger.send(message, "k1")
    is_live = messenger.is_live(dealership.organization_id, "sms")
    run_async(dealership.urls, dealership.organization_id, go_live)
    sent = messenger.send(message, "k2")

    assert (is_live, messenger.is_live(dealership.organization_id, "sms")) == (False, True)
    assert recorded.message_id.startswith("sandbox-")
    assert [one["sid"] for one in texts.taken] == [sent.message_id]
    assert not messenger.is_live(dealership.organization_id, "email")
