"""Signatures: what the standard's own library signs is accepted; forged, expired and broken ones are refused."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook

from auterity_dagster.errors import NotAuthenticated
from auterity_dagster.serving.webhook_signature import sign, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BODY = "<adf>José</adf>".encode()


def headers(
    *, message_id: str = "msg_1", at: datetime = NOW, body: bytes = BODY, secret: str = SECRET
) -> dict[str, str]:
    timestamp = int(at.timestamp())
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(SECRET, message_id="msg_1", timestamp=timestamp, body=body),
    }


def accepted(given_headers: dict[str, str], body: bytes = BODY, *, now: datetime = NOW) -> bool:
    try:
        verify(SECRET, given_headers, body, now=now)
    except NotAuthenticated:
        return False
    return True


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=200))
def test_we_sign_as_the_standards_library_does(text: str) -> None:
    theirs = Webhook(SECRET).sign("msg_1", NOW, text)

    assert sign(SECRET, message_id="msg_1", timestamp=int(NOW.timestamp()), body=text.encode()) == theirs


def test_what_we_sign_the_standards_library_accepts() -> None:
    Webhook(SECRET).verify(BODY, headers(at=datetime.now(UTC)), json_parse=False)


def test_bytes_that_are_no_utf8_are_accepted() -> None:
    body = b"<adf>Zo\xeb</adf>"

    assert accepted(headers(body=body), body)


@pytest.mark.parametrize(
    ("seconds", "is_accepted"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)]
)
def test_five_minutes_either_way_are_accepted(seconds: int, is_accepted: bool) -> None:
    assert accepted(headers(at=NOW + timedelta(seconds=seconds))) == is_accepted


def test_one_of_two_signatures_is_enough_while_a_secret_rotates() -> None:
    both = headers()
    both["webhook-signature"] = f"v1,{'A' * 43}= {both['webhook-signature']}"

    assert accepted(both)


def forged_headers(seed: int) -> tuple[dict[str, str], bytes]:
    """One of many ways to get it wrong."""
    chance = random.Random(seed)
    good = headers()
    name = chance.choice(sorted(good))
    body = BODY
    match seed % 8:
        case 0:
            good.pop(name)
        case 1:
            good["webhook-signature"] = sign(
                "whsec_" + "QUFB" * 8, message_id="msg_1", timestamp=int(NOW.timestamp()), body=BODY
            )
        case 2:
            spot = chance.randrange(len(BODY))
            body = BODY[:spot] + bytes([BODY[spot] ^ (1 + chance.randrange(255))]) + BODY[spot + 1 :]
        case 3:
            good["webhook-id"] = f"msg_{chance.randrange(2, 10**6)}"
        case 4:
            good["webhook-timestamp"] = str(int(good["webhook-timestamp"]) + chance.randrange(1, 290))
        case 5:
            good = headers(at=NOW - timedelta(seconds=chance.randrange(301, 10**6)))
        case 6:
            good["webhook-signature"] = chance.choice(
                ["", "v1", "v1,", "v2" + good["webhook-signature"][2:], "v1,%%", ",,"]
            )
        case _:
            good["webhook-timestamp"] = chance.choice(["", "now", "1e9", "-1", "nan", " 1", "9" * 40, "١٢٣"])
    return good, body


@pytest.mark.parametrize("seed", range(200))
def test_a_forged_expired_or_broken_delivery_is_refused(seed: int) -> None:
    forged, body = forged_headers(seed)

    assert not accepted(forged, body)
    assert accepted(headers())


@settings(max_examples=300)
@given(
    st.dictionaries(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text()), st.binary()
)
def test_no_headers_and_no_bytes_raise_anything_else(given_headers: dict[str, str], body: bytes) -> None:
    assert not accepted(given_headers, body)
