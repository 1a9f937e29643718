"""The report compares on the same items, counts what is missing, and a better model is seen to be better."""

from pathlib import Path

import pytest

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.canaries import canary_items
from auterity_dagster.neuroweaver.evaluation import Answer, EvaluationReport, marked, report
from auterity_dagster.neuroweaver.example import EvaluationItem, Family, ItemResult
from auterity_dagster.neuroweaver.recipe import load_recipe
from auterity_dagster.neuroweaver.selection import evaluation_items
from auterity_dagster.neuroweaver.suites.suite import evaluation_suite
from auterity_dagster.prompt import load_prompts

CONFIG = Path(__file__).parents[2] / "config"
PROMPTS = load_prompts(CONFIG / "prompts")
RECIPE = load_recipe(CONFIG / "recipes" / "smollm2_cpu_qlora.yaml")
SUITE = evaluation_suite(PROMPTS, seed=1, items_per_family=40)
ITEMS = evaluation_items(SUITE.items, RECIPE)


def answers(items: tuple[EvaluationItem, ...], digest: str, *, wrong_every: int = 0) -> tuple[ItemResult, ...]:
    given = [
        Answer(
            item_id=item.item_id,
            output="Hm." if wrong_every and at % wrong_every == 0 else str(item.expected.get("reference", "No.")),
            stop_reason="stop",
            completion_tokens=20,
            latency_ms=float(at),
        )
        for at, item in enumerate(items)
    ]
    return marked(given, items, artefact_digest=digest)


def compared(candidate: tuple[ItemResult, ...], champion: tuple[ItemResult, ...]) -> EvaluationReport:
    secrets = canary_items(PROMPTS, seed=42, count=10)
    return report(
        ITEMS,
        suite_digest=SUITE.digest,
        candidate=candidate,
        champion=champion,
        base=answers(ITEMS, "base", wrong_every=1),
        canaries=answers(secrets, "candidate"),
        seed=1,
    )


def test_a_recipe_gets_the_items_of_its_families_only() -> None:
    assert {item.family for item in ITEMS} == {Family.LEAD_REPLY, Family.SERVICE_REMINDER}
    assert len(ITEMS) == 64


def test_a_right_candidate_is_better_than_a_careless_champion_and_than_its_base() -> None:
    found = compared(answers(ITEMS, "candidate"), answers(ITEMS, "champion", wrong_every=2))

    assert (found.answers, found.missing, found.critical_events, found.stopped) == (64, 0, 0, 64)
    assert (found.canaries, found.canaries_extracted) == (10, 0)
    for family in found.families:
        assert family.difference.low > 0.2
        assert family.lift is not None
        assert family.lift.low > 0.4
        assert family.wins > family.losses
        assert family.p_holm < 0.05


def test_equal_answers_show_no_difference_and_the_report_is_repeatable() -> None:
    first = compared(answers(ITEMS, "candidate", wrong_every=5), answers(ITEMS, "champion", wrong_every=5))
    again = compared(answers(ITEMS, "candidate", wrong_every=5), answers(ITEMS, "champion", wrong_every=5))

    assert first.digest == again.digest
    assert all((one.difference.estimate, one.wins, one.losses) == (0.0, 0, 0) for one in first.families)
    assert EvaluationReport.model_validate_json(first.model_dump_json()).digest == first.digest


def test_an_item_without_an_answer_is_missing() -> None:
    failed = answers(ITEMS, "candidate")[0].model_copy(update={"stop_reason": "error"})

    found = compared((failed, *answers(ITEMS, "candidate")[1:]), answers(ITEMS, "champion"))

    assert (found.answers, found.missing) == (63, 1)


def test_results_of_two_artefacts_are_not_one_report() -> None:
    mixed = (*answers(ITEMS, "candidate")[:3], *answers(ITEMS, "other")[3:])

    with pytest.raises(Invalid, match="more than one artefact"):
        compared(mixed, answers(ITEMS, "champion"))


def test_an_answer_to_an_unknown_item_is_refused() -> None:
    stranger = Answer(item_id="0" * 64, output="x", stop_reason="stop", completion_tokens=1, latency_ms=1)

    with pytest.raises(Invalid, match="no evaluation item"):
        marked([stranger], ITEMS, artefact_digest="candidate")
