"""A suite that somebody else wrote becomes items by a file, is marked by its answers, and its mistakes are named."""

from pathlib import Path

import pytest

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.neuroweaver.example import Family
from auterity_dagster.neuroweaver.scoring.families import mark
from auterity_dagster.neuroweaver.suites.external import external_items
from auterity_dagster.prompt import load_prompts

PROMPTS = load_prompts(Path(__file__).parents[2] / "config" / "prompts")
SUITE = """
suite: recall_questions
version: 2
family: service_triage
scorer: {scorer}
licence: CC-BY-4.0
items:
  - values: {{dealership: Harbor Auto, question: "My brake light is on"}}
    answers: [stop_driving, "do not drive"]
  - messages:
      - {{role: system, content: "Answer with one word."}}
      - {{role: user, content: "Is a brake fault routine?"}}
    answers: ["no"]
"""


def folder(tmp_path: Path, text: str) -> Path:
    (tmp_path / "recall.yaml").write_text(text)
    return tmp_path


def test_a_file_becomes_items_of_its_family(tmp_path: Path) -> None:
    filled, own = external_items(folder(tmp_path, SUITE.format(scorer="exact_match")), PROMPTS)

    assert (filled.family, filled.origin) == (Family.SERVICE_TRIAGE, "external:recall_questions@2")
    assert filled.messages[0].content == PROMPTS["service_triage"].system.replace("{{dealership}}", "Harbor Auto")
    assert own.messages[-1].content == "Is a brake fault routine?"


@pytest.mark.parametrize(
    ("scorer", "output", "score"),
    [
        ("exact_match", "  NO\n", 1.0),
        ("exact_match", "no, it is not", 0.0),
        ("contains", "no, it is not", 1.0),
        ("contains", "yes", 0.0),
    ],
)
def test_an_answer_is_compared_with_the_right_ones(tmp_path: Path, scorer: str, output: str, score: float) -> None:
    _, own = external_items(folder(tmp_path, SUITE.format(scorer=scorer)), PROMPTS)

    assert mark(own, output).score == score


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("question:", "query:"), "items.0: prompt service_triage takes"),
        (("scorer: exact_match", "scorer: bleu"), "scorer: Input should be"),
        (('    answers: ["no"]', ""), "items.1.answers: Field required"),
        (("  - messages:", "  - values: {}\n    messages:"), "items.1: an item has `values` or `messages`"),
    ],
    ids=["wrong value", "unknown scorer", "no answer", "both"],
)
def test_a_mistake_is_named_with_its_file_and_item(tmp_path: Path, changed: tuple[str, str], said: str) -> None:
    text = SUITE.format(scorer="exact_match").replace(*changed)

    with pytest.raises(ConfigurationInvalid, match=r"recall\.yaml") as refused:
        external_items(folder(tmp_path, text), PROMPTS)

    assert said in refused.value.message


def test_without_a_folder_there_is_no_suite(tmp_path: Path) -> None:
    assert external_items(tmp_path / "none", PROMPTS) == ()
