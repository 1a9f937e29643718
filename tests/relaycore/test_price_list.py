"""The price list is read strictly, and a day without a price refuses the call."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from auterity_dagster.errors import ConfigurationInvalid, PriceUnknown
from auterity_dagster.relaycore.price_list import load_prices

SHIPPED = Path(__file__).parents[2] / "config" / "prices.yaml"
NOW = datetime(2026, 11, 24, tzinfo=UTC)
ENTRY = """
  - key: test/model
    in_force_from: 2026-05-01
    source: a price of a test
    usd_per_mtok:
      - {input: "0.15", output: "0.60"}
"""


def written(tmp_path: Path, entries: str) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(f"version: 1\nprices:{entries}")
    return path


@pytest.mark.parametrize("key", ["sandbox/large", "sandbox/small", "served/smollm2-135m", "anthropic/claude-haiku-5-5"])
def test_the_shipped_list_prices_what_the_default_configuration_calls(key: str) -> None:
    price = load_prices(SHIPPED).in_force(key, NOW)

    assert price.tiers[0].input > 0
    assert len(price.digest) == 64


def test_a_sandbox_price_says_that_it_is_one() -> None:
    assert load_prices(SHIPPED).in_force("sandbox/large", NOW).source.startswith("SANDBOX")


def test_the_newest_entry_that_has_begun_is_in_force(tmp_path: Path) -> None:
    later = ENTRY.replace("2026-05-01", "2026-06-01").replace("0.15", "0.20")
    prices = load_prices(written(tmp_path, ENTRY + later))

    before = prices.in_force("test/model", datetime(2026, 5, 31, 23, 59, tzinfo=UTC))
    after = prices.in_force("test/model", datetime(2026, 6, 1, tzinfo=UTC))

    assert (before.tiers[0].input, after.tiers[0].input) == (150_000_000, 200_000_000)
    assert before.digest != after.digest


@pytest.mark.parametrize("key", ["test/model", "test/other"])
def test_a_day_without_a_price_refuses_the_call(tmp_path: Path, key: str) -> None:
    prices = load_prices(written(tmp_path, ENTRY))

    with pytest.raises(PriceUnknown) as refused:
        prices.in_force(key, datetime(2026, 4, 30, tzinfo=UTC))

    assert refused.value.message == f"No price is in force for {key} on 2026-04-30. The call was refused."


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (ENTRY.replace('"0.15"', "0.15"), "valid string"),
        (ENTRY.replace('"0.15"', '"-1"'), "pattern"),
        (ENTRY.replace('"0.15"', '"1e3"'), "pattern"),
        (ENTRY.replace('input: "0.15", ', ""), "input: Field required"),
        (ENTRY.replace("input:", "imput:"), "imput: Extra inputs"),
        (ENTRY.replace("source: a price of a test", "source: ''"), "source"),
        (ENTRY + ENTRY, "two entries for test/model from 2026-05-01"),
        (ENTRY.replace("key: test/model", "key: test/model\n    key: test/again"), "duplicate key"),
        (ENTRY.replace("source:", "free: true\n    source:"), "either `usd_per_mtok` or `free: true`"),
        (ENTRY.replace("{input", "{above_prompt_tokens: 5, input"), "must start at 0"),
        ("\n  - [", "while parsing"),
        (" nothing", "prices"),
    ],
)
def test_a_wrong_list_is_refused_with_the_place(tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=said) as refused:
        load_prices(written(tmp_path, wrong))

    assert "prices.yaml" in refused.value.message


def test_a_missing_list_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationInvalid, match="No such file"):
        load_prices(tmp_path / "absent.yaml")


def test_free_is_written_out(tmp_path: Path) -> None:
    entry = "\n  - {key: own/free, in_force_from: 2026-01-01, source: a gift of the house, free: true}\n"

    price = load_prices(written(tmp_path, entry)).in_force("own/free", NOW)

    assert (price.tiers[0].input, price.tiers[0].output, price.tiers[0].cache_read) == (0, 0, 0)
