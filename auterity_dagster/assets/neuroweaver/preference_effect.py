"""Asking what preference training changed: the SFT adapter's answers against the bundle's, on the suite's items."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import dagster as dg

from auterity_dagster.errors import BudgetExceeded, Invalid
from auterity_dagster.neuroweaver.example import EvaluationItem, ItemResult, PreferencePair
from auterity_dagster.neuroweaver.judging import Rubric, compare
from auterity_dagster.neuroweaver.ports import Judge
from auterity_dagster.neuroweaver.preference_effect import (
    BeforeAndAfter,
    PreferenceEffect,
    before_and_after,
    effect_of,
)

_JUDGES = 8


def preference_effect(
    context: dg.AssetExecutionContext,
    judge: Judge,
    rubric: Rubric,
    items: Sequence[EvaluationItem],
    *,
    before: Sequence[ItemResult],
    after: Sequence[ItemResult],
    seed: int,
) -> PreferenceEffect | None:
    """Return the effect; None, with the reason in the log, where no answer changed or the judge could not go on."""
    answered = before_and_after(items, before=before, after=after)
    asked = [one for one in answered if one.needs_judge]
    if not asked:
        context.log.info("preference training changed no answer")
        return None

    def judged(one: BeforeAndAfter) -> PreferencePair:
        return compare(one.comparison, judge=judge, rubric=rubric)

    try:
        with ThreadPoolExecutor(_JUDGES) as pool:
            pairs = list(pool.map(judged, asked))
    except (BudgetExceeded, Invalid) as error:
        context.log.warning(f"what preference training changed was not judged: {error.message}")
        return None
    found = effect_of(answered, {one.item.item_id: pair for one, pair in zip(asked, pairs, strict=True)}, seed=seed)
    context.log.info(f"preference training is {found.told}")
    return found
