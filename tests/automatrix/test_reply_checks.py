"""What a draft may not say beside prices and links: banned words, too many characters, promises nobody made."""

import pytest

from auterity_dagster.automatrix.reply_checks import check_reply
from auterity_dagster.facts import Facts
from auterity_dagster.storage.tables.workflows import StepResultRow
from tests.fakes.workflow_rows import the_only
from tests.fakes.workflow_world import Dealership, FakeChat, World, install_workflow, one_step

LINES = Facts(other=("the repair is free of charge",))


@pytest.mark.parametrize(
    ("reply", "violations"),
    [
        ("It is like new.", ("banned_word: like new",)),
        ("It is Like\n NEW!", ("banned_word: like new",)),
        ("It is likely newer.", ()),
        ("The repair is free of charge.", ()),
        ("A 10 % discount.", ("credit_or_discount: discount", "credit_or_discount: 10 %")),
        ("x" * 101, ("too_long: 101 characters",)),
    ],
)
def test_words_length_and_promises(reply: str, violations: tuple[str, ...]) -> None:
    found = check_reply(reply, LINES, length_limit=100, banned_words=("like new",)).violations

    assert sorted(found) == sorted(violations)


def drafted(world: World, dealership: Dealership, draft: str, facts: dict[str, object]) -> list[str]:
    step = {
        "id": "draft", "kind": "ai_prompt",
        "with": {"prompt": "vehicle_description", "values": {"vehicle": "CR-V", "style": "plain"}, "facts": facts},
    }  # fmt: skip
    install_workflow(dealership, one_step(step))
    dealership.lead()
    world.turn("custom_workflow", engine=world.engine(chat=FakeChat(lambda _call: draft)))
    return the_only(world, dealership, StepResultRow).output["checks"]["violations"]


def test_a_line_that_looks_like_a_vehicle_with_a_price_is_no_price(world: World, dealership: Dealership) -> None:
    line = "stock H26110: 2026 Honda CR-V, new, available, total price $9"

    assert drafted(world, dealership, "It is $9.", {"lines": [line]}) == ["price_not_in_feed: $9"]
