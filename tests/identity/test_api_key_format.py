"""API keys: what is not one is refused before anything is asked of a database."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity_dagster.errors import NotAuthenticated
from auterity_dagster.identity.api_key import ALPHABET, digest_of, new_key, new_public_id, read_key, system_key_secret

PEPPER = bytes(range(32))
KEY = new_key("live", public_id="abcdefgh")


def test_a_key_is_read_back() -> None:
    presented = read_key(PEPPER, KEY)

    assert presented.public_id == "abcdefgh"
    assert presented.digest == digest_of(PEPPER, KEY)


def test_a_key_has_the_promised_shape() -> None:
    name, mode, public_id, secret, checksum = KEY.split("_")

    assert (name, mode, len(public_id), len(secret), len(checksum)) == ("auty", "live", 8, 43, 6)


@pytest.mark.parametrize(
    "text",
    ["", "auty_live", f"{KEY}\n", f" {KEY}", KEY.replace("auty", "AUTY"), KEY.replace("live", "prod"), KEY[:-1],
     KEY * 2,     "auty_live_abcdefgh_" + "0" * 43 + "_000000"],
    ids=["empty", "short", "newline", "blank", "case", "mode", "cut", "twice", "checksum"],
)  # fmt: skip
def test_what_is_nearly_a_key_is_refused(text: str) -> None:
    with pytest.raises(NotAuthenticated):
        read_key(PEPPER, text)


@given(position=st.integers(min_value=10, max_value=len(KEY) - 1), character=st.sampled_from(ALPHABET))
def test_one_mistyped_character_is_noticed(position: int, character: str) -> None:
    mistyped = KEY[:position] + character + KEY[position + 1 :]
    if mistyped == KEY or KEY[position] == "_":
        return

    with pytest.raises(NotAuthenticated):
        read_key(PEPPER, mistyped)


@given(st.text(max_size=100))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(NotAuthenticated):
        read_key(PEPPER, text)


def test_a_digest_depends_on_the_pepper() -> None:
    assert digest_of(PEPPER, KEY) != digest_of(bytes(32), KEY)


def test_a_system_key_is_made_again_the_same_and_for_nobody_else() -> None:
    key_id, organization_id = uuid4(), uuid4()

    key = system_key_secret(PEPPER, key_id, organization_id=organization_id, public_id="sys00001")

    assert key == system_key_secret(PEPPER, key_id, organization_id=organization_id, public_id="sys00001")
    assert read_key(PEPPER, key).public_id == "sys00001"
    others = [
        system_key_secret(bytes(32), key_id, organization_id=organization_id, public_id="sys00001"),
        system_key_secret(PEPPER, uuid4(), organization_id=organization_id, public_id="sys00001"),
        system_key_secret(PEPPER, key_id, organization_id=uuid4(), public_id="sys00001"),
    ]
    assert key not in others


def test_public_ids_are_not_repeated() -> None:
    assert len({new_public_id() for _ in range(500)}) == 500
