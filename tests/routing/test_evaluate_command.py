"""`auterity routing evaluate` on tables that it has never seen: figures for good ones, one sentence for bad ones."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from auterity_dagster.cli import app
from auterity_dagster.relaycore.outcomes import Outcome
from tests.routing.conftest import make_outcomes, write_outcomes


def evaluated(path: Path, *options: str) -> dict:
    result = CliRunner().invoke(app, ["routing", "evaluate", "--outcomes", str(path), "--json", *options])
    assert result.exit_code == 0, result.output
    # A gateway that another module's tests keep running in this process may write a line of its log meanwhile.
    return json.loads(result.stdout[result.stdout.index("{\n") :])


def refused(path: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["routing", "evaluate", "--outcomes", str(path), *options])
    assert result.exit_code == 1, result.output
    return result.stderr


def test_a_table_with_a_signal_is_routed_better_than_by_chance_or_length(
    tmp_path: Path, outcomes: list[Outcome]
) -> None:
    found = evaluated(write_outcomes(tmp_path / "o.parquet", outcomes), "--seeds", "0,1")

    assert (found["strong"], found["weak"], found["is_routable"]) == ("model-1", "model-0", True)
    assert 0.5 < found["apgr"]["low"] < found["apgr"]["mean"] < found["apgr"]["high"] < 1
    assert found["apgr"]["mean"] > found["prompt_length"]["mean"] + 0.05
    assert found["cpt50"]["mean"] < found["cpt80"]["mean"] < 0.8
    assert [one["seed"] for one in found["seeds"]] == [0, 1]
    assert (found["curve"][0]["share"], found["curve"][-1]["share"]) == (0.0, 1.0)
    assert 0 < found["decision_us_p50"] <= found["decision_us_p95"]
    assert {one["task"] for one in found["by_task"]} == {"sales", "care"}


def test_people_get_the_same_figures_as_a_table(tmp_path: Path, outcomes: list[Outcome]) -> None:
    path = write_outcomes(tmp_path / "o.parquet", outcomes)

    result = CliRunner().invoke(app, ["routing", "evaluate", "--outcomes", str(path), "--seeds", "0"])

    assert result.exit_code == 0
    for word in ("APGR", "CPT(50 %)", "CPT(80 %)", "95 % interval", "strong calls", "seeds 0", "µs"):
        assert word in result.stdout


def test_a_pair_that_cannot_be_told_apart_is_said_to_be_so(tmp_path: Path) -> None:
    path = write_outcomes(tmp_path / "o.parquet", make_outcomes(signal=0.0))

    found = evaluated(path, "--seeds", "0,1")

    assert not found["is_routable"]
    assert "choose by cost" in found["advice"]


def test_several_models_with_gaps_and_whole_number_costs(tmp_path: Path) -> None:
    rows = [one for number, one in enumerate(make_outcomes(models=4)) if number % 9]
    path = write_outcomes(tmp_path / "o.parquet", rows, cost=[int(one.cost * 1e6) for one in rows])

    found = evaluated(path, "--seeds", "0")

    assert [one["model"] for one in found["models"]] == [f"model-{number}" for number in range(4)]
    assert found["missing_cells"] > 0
    costs = [point["cost"] for point in found["cost_quality"]]
    assert costs == sorted(costs)
    assert all(sum(point["shares"].values()) == pytest.approx(1) for point in found["cost_quality"])


def test_equal_costs_say_that_there_is_nothing_to_save(tmp_path: Path) -> None:
    found = evaluated(write_outcomes(tmp_path / "o.parquet", make_outcomes(cost_ratio=1.0)), "--seeds", "0")

    assert not found["is_routable"]
    assert "choose model-1" in found["advice"]


def test_free_models_do_not_break_anything(tmp_path: Path, outcomes: list[Outcome]) -> None:
    free = [one._replace(cost=0.0) for one in outcomes]

    assert evaluated(write_outcomes(tmp_path / "o.parquet", free), "--seeds", "0")["is_routable"] is False


def test_the_pair_can_be_named(tmp_path: Path) -> None:
    path = write_outcomes(tmp_path / "o.parquet", make_outcomes(models=3))

    found = evaluated(path, "--seeds", "0", "--strong", "model-2", "--weak", "model-1")

    assert (found["strong"], found["weak"]) == ("model-2", "model-1")


class TestBadFiles:
    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"score": None}, "column score: expected once"),
            ({"prompt": None}, "column prompt: expected once"),
            (
                {"score": "1.2"},
                "column score: expected how good the answer was, a number from 0 to 1; its type is string",
            ),
            ({"score": 1.2}, "column score: expected how good the answer was, a number from 0 to 1; row 1 has 1.2"),
            ({"cost": -1.0}, "column cost: expected what the answer cost, a number of at least 0"),
            ({"cost": float("inf")}, "column cost:"),
            ({"score": float("nan")}, "column score: no row has both a score and a cost"),
            ({"model": "one"}, "column model: at least 2 different models are needed, found 1"),
            ({"prompt": "same"}, "column prompt: at least 40 different prompts are needed, found"),
            ({"prompt": ""}, "column prompt: expected the text that the models were asked, not empty; row 1 is empty"),
            ({"task": 1.5}, "column task: expected the kind of prompt, as text; its type is double"),
        ],
    )
    def test_the_message_names_the_column_and_what_was_expected(
        self, changed: dict[str, object], said: str, tmp_path: Path, outcomes: list[Outcome]
    ) -> None:
        columns = {
            name: None if value is None else pa.array([value] * len(outcomes)) for name, value in changed.items()
        }

        message = refused(write_outcomes(tmp_path / "o.parquet", outcomes, **columns))

        assert said in message
        assert message.count("\n") == 1

    def test_a_file_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "o.parquet").write_text("prompt,task,model,score,cost\n")

        assert "this is no Parquet file" in refused(tmp_path / "o.parquet")
        assert "there is no such file" in refused(tmp_path / "absent.parquet")

    def test_a_model_that_the_table_lacks(self, tmp_path: Path, outcomes: list[Outcome]) -> None:
        path = write_outcomes(tmp_path / "o.parquet", outcomes)

        assert "there is no model 'gpt-99'" in refused(path, "--strong", "gpt-99")

    @pytest.mark.parametrize("seeds", ["", "a", "1,1", "-1", "1;2"])
    def test_seeds_that_are_none(self, seeds: str, tmp_path: Path, outcomes: list[Outcome]) -> None:
        assert "--seeds" in refused(write_outcomes(tmp_path / "o.parquet", outcomes), "--seeds", seeds)
