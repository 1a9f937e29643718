from pathlib import Path

import pytest

from auterity_dagster.errors import PriceUnknown
from auterity_dagster.neuroweaver.estimate import (
    CostEstimate,
    Probe,
    StageEstimate,
    estimate,
    probed_steps,
    probes_from,
    steps_of,
)
from auterity_dagster.neuroweaver.machine_price import MachinePrices, cost_of, load_machine_prices, seconds_for
from auterity_dagster.neuroweaver.recipe import Recipe, load_recipe
from auterity_dagster.neuroweaver.stage import Stage

CONFIG = Path(__file__).parents[2] / "config"
DOLLAR = 1_000_000_000


def recipe(name: str) -> Recipe:
    return load_recipe(CONFIG / "recipes" / f"{name}.yaml")


def cost(*, high_s: float, cap_nusd: int) -> CostEstimate:
    stage = StageEstimate(stage=Stage.SFT, steps=10, seconds=3600, low_s=3000, high_s=high_s)
    return CostEstimate(stages=(stage,), nusd_per_hour=3 * DOLLAR, judge_cap_nusd=DOLLAR, cap_nusd=cap_nusd)


def test_equal_steps_give_a_sure_estimate() -> None:
    found = estimate(Probe(Stage.SFT, 100, (2.0, 2.0, 2.0)), fixed_s=30)

    assert (found.seconds, found.low_s, found.high_s) == (230, 230, 230)


def test_the_interval_widens_with_the_spread_and_narrows_with_more_steps() -> None:
    few = estimate(Probe(Stage.SFT, 100, (1.0, 2.0, 3.0)), fixed_s=0)
    many = estimate(Probe(Stage.SFT, 100, (1.0, 2.0, 3.0) * 4), fixed_s=0)

    assert few.seconds == many.seconds == 200
    assert few.low_s < many.low_s < 200 < many.high_s < few.high_s


def test_a_twentieth_of_the_steps_is_timed() -> None:
    assert [probed_steps(steps) for steps in (4, 60, 100, 400, 10_000)] == [3, 3, 5, 20, 20]


def test_epochs_become_steps_by_the_rows() -> None:
    assert steps_of(recipe("qwen2_5_7b_qlora"), Stage.SFT, rows=1000) == 2 * 63
    assert steps_of(recipe("smollm2_cpu_qlora"), Stage.SFT, rows=1000) == 100


def test_probes_are_read_back_from_what_was_measured() -> None:
    metrics = {"sft_probed": 2.0, "sft_steps": 20.0, "sft_step_0_s": 1.5, "sft_step_1_s": 2.5, "rows": 9.0}

    assert probes_from(metrics) == (Probe(Stage.SFT, 20, (1.5, 2.5)),)


def test_the_upper_end_and_the_judges_must_fit_under_the_cap() -> None:
    assert cost(high_s=4000, cap_nusd=5 * DOLLAR).is_within_budget
    assert not cost(high_s=4900, cap_nusd=5 * DOLLAR).is_within_budget
    assert cost(high_s=4900, cap_nusd=5 * DOLLAR).told == (
        "about 3.00 USD (2.50 to 4.09) of machine time and up to 1.00 for judges, cap 5.00"
    )


def test_seconds_cost_whole_nano_dollars_rounded_up() -> None:
    assert cost_of(3600, nusd_per_hour=DOLLAR // 10) == DOLLAR // 10
    assert cost_of(0.001, nusd_per_hour=1) == 1
    assert seconds_for(DOLLAR, nusd_per_hour=3 * DOLLAR) == 1200
    assert seconds_for(DOLLAR, nusd_per_hour=0) is None


def test_every_recipe_has_a_machine_with_a_price() -> None:
    prices = load_machine_prices(CONFIG / "machines.yaml")

    for path in (CONFIG / "recipes").glob("*.yaml"):
        assert prices.nusd_per_hour(load_recipe(path).hardware) > 0


def test_processes_of_a_cpu_share_it_and_gpus_are_counted() -> None:
    hardware = recipe("qwen2_5_7b_qlora").hardware
    prices = load_machine_prices(CONFIG / "machines.yaml")
    two = hardware.model_copy(update={"processes": 2})

    assert prices.nusd_per_hour(two) == 2 * prices.nusd_per_hour(hardware)
    cpu = recipe("tiny_cpu").hardware
    assert prices.nusd_per_hour(cpu.model_copy(update={"processes": 2})) == prices.nusd_per_hour(cpu)


def test_a_machine_without_a_price_is_refused() -> None:
    with pytest.raises(PriceUnknown, match="has no price for cpu"):
        MachinePrices(version=1, machines={}).nusd_per_hour(recipe("tiny_cpu").hardware)
