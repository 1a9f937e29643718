"""A draft replayed over stored decisions: the same policy changes nothing, another one changes what it should."""

import re
from uuid import UUID

import pytest

from auterity_dagster.relaycore.policy_replay import replay
from auterity_dagster.relaycore.steering_file import read_policy
from tests.fakes.past_decisions import FAIR, GOOD, PRICES, THEN, past
from tests.fakes.policy_mistakes import SHIPPED


def test_the_policy_that_decided_changes_nothing() -> None:
    found = replay(THEN, *past(), prices=PRICES)

    assert (found.replayed, found.changed, found.skipped, found.compared) == (4, 0, 0, 4)
    assert found.cost_before_nusd == found.cost_after_nusd > 0
    assert found.quality_before == found.quality_after == FAIR.mean


def test_a_draft_that_wants_the_best_costs_more_and_is_better() -> None:
    draft = read_policy(SHIPPED.replace("objective: balanced", "objective: best", 1), source="draft")

    found = replay(draft, *past(), prices=PRICES)

    assert found.changes == {("sandbox-small", "sandbox-large"): 4}
    assert found.cost_after_nusd > found.cost_before_nusd
    assert (found.quality_before, found.quality_after) == (FAIR.mean, GOOD.mean)
    assert [one.request_id for one in found.examples] == [UUID(int=number) for number in range(3)]
    assert found.examples[0].before.choice == "sandbox-small"


def test_a_refusal_is_a_change_and_has_no_part_in_the_sums() -> None:
    rejecting, rules = re.subn(
        r"\{pool: automotive,.*?compare: true\}\}", "{reject: not today}", SHIPPED, flags=re.DOTALL
    )
    assert rules == 1

    found = replay(read_policy(rejecting, source="draft"), *past(), prices=PRICES)

    assert found.changes == {("sandbox-small", "no_candidate"): 4}
    assert (found.compared, found.cost_before_nusd, found.quality_after) == (0, 0, None)


def test_a_deployment_that_did_not_exist_then_counts_as_one_that_can_be_called() -> None:
    written = SHIPPED.replace("sandbox-small", "sandbox-new")

    found = replay(read_policy(written, source="draft"), *past(), prices=PRICES)

    assert set(found.changes) == {("sandbox-small", "sandbox-large")}
    assert found.skipped == 0


@pytest.mark.parametrize("kind", ["policy", "catalog"])
def test_a_decision_whose_documents_are_gone_is_counted_and_not_guessed(kind: str) -> None:
    decisions, contexts = past()
    left = {place: content for place, content in contexts.items() if place[0] != kind}

    found = replay(THEN, decisions, left, prices=PRICES)

    assert (found.replayed, found.skipped) == (0, 4)
