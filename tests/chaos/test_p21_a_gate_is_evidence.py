"""P-21: two hundred attempts open no door without a PASS of these bytes, and of all promoters one wins a round."""

from pathlib import Path

import pytest

from auterity_dagster.storage.database import BlockingDatabase
from tests.conftest import DatabaseUrls
from tests.orchestration.release_attempts import attempts, came_through, new_workbench
from tests.storage.serving_scopes import (
    assert_one_winner_a_round,
    compared_and_set,
    last_one_wins,
    new_scope,
    rounds,
)

PROMISE = pytest.mark.promise("P-21")


@PROMISE
@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_none_of_two_hundred_attempts_registers_deploys_or_routes(
    database_urls: DatabaseUrls, blocking_database: BlockingDatabase, tmp_path: Path, noted: dict[str, int]
) -> None:
    bench = new_workbench(database_urls, blocking_database, f"sqlite:///{tmp_path}/mlflow.db", tmp_path)

    opened = {attempt: found for attempt in attempts(200) if (found := came_through(bench, attempt))}

    noted |= {"n": 200, "opened": len(opened)}
    assert opened == {}


@PROMISE
@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_of_twenty_promoters_one_wins_in_each_of_two_hundred_rounds(
    blocking_database: BlockingDatabase, noted: dict[str, int]
) -> None:
    scope = new_scope(blocking_database)

    won = rounds(scope, compared_and_set, promoters=20, count=200)

    noted |= {"n": len(won), "winners": sum(won)}
    assert_one_winner_a_round(scope, won)


@pytest.mark.promise("P-21", control=True)
@pytest.mark.control
def test_where_the_last_alias_wins_a_round_has_many_winners(blocking_database: BlockingDatabase) -> None:
    scope = new_scope(blocking_database)

    won = rounds(scope, last_one_wins, promoters=4, count=2)

    with pytest.raises(AssertionError):
        assert_one_winner_a_round(scope, won)
    assert max(won) > 1
