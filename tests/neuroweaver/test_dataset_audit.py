"""The audit of a prepared dataset: fifty planted leaks are all found by row, and clean sets pass."""

from collections import Counter
from uuid import UUID

import pytest

from auterity_dagster.neuroweaver.example import Message
from auterity_dagster.neuroweaver.preparation.audit import Check, Finding, told
from auterity_dagster.neuroweaver.preparation.scrub import scrub
from tests.neuroweaver.planted_leaks import (
    NO_SECRETS,
    POLICY,
    assert_all_found,
    dataset,
    findings,
    missed,
    planted,
    saying,
)


def test_fifty_planted_leaks_are_all_found_by_row() -> None:
    assert_all_found(dataset(1, 2500))


@pytest.mark.parametrize("seed", [11, 12, 13, 14, 15])
def test_a_clean_set_is_not_blocked(seed: int) -> None:
    assert findings(dataset(seed, 1000)) == ()


def test_an_audit_that_knows_neither_items_nor_secrets_misses_twenty_of_them() -> None:
    changed, leaks = planted(dataset(1, 2500))

    unseen = missed(leaks, findings(changed, items=(), secrets=NO_SECRETS))

    assert Counter(leak.kinds for leak in unseen) == {
        ("evaluation_item",): 10,
        ("planted_secret",): 5,
        ("suite_canary",): 5,
    }


def test_a_failed_check_names_rows_and_kinds_and_no_value() -> None:
    rows = dataset(11, 1000)
    leak = saying(rows[0], lambda text: f"{text}\nCall (312) 555-0141.", turn=1)

    said = told(findings([leak, *rows[1:]]), Check.PII_RESIDUAL_ZERO)

    assert (said.rows, said.kinds, said.first) == (1, {"phone": 1}, [{"row": leak.example_id, "kind": "phone"}])


def test_a_name_and_a_vin_of_the_source_that_are_left_are_named_by_their_row() -> None:
    rows = dataset(11, 1000)
    named = saying(rows[0], lambda text: f"{text}\nask for marisol", turn=1)
    surrogate = scrub([Message(role="user", content="2HKRS4H42TH719547")], names=(), key=POLICY.key).messages[0].content
    kept = saying(rows[1], lambda text: f"{text}\n{surrogate}", turn=1)
    names = {rows[0].group_keys.customer: ("Marisol Teague",)}

    found = findings([named, kept], names=names, source_vins={surrogate})

    assert found == (
        Finding(Check.PII_RESIDUAL_ZERO, named.example_id, "name"),
        Finding(Check.PII_RESIDUAL_ZERO, kept.example_id, "vin"),
    )


@pytest.mark.parametrize(
    ("changes", "check", "kind"),
    [
        ({"consent_id": UUID(int=4)}, Check.CONSENT_PRESENT, "no_consent"),
        ({"consent_id": "synthetic"}, Check.CONSENT_PRESENT, "no_consent"),
        ({"dealership_id": UUID(int=7)}, Check.CONSENT_PRESENT, "no_consent"),
        ({"organization_id": UUID(int=9)}, Check.CONSENT_PRESENT, "foreign_organization"),
        ({"licence": "CC-BY-NC-4.0"}, Check.LICENCE_ALLOWED, "licence"),
    ],
)
def test_rows_without_consent_of_others_or_under_a_foreign_licence_are_named(
    changes: dict[str, object], check: Check, kind: str
) -> None:
    own = {
        "source": "import_csv",
        "organization_id": UUID(int=1),
        "dealership_id": UUID(int=2),
        "consent_id": UUID(int=3),
    }
    rows = dataset(11, 1000)
    sound, wrong = rows[0].model_copy(update=own), rows[1].model_copy(update={**own, **changes})

    assert findings([sound, wrong]) == (Finding(check, wrong.example_id, kind),)
