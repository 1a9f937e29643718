"""The evaluation suite: hand-written items first, then generator B's, bound together by one digest."""

from collections.abc import Mapping
from typing import NamedTuple

from auterity_dagster.neuroweaver.example import EvaluationItem, Family
from auterity_dagster.neuroweaver.jsonl import digest
from auterity_dagster.neuroweaver.suites import generator, written
from auterity_dagster.prompt import PromptTemplate


class Suite(NamedTuple):
    """Items in their order, and the digest that a verdict is bound to."""

    items: tuple[EvaluationItem, ...]
    digest: str


def evaluation_suite(prompts: Mapping[str, PromptTemplate], *, seed: int, items_per_family: int) -> Suite:
    """Return `items_per_family` items of every family; the same arguments give the same digest."""
    by_hand = [
        item
        for case in written.cases()
        for item in generator.rendered(case, prompts[case.family.value], origin=written.ORIGIN, is_twinned=False)
    ]
    generated = generator.generate(prompts, seed=seed, items_per_family=items_per_family)
    items = tuple(
        item
        for family in Family
        for item in [one for one in (*by_hand, *generated) if one.family is family][:items_per_family]
    )
    return suite_of(items)


def suite_of(items: tuple[EvaluationItem, ...]) -> Suite:
    """Bind items to their digest."""
    return Suite(items, digest([item.item_id for item in items]))
