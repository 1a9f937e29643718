"""Passwords: which are refused, and that Argon2id runs with the promised parameters."""

import argon2
import pytest

from auterity_dagster.errors import Invalid
from auterity_dagster.identity.password import (
    NOBODYS_HASH,
    hash_password,
    is_outdated,
    require_acceptable,
    verify_password,
)


@pytest.mark.parametrize(
    "password",
    ["elevenchars", "x" * 129, "Password1234!", "qwertyuiop123", "aaaaaaaaaaaa", "abababababab", "Letmein!!!!12",
     "owner12345678"],
)  # fmt: skip
def test_an_easy_password_is_refused(password: str) -> None:
    with pytest.raises(Invalid) as refused:
        require_acceptable(password, email="owner@house.test")

    assert password not in str(refused.value)


@pytest.mark.parametrize(
    "password", ["a long walk by the river", "x9!Kq#27vTz_", "пароль из слов длинный", "x1y2z3w4" * 16]
)
def test_a_long_unusual_password_is_accepted(password: str) -> None:
    require_acceptable(password, email="owner@house.test")


def test_a_hash_fits_its_password_only_however_it_was_typed() -> None:
    stored = hash_password("café au lait, bien sûr")

    assert verify_password("cafe\u0301 au lait, bien su\u0302r", password_hash=stored)
    assert not verify_password("cafe au lait, bien sur", password_hash=stored)
    assert not verify_password("x", password_hash="no hash at all")


@pytest.mark.parametrize("stored", [None, NOBODYS_HASH])
def test_every_comparison_costs_the_promised_work(stored: str | None) -> None:
    stored = stored or hash_password("a long walk by the river")
    parameters = argon2.extract_parameters(stored)

    assert (parameters.type, parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (
        argon2.Type.ID, 64 * 1024, 3, 1
    )  # fmt: skip
    assert (parameters.salt_len, parameters.hash_len) == (16, 32)
    assert not is_outdated(stored)


def test_nobody_has_the_hash_of_nobody() -> None:
    assert not verify_password("a long walk by the river", password_hash=NOBODYS_HASH)


def test_a_weaker_hash_is_outdated() -> None:
    assert is_outdated(argon2.PasswordHasher(time_cost=1, memory_cost=1024).hash("x"))
