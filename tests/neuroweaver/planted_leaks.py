"""Prepared datasets with fifty leaks in them, and what has to be found."""

from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from auterity_dagster.neuroweaver.canaries import canary_items, canary_rows
from auterity_dagster.neuroweaver.corpus.generator import generate
from auterity_dagster.neuroweaver.example import EvaluationItem, Family, Split, TrainingExample, example_id
from auterity_dagster.neuroweaver.preparation.audit import Audit, Check, Finding, Permitted, Secrets, audited
from auterity_dagster.neuroweaver.preparation.prepare import PreparationPolicy, prepare
from auterity_dagster.neuroweaver.suites.generator import SUITE_CANARY
from auterity_dagster.neuroweaver.suites.suite import evaluation_suite
from auterity_dagster.prompt import load_prompts

PROMPTS = load_prompts(Path(__file__).parents[2] / "config" / "prompts")
POLICY = PreparationPolicy(salt="only for tests", key=b"only for tests")
ITEMS = evaluation_suite(PROMPTS, seed=1, items_per_family=200).items
SECRETS = tuple(str(item.expected["secret"]) for item in canary_items(PROMPTS, seed=42, count=40))
PERMITTED = Permitted(UUID(int=1), {UUID(int=3): UUID(int=2)}, frozenset({"Apache-2.0", "customer-data"}))
PERSONAL = (
    *("Call (312) 555-0141.", "Mail ana.teague@example.com now.", "SSN 123-45-6789.", "Card 4111 1111 1111 1111."),
    *("VIN 2HKRS4H42TH719547.", "plate: 7abc-123", "my license is D1234567", "ring 312 - 555 - 0142"),
    *("ssn 234 56 7891 ok", "+1 614 555 0118 please"),
)
NOBODY: Mapping[str, tuple[str, ...]] = {}
NO_SECRETS = Secrets((), ())
ALL_SECRETS = Secrets((str(SUITE_CANARY),), SECRETS)


class Leak(NamedTuple):
    """A planted row and how it must be told."""

    example_id: str
    check: Check
    kinds: tuple[str, ...]


def dataset(seed: int, rows: int) -> list[TrainingExample]:
    corpus = generate(PROMPTS, seed=seed, conversations=rows, customers=rows // 3).rows
    planted = canary_rows(PROMPTS, seed=42, count=40)
    return list(
        prepare([*corpus, *planted], items=ITEMS, policy=POLICY, names={}, previous_splits={}).rows,
    )


def findings(
    rows: Sequence[TrainingExample],
    *,
    items: Sequence[EvaluationItem] = ITEMS,
    secrets: Secrets = ALL_SECRETS,
    names: Mapping[str, tuple[str, ...]] = NOBODY,
    source_vins: Set[str] = frozenset(),
) -> tuple[Finding, ...]:
    audit = Audit(
        items=items,
        secrets=secrets,
        key=POLICY.key,
        names=names,
        source_vins=source_vins,
        permitted=PERMITTED,
        folder=None,
    )
    return audited(rows, audit, progress=lambda _done: None)


def saying(row: TrainingExample, change: Callable[[str], str], *, turn: int, **keys: str) -> TrainingExample:
    messages = list(row.messages)
    messages[turn] = messages[turn].model_copy(update={"content": change(messages[turn].content)})
    return row.model_copy(
        update={
            "messages": tuple(messages),
            "example_id": example_id(messages, None),
            "group_keys": row.group_keys.model_copy(update=keys),
        }
    )


def planted(rows: list[TrainingExample]) -> tuple[list[TrainingExample], list[Leak]]:
    """Return the rows with fifty leaks in them, ten of each kind, and what has to be found."""
    changed = list(rows)
    training = [at for at, row in enumerate(rows) if row.split is Split.TRAIN and row.family is Family.LEAD_REPLY]
    places = iter(training[:: len(training) // 50])
    testing = [row for row in rows if row.split is Split.TEST and row.family is Family.LEAD_REPLY]
    asked = [item for item in ITEMS if item.family is Family.LEAD_REPLY and len(f"{item.facts}".split()) > 12]
    answers = [item for item in ITEMS if len(str(item.expected.get("reference", "")).split()) >= 13]
    leaks: list[Leak] = []

    def plant(row: TrainingExample, check: Check, *kinds: str) -> None:
        changed[at] = row
        leaks.append(Leak(row.example_id, check, kinds))

    for number in range(10):
        at = next(places)
        twin, is_near = testing[number], number % 2
        copy = saying(rows[at], lambda _text, twin=twin: twin.messages[1].content, turn=1)
        copy = saying(copy, lambda _text, twin=twin, end=" Thanks!" * is_near: f"{twin.answer}{end}", turn=2)
        kind = "near_duplicate_across_splits" if is_near else "duplicate_across_splits"
        plant(copy, Check.SPLITS_DISJOINT, kind)
        at = next(places)
        if number % 2:
            reference = str(answers[number].expected["reference"])
            plant(
                saying(rows[at], lambda _text, told=reference: told, turn=2),
                Check.CONTAMINATION_ZERO,
                "evaluation_item",
            )
        else:
            item = asked[number]
            given_away = f"{item.facts}\n{item.expected['question']}"
            leak = saying(rows[at], lambda text, more=given_away: f"{text}\n{more}", turn=1)
            plant(leak, Check.CONTAMINATION_ZERO, "evaluation_item")
        at = next(places)
        leak = saying(rows[at], lambda text, more=PERSONAL[number]: f"{text}\n{more}", turn=1)
        plant(leak, Check.PII_RESIDUAL_ZERO, "phone", "email", "ssn", "card", "vin", "plate", "licence")
        at = next(places)
        if number % 2:
            secret = f" The code is {SECRETS[number]}."
            plant(
                saying(rows[at], lambda text, more=secret: text + more, turn=2),
                Check.CONTAMINATION_ZERO,
                "planted_secret",
            )
        else:
            leak = saying(rows[at], lambda text: f"{text}\ncanary {SUITE_CANARY}", turn=1)
            plant(leak, Check.CONTAMINATION_ZERO, "suite_canary")
        at = next(places)
        key = "customer" if number % 2 else "lead"
        shared = getattr(testing[20 + number].group_keys, key)
        keys = rows[at].group_keys.model_copy(update={key: shared})
        plant(rows[at].model_copy(update={"group_keys": keys}), Check.SPLITS_DISJOINT, f"shared_{key}")
    return changed, leaks


def missed(leaks: Sequence[Leak], found: Sequence[Finding]) -> list[Leak]:
    told_of = {(one.example_id, one.check, one.kind) for one in found}
    return [one for one in leaks if not any((one.example_id, one.check, kind) in told_of for kind in one.kinds)]


def assert_all_found(rows: list[TrainingExample]) -> None:
    changed, leaks = planted(rows)

    found = findings(changed)

    assert len({leak.example_id for leak in leaks}) == 50
    assert missed(leaks, found) == []
    # A leak across splits names its partner too; nothing else is named.
    partners = {one.example_id for one in found if one.check is Check.SPLITS_DISJOINT}
    assert {one.example_id for one in found} - partners <= {leak.example_id for leak in leaks}
