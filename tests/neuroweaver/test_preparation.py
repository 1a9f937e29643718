"""Preparation: planted duplicates, leaks and shared keys are found, and sound rows stay."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.canaries import canary_rows
from auterity_dagster.neuroweaver.corpus.generator import generate
from auterity_dagster.neuroweaver.example import (
    EvaluationItem,
    Family,
    GeneratorMark,
    GroupKeys,
    Message,
    Split,
    TrainingExample,
    synthetic_example,
)
from auterity_dagster.neuroweaver.preparation.contamination import Guarded
from auterity_dagster.neuroweaver.preparation.duplicates import Fingerprints, folded, jaccard, label_rank, shingles
from auterity_dagster.neuroweaver.preparation.prepare import PreparationPolicy, Prepared, prepare
from auterity_dagster.neuroweaver.preparation.quality import quality
from auterity_dagster.neuroweaver.preparation.second_scan import residual_kinds
from auterity_dagster.neuroweaver.preparation.split import assigned, shared_keys
from auterity_dagster.neuroweaver.suites.suite import evaluation_suite
from auterity_dagster.prompt import load_prompts

PROMPTS = load_prompts(Path(__file__).parents[2] / "config" / "prompts")
POLICY = PreparationPolicy(salt="only for tests", key=b"only for tests")
ITEMS = evaluation_suite(PROMPTS, seed=1, items_per_family=60).items


def row(question: str, answer: str = "Yes, it is here. Can you come in?", **keys: str) -> TrainingExample:
    return synthetic_example(
        family=Family.LEAD_REPLY,
        messages=[
            Message(role="system", content="You are the assistant."),
            Message(role="user", content=question),
            Message(role="assistant", content=answer),
        ],
        group_keys=GroupKeys(**({"customer": question[:100]} | keys)),
        generator=GeneratorMark(name="test", version=1, seed=1),
        created_at=datetime(2026, 8, 1, tzinfo=UTC),
    )


def prepared(rows: Sequence[TrainingExample], items: Sequence[EvaluationItem] = ITEMS) -> Prepared:
    return prepare(rows, items=items, policy=POLICY, names={}, previous_splits={})


@pytest.fixture(scope="module")
def dataset() -> Prepared:
    corpus = generate(PROMPTS, seed=42, conversations=1200, customers=500)
    return prepared([*corpus.rows, *canary_rows(PROMPTS, seed=42, count=40)])


def test_a_prepared_corpus_has_no_personal_data_and_no_key_in_two_splits(dataset: Prepared) -> None:
    assert [row for row in dataset.rows if residual_kinds(row.messages[1].content, key=POLICY.key)] == []
    assert shared_keys((row.group_keys, row.split) for row in dataset.rows) == ()
    assert dataset.card.contaminated == 0
    assert dataset.card.personal_data_replaced["phone"] > 5
    assert dataset.card.is_synthetic


def test_about_a_tenth_of_the_customers_tests_and_a_tenth_validates(dataset: Prepared) -> None:
    for split in (Split.TEST, Split.VALIDATION):
        assert 0.05 < len(dataset.split(split)) / len(dataset.rows) < 0.17


def test_the_digest_follows_rows_and_splits() -> None:
    rows = generate(PROMPTS, seed=42, conversations=400, customers=200).rows
    policy = PreparationPolicy(salt="a", key=b"k")
    other_salt = PreparationPolicy(salt="b", key=b"k")

    first = prepare(rows, items=ITEMS, policy=policy, names={}, previous_splits={})
    again = prepare(rows, items=ITEMS, policy=policy, names={}, previous_splits={})
    other = prepare(rows, items=ITEMS, policy=other_salt, names={}, previous_splits={})

    assert first.card.dataset_digest == again.card.dataset_digest != other.card.dataset_digest


def test_too_few_rows_are_refused_with_the_numbers() -> None:
    rows = generate(PROMPTS, seed=42, conversations=60, customers=60).rows

    with pytest.raises(Invalid, match=r"\d+ train rows, 200 needed; lead_reply has \d+") as refused:
        prepared(rows)

    assert refused.value.code == "not_enough_rows"


def test_a_planted_leak_of_an_item_is_found_and_a_sound_row_is_not() -> None:
    item = next(one for one in ITEMS if one.family is Family.LEAD_REPLY)
    leak = row(f"{item.facts}\n{item.expected['question']}")
    answer = row("Something else entirely, friend.", str(item.expected["reference"]))
    sound = row("Is the CR-V on your site still available for a test drive on a weekend?")

    guarded = Guarded(ITEMS)

    assert [guarded.is_given_away_by(one) for one in (leak, answer, sound)] == [True, True, False]


def test_without_the_items_the_planted_leak_is_not_seen() -> None:
    item = next(one for one in ITEMS if one.family is Family.LEAD_REPLY)
    leak = row(f"{item.facts}\n{item.expected['question']}")

    assert not Guarded(one for one in ITEMS if one.facts != item.facts).is_given_away_by(leak)


def test_a_short_item_is_found_by_equality() -> None:
    short = next(one for one in ITEMS if not one.facts and len(str(one.expected["question"]).split()) < 8)
    leak = row(f"CUSTOMER WROTE\n{str(short.expected['question']).upper()}")

    assert Guarded([short]).is_given_away_by(leak)


def kept(rows: Sequence[TrainingExample]) -> tuple[list[TrainingExample], int, int]:
    fingerprints = Fingerprints(None)
    for one in rows:
        fingerprints.add(folded(one))
    found = fingerprints.kept(sorted(range(len(rows)), key=lambda at: label_rank(rows[at].label)))
    return [rows[at] for at in found.positions], found.exact, found.near


def test_equal_rows_are_one_and_a_changed_price_is_another_row() -> None:
    first = row("Is the CR-V still here? I saw it on your page for the total price of $36,310 yesterday.", customer="a")
    spaced = row(
        "is the  CR-V still here? I saw it on your page for the total price of $36,310 yesterday.", customer="b"
    )
    priced = row("Is it? $35,310", customer="c")
    repriced = row("Is it? $36,310", customer="c")

    assert kept([first, spaced, priced, repriced]) == ([first, priced, repriced], 1, 0)


def test_near_duplicates_are_found_and_merely_similar_rows_stay() -> None:
    random = Random(9)
    vocabulary = [f"word{number}" for number in range(3000)]
    found_near = 0
    for _ in range(60):
        words = random.choices(vocabulary, k=120)
        near, similar = list(words), list(words)
        near[60] = "changed"
        for at in range(0, 120, 12):
            similar[at] = "changed"
        rows = [row(" ".join(words)), row(" ".join(near)), row(" ".join(similar))]
        assert jaccard(shingles(" ".join(words)), shingles(" ".join(near))) >= 0.85
        found_near += kept(rows)[2]

    assert found_near >= 59


def test_an_edited_row_stays_rather_than_an_unlabelled_equal_one() -> None:
    plain = row("Is the CR-V still here?").model_copy(update={"label": "none"})
    edited = row("Is the CR-V still here?", customer="other").model_copy(update={"label": "edited"})

    assert kept([plain, edited])[0] == [edited]


def test_a_reply_that_invents_a_price_is_no_good_row() -> None:
    facts = "FACTS\n- stock H26110: 2026 Honda CR-V EX, new, available, total price $36,310\n"
    right = row(f"{facts}price?", "The CR-V (stock H26110) is $36,310. Can you come in?")
    wrong = row(f"{facts}price?", "The CR-V (stock H26110) is $31,999. Can you come in?")

    assert quality(right) == 1.0
    assert quality(wrong) <= 0.6


keys = st.integers(0, 12).map(str)


@given(st.lists(st.tuples(keys, keys, keys), min_size=1, max_size=40), st.dictionaries(keys, st.sampled_from(Split)))
def test_no_customer_vehicle_or_lead_is_in_two_splits_and_nobody_moves_towards_training(
    triples: list[tuple[str, str, str]], previous: dict[str, Split]
) -> None:
    rows = [
        row(f"question {number}", customer=customer, vehicle=vehicle, lead=lead)
        for number, (customer, vehicle, lead) in enumerate(triples)
    ]
    strictness = [Split.TRAIN, Split.VALIDATION, Split.TEST]

    result = assigned(rows, salt="s", previous=previous)

    assert shared_keys((one.group_keys, one.split) for one in result) == ()
    for one in result:
        assert one.split is not None
        before = previous.get(one.group_keys.customer, Split.TRAIN)
        assert strictness.index(one.split) >= strictness.index(before)


def test_the_check_of_splits_can_fail() -> None:
    first = row("a", customer="x", vehicle="v").model_copy(update={"split": Split.TRAIN})
    second = row("b", customer="y", vehicle="v").model_copy(update={"split": Split.TEST})

    assert shared_keys((one.group_keys, one.split) for one in (first, second)) == ("vehicle:v",)


OWNER = {"organization_id": UUID(int=1), "consent_id": UUID(int=3), "source": "import_csv"}


def owned(rows: Sequence[TrainingExample], *, days: int, dealership: int = 2) -> list[TrainingExample]:
    begin = datetime(2026, 8, 1, tzinfo=UTC)
    return [
        one.model_copy(
            update={
                **OWNER,
                "dealership_id": UUID(int=dealership),
                "created_at": begin + timedelta(days=at * days / len(rows)),
            }
        )
        for at, one in enumerate(rows)
    ]


def test_the_last_fourteen_days_train_nobody_and_still_test() -> None:
    rows = owned(generate(PROMPTS, seed=42, conversations=1200, customers=1200).rows, days=100)

    found = prepared(rows)

    since = found.card.held_out_since
    assert found.card.withheld_recent > 100
    assert since is not None
    assert {one.split for one in found.rows if one.created_at >= since} == {Split.TEST}


def test_rows_that_are_all_young_are_not_withheld() -> None:
    rows = owned(generate(PROMPTS, seed=42, conversations=600, customers=600).rows, days=10)

    assert (prepared(rows).card.withheld_recent, prepared(rows).card.held_out_since) == (0, None)


def test_the_customers_of_the_held_out_dealership_only_test() -> None:
    rows = generate(PROMPTS, seed=42, conversations=1200, customers=1200).rows
    here, there = owned(rows[:1000], days=10), owned(rows[1000:], days=10, dealership=9)
    policy = PreparationPolicy(salt="s", key=b"k", held_out_dealership=UUID(int=9))

    found = prepare([*here, *there], items=ITEMS, policy=policy, names={}, previous_splits={})

    assert {one.split for one in found.rows if one.dealership_id == UUID(int=9)} == {Split.TEST}
