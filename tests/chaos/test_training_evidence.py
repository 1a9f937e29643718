"""What decides about a model, at full size: leaks in twenty thousand rows, a thousand challengers of known worth."""

import pytest

from tests.neuroweaver.challengers import assert_worse_stay_and_better_come, shares
from tests.neuroweaver.planted_leaks import assert_all_found, dataset, findings

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


def test_fifty_planted_leaks_are_all_found_in_twenty_thousand_rows() -> None:
    rows = dataset(1, 21_000)

    assert len(rows) >= 20_000
    assert_all_found(rows[:20_000])


@pytest.mark.parametrize("seed", [11, 12, 13, 14, 15])
def test_a_clean_set_of_twenty_thousand_rows_is_not_blocked(seed: int) -> None:
    assert findings(dataset(seed, 21_000)[:20_000]) == ()


@pytest.mark.parametrize("profile", ["standard", "release"])
def test_of_a_thousand_challengers_few_worse_and_most_better_are_promoted(profile: str) -> None:
    assert_worse_stay_and_better_come(shares(profile, each=500))
