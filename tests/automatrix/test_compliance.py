"""Whether a message may leave: each rule, their order, and the rows that every decision names; and broken variants."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity_dagster.automatrix.compliance.decision import (
    Allow,
    ContactFacts,
    DeferUntil,
    DraftMessage,
    SendDecision,
    Suppress,
    Suppression,
    may_send,
)
from auterity_dagster.automatrix.compliance.opt_out import read_opt_out
from auterity_dagster.automatrix.compliance.places import regions, zones
from auterity_dagster.automatrix.compliance.rows import ComplianceRows, load_compliance
from auterity_dagster.errors import ConfigurationInvalid
from tests.fakes.workflow_world import CONFIG

ROWS = load_compliance(CONFIG / "compliance.yaml")
NOW = datetime(2026, 11, 24, 18, 0, tzinfo=UTC)
PRICE = 36_310 * 10**9
CONTACT = ContactFacts(
    address="+13125550141",
    suppression=None,
    consent="inquiry",
    sent_at=(),
    is_first_in_thread=True,
    prices={PRICE: NOW - timedelta(hours=2)},
    states=frozenset(),
    dealership_state="IL",
    dealership_zone="America/Chicago",
    postal_address="Lakeside Honda, 100 Lake Street, Chicago, IL 60601",
)
DRAFT = DraftMessage("sms", "inquiry_reply", "Saturday 10:00?", "ai", frozenset(), "none")


def decide(draft: DraftMessage = DRAFT, now: datetime = NOW, rows: ComplianceRows = ROWS, **facts: Any) -> SendDecision:
    return may_send(replace(CONTACT, **facts), draft, rows=rows, now=now)


def reason(decision: SendDecision) -> str | None:
    return decision.reason if isinstance(decision, Suppress) else None


def test_an_answer_to_an_inquiry_leaves_at_noon_and_names_its_rules() -> None:
    decision = decide()

    assert isinstance(decision, Allow)
    assert decision.text.startswith("Saturday 10:00?\nWritten with the help of AI.")
    assert set(decision.rules) == {"house-ai-disclosure", "us-quiet-hours"}


def test_the_first_rule_that_stops_a_message_is_the_one_that_is_told() -> None:
    suppressed = Suppression("opted_out", NOW - timedelta(days=3))
    worst = replace(DRAFT, text="You are approved for $1", purpose="follow_up")
    facts: Any = {"suppression": suppressed, "consent": "none", "sent_at": (NOW,) * 9}

    assert reason(decide(worst, address=None, **facts)) == "no_address"
    assert reason(decide(worst, **facts)) == "opted_out"
    assert reason(decide(worst, **facts | {"suppression": None})) == "no_consent"
    assert reason(decide(worst, **facts | {"suppression": None, "consent": "written"})) == "frequency_cap"
    assert reason(decide(worst, suppression=None, consent="written")) == "price_not_in_feed"


def test_a_refusal_is_a_sentence_for_a_person_and_names_its_row() -> None:
    opted_out = decide(suppression=Suppression("opted_out", datetime(2026, 11, 20, tzinfo=UTC)))
    without = decide(replace(DRAFT, purpose="follow_up"))

    assert isinstance(opted_out, Suppress)
    assert opted_out.detail == "not sent: opted out on 2026-11-20"
    assert isinstance(without, Suppress)
    assert (without.detail, without.rules) == ("follow_up by sms needs written, there is inquiry", ("us-consent-sms",))


@pytest.mark.parametrize(
    ("purpose", "consent", "channel", "reason_given"),
    [
        ("inquiry_reply", "none", "sms", "no_consent"),
        ("inquiry_reply", "none", "email", None),
        ("service_reminder", "inquiry", "sms", "no_consent"),
        ("service_reminder", "relationship", "sms", None),
        ("follow_up", "express", "sms", "no_consent"),
        ("follow_up", "written", "sms", None),
        ("survey", "express", "sms", None),
    ],
)
def test_each_purpose_needs_its_consent(purpose: Any, consent: str, channel: Any, reason_given: str | None) -> None:
    draft = replace(DRAFT, purpose=purpose, channel=channel)
    address = "a@example.com" if channel == "email" else CONTACT.address

    assert reason(decide(draft, consent=consent, address=address)) == reason_given


@pytest.mark.parametrize(
    ("hours_ago", "state", "reason_given"),
    [
        ([1, 2, 3, 4, 5, 6], None, "frequency_cap"),
        ([1, 2, 3, 4, 5, 25], None, None),
        ([1, 2, 3], "FL", "frequency_cap"),
        ([1, 2, 25], "FL", None),
    ],
)
def test_the_strictest_cap_in_force_counts(hours_ago: list[int], state: str | None, reason_given: str | None) -> None:
    sent = tuple(NOW - timedelta(hours=hours) for hours in hours_ago)

    assert reason(decide(sent_at=sent, states=frozenset([state] if state else []))) == reason_given


@pytest.mark.parametrize(
    ("text", "author", "policies", "reason_given"),
    [
        ("It is $36,310.", "ai", [], None),
        ("It is $36,300.", "ai", [], "price_not_in_feed"),
        ("It is 36k dollars", "ai", [], None),
        ("It is $36,300.", "template", [], None),
        ("It is $36,300.", "template", ["price_claims"], "price_not_in_feed"),
        ("You are pre-approved!", "ai", [], "credit_decision"),
        ("Your loan application was declined", "template", ["no_credit_decision"], "credit_decision"),
        ("With your credit score you qualify", "ai", [], "credit_decision"),
        ("We can talk about financing on Saturday.", "ai", ["no_credit_decision"], None),
        ("Your CR-V has a recall.", "template", [], "recall_claimed"),
        ("A recall may apply to your vehicle; we will check your VIN.", "template", [], None),
    ],
)
def test_what_a_text_says_is_checked(text: str, author: Any, policies: list[str], reason_given: str | None) -> None:
    draft = replace(DRAFT, text=text, author=author, policies=frozenset(policies))

    assert reason(decide(draft)) == reason_given


def test_a_price_from_an_old_feed_is_no_fact() -> None:
    draft = replace(DRAFT, text="It is $36,310.")

    assert reason(decide(draft, prices={PRICE: NOW - timedelta(hours=25)})) == "price_too_old"
    assert isinstance(decide(draft, prices={PRICE: NOW - timedelta(hours=24)}), Allow)


def test_an_ai_is_disclosed_once_a_thread() -> None:
    disclosure = next(row.text for row in ROWS.rows if row.kind == "ai_disclosure")
    written = replace(DRAFT, text=f"Hi! {disclosure}")

    assert disclosure not in _text(decide(is_first_in_thread=False))
    assert _text(decide(written)).count(disclosure) == 1
    assert disclosure not in _text(decide(replace(DRAFT, author="template")))


def test_a_marketing_mail_names_where_the_dealership_is() -> None:
    draft = replace(DRAFT, channel="email", purpose="follow_up")
    place = CONTACT.postal_address

    assert _text(decide(draft, address="a@example.com")).endswith(f"\n\n{place}")
    assert reason(decide(draft, address="a@example.com", postal_address=None)) == "no_postal_address"


def test_a_mail_that_may_be_ended_names_the_link_once_and_a_text_never_does() -> None:
    url = "https://api.example.com/api/v1/unsubscribe/abc"
    mail = DraftMessage("email", "service_reminder", "Time for an oil change.", "template", frozenset(), "none")

    decision = decide(mail, address="ana@example.com", unsubscribe_url=url)
    named = decide(replace(mail, text=f"Time. {url}"), address="ana@example.com", unsubscribe_url=url)
    answer = decide(replace(mail, purpose="inquiry_reply"), address="ana@example.com", unsubscribe_url=url)
    sms = decide(replace(mail, channel="sms"), consent="relationship")

    assert _text(decision) == f"Time for an oil change.\n\nNo more e-mails from us: {url}"
    assert isinstance(decision, Allow)
    assert "us-email-opt-out" in decision.rules
    assert _text(named) == f"Time. {url}"
    assert url not in _text(answer)
    assert isinstance(sms, Allow)
    assert "us-email-opt-out" not in sms.rules


def _text(decision: SendDecision) -> str:
    assert isinstance(decision, Allow)
    return decision.text


@pytest.mark.parametrize(
    ("utc", "address", "states", "dealership_zone", "expected"),
    [
        # Chicago opens at 14:00 UTC in winter, closes at 03:00.
        ("2026-11-24T13:59:00", "+13125550141", "", "America/Chicago", "2026-11-24T14:00:00"),
        ("2026-11-24T14:00:00", "+13125550141", "", "America/Chicago", None),
        ("2026-11-25T02:59:00", "+13125550141", "", "America/Chicago", None),
        ("2026-11-25T03:00:00", "+13125550141", "", "America/Chicago", "2026-11-25T14:00:00"),
        # The customer is in Los Angeles, the dealership in New York: 16:00 to 02:00 UTC.
        ("2026-11-24T15:00:00", "+12135550141", "", "America/New_York", "2026-11-24T16:00:00"),
        ("2026-11-25T02:30:00", "+12135550141", "", "America/New_York", "2026-11-25T16:00:00"),
        # An address in California counts beside an area code of Chicago.
        ("2026-11-24T15:00:00", "+13125550141", "CA", "America/Chicago", "2026-11-24T16:00:00"),
        # Florida closes at 20:00: 01:00 UTC.
        ("2026-11-25T01:30:00", "+13055550141", "", "America/New_York", "2026-11-25T13:00:00"),
        # The night the clocks go forward in Chicago: 08:00 is 13:00 UTC.
        ("2027-03-14T09:00:00", "+13125550141", "", "America/Chicago", "2027-03-14T13:00:00"),
        # Nobody knows where +1800 is: the dealership's zone counts.
        ("2026-11-24T13:59:00", "+18005550141", "", "America/Chicago", "2026-11-24T14:00:00"),
    ],
)
def test_quiet_hours_hold_in_every_zone_at_once(
    utc: str, address: str, states: str, dealership_zone: str, expected: str | None
) -> None:
    decision = decide(
        now=datetime.fromisoformat(utc).replace(tzinfo=UTC),
        address=address,
        states=frozenset(filter(None, [states])),
        dealership_zone=dealership_zone,
    )

    at = decision.at if isinstance(decision, DeferUntil) else None
    assert (None if at is None else at.replace(tzinfo=None).isoformat()) == expected


def test_a_deferral_says_when_and_where() -> None:
    decision = decide(now=datetime(2026, 11, 24, 6, 0, tzinfo=UTC), address="+13035550141")

    assert isinstance(decision, DeferUntil)
    assert (decision.detail, decision.rules) == ("waits until 08:00 Denver", ("us-quiet-hours",))


def test_zones_that_never_agree_stop_the_message() -> None:
    decision = decide(address="+16715550141", dealership_zone="America/New_York", now=NOW, states=frozenset({"FL"}))

    assert isinstance(decision, (Suppress, DeferUntil))
    if isinstance(decision, DeferUntil):
        assert _is_legal(decision.at, ["Pacific/Guam", "America/New_York"], 8, 20)


def _is_legal(moment: datetime, where: list[str], begin: int, end: int) -> bool:
    return all(begin <= moment.astimezone(ZoneInfo(zone)).hour < end for zone in where)


def violations(
    rule: Callable[[ContactFacts, DraftMessage, datetime], SendDecision], moments: list[datetime]
) -> list[datetime]:
    """The checker: moments at which a text left, or was put off to, outside the hours of customer or dealership."""
    found: list[datetime] = []
    contact = replace(CONTACT, address="+12135550141", dealership_zone="America/New_York")
    for moment in moments:
        decision = rule(contact, DRAFT, moment)
        leaves = moment if isinstance(decision, Allow) else decision.at if isinstance(decision, DeferUntil) else None
        if leaves is not None and not _is_legal(leaves, ["America/Los_Angeles", "America/New_York"], 8, 21):
            found.append(moment)
    return found


HOURLY = [datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=37 * number) for number in range(500)]


def test_no_text_leaves_and_none_is_put_off_to_a_quiet_hour() -> None:
    assert violations(lambda contact, draft, now: may_send(contact, draft, rows=ROWS, now=now), HOURLY) == []


def test_a_rule_that_looks_at_the_dealership_only_is_found() -> None:
    """Negative control."""

    def dealership_only(contact: ContactFacts, draft: DraftMessage, now: datetime) -> SendDecision:
        nowhere = replace(contact, address="+18005550100")
        return may_send(nowhere, draft, rows=ROWS, now=now)

    assert violations(dealership_only, HOURLY) != []


@given(st.integers(0, 2 * 365 * 24 * 60))
def test_an_open_minute_after_a_deferral_is_found_within_two_days(minutes: int) -> None:
    now = datetime(2026, 4, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    decision = decide(now=now)

    if isinstance(decision, DeferUntil):
        assert now < decision.at <= now + timedelta(days=2)
        assert isinstance(decide(now=decision.at), Allow)


class TestOptOut:
    @pytest.mark.parametrize(
        "text",
        ["STOP", "stop", " Stop. ", "Stop please", "STOP ALL", "stop stop stop", "Unsubscribe", "OPT OUT", "opt-out",
         "quit", "End", "revoke", "cancel", "Stop texting me", "please stop messages"],
    )  # fmt: skip
    def test_the_laws_own_words_are_certain(self, text: str) -> None:
        found = read_opt_out(text, ROWS.in_force(NOW, ()))

        assert found is not None
        assert (found.is_certain, found.ends, found.rules) == (True, "channel", ("us-revocation",))

    @pytest.mark.parametrize(
        "text",
        ["Do not contact me again", "don't text me anymore", "take me off your list", "Wrong number", "leave me alone",
         "I want to opt out of this", "no more texts thanks", "please remove my number", "not interested, stop"],
    )  # fmt: skip
    def test_other_wording_stops_too_and_waits_for_a_person(self, text: str) -> None:
        found = read_opt_out(text, ROWS.in_force(NOW, ()))

        assert found is not None
        assert not found.is_certain

    @pytest.mark.parametrize(
        "text",
        ["Can I cancel my appointment on Friday?", "Does it have stop and go cruise control?", "Weekend works", "",
         "I'll stop by at 5 today", "What is the end price?", "Is it still there?"],
    )  # fmt: skip
    def test_ordinary_messages_end_nothing(self, text: str) -> None:
        assert read_opt_out(text, ROWS.in_force(NOW, ())) is None

    def test_from_2027_one_word_ends_every_channel(self) -> None:
        found = read_opt_out("stop", ROWS.in_force(datetime(2027, 1, 31, tzinfo=UTC), ()))

        assert found is not None
        assert found.ends == "all"


class TestTheFile:
    def test_a_row_binds_from_its_day_to_its_day_and_in_its_state(self) -> None:
        ids = {row.id for row in ROWS.in_force(NOW, ["CA"])}

        assert "ca-total-price" in ids
        assert not ids & {"fl-quiet-hours", "us-revocation-of-all"}
        assert "ca-total-price" not in {row.id for row in ROWS.in_force(datetime(2026, 9, 30, tzinfo=UTC), ["CA"])}

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (("begin: \"08:00\"", "begin: \"8 am\""), "rows.0.quiet_hours.begin"),
            (("end: \"21:00\"", "end: \"07:00\""), "`begin` comes before `end`"),
            (("kind: quiet_hours", "kind: silence"), "rows.0"),
            (("channels: [sms], begin", "channel: [sms], begin"), "rows.0.quiet_hours.channel"),
            (("id: fl-quiet-hours", "id: us-quiet-hours"), "us-quiet-hours stands there twice"),
            (("scope: us-fl", "scope: florida"), "rows.1.quiet_hours.scope"),
            (("from: 1995-12-20", "from: long ago"), "rows.0.quiet_hours.from"),
            (("schema_version: 1", "schema_version: 2"), "schema_version"),
        ],
    )  # fmt: skip
    def test_a_mistake_is_refused_with_its_place(self, tmp_path: Path, change: tuple[str, str], problem: str) -> None:
        text = (CONFIG / "compliance.yaml").read_text()
        assert change[0] in text
        (tmp_path / "compliance.yaml").write_text(text.replace(*change, 1))

        with pytest.raises(ConfigurationInvalid) as caught:
            load_compliance(tmp_path / "compliance.yaml")

        assert problem in caught.value.message


def test_places_come_from_the_area_code_and_from_addresses() -> None:
    assert regions("+13055550100", ["ca"]) == {"FL", "CA"}
    assert zones("+13055550100", []) == {"America/New_York"}
    assert zones(None, ["TN"]) == {"America/New_York", "America/Chicago"}
    assert regions("+442071234567", []) == frozenset()
