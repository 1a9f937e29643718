"""On a thousand conversations and the real tokenizer: only answers and their stop tokens are trained, and the model
server makes the very prompt ids that were trained."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from auterity_dagster.neuroweaver.recipe import Recipe, load_recipe
from auterity_dagster.serving.model_server.adapters import Loaded, served_tokenizer
from auterity_dagster.serving.model_server.generation import prompt_ids
from auterity_dagster.training.base_model import load_tokenizer, packaged_gguf
from auterity_dagster.training.chat_format import IGNORED, TokenisedChat, tokenise
from tests.training.conversations import Messages, conversations
from tests.training.mask_checker import mask_faults

Trained = list[tuple[Messages, tuple[int, ...], TokenisedChat]]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe(Path(__file__).parents[2] / "config" / "recipes" / "smollm2_cpu_qlora.yaml")


@pytest.fixture(scope="module")
def base_folder(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer and template of the real base, as its conversion writes them."""
    gguf = packaged_gguf(recipe.base)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
    folder = tmp_path_factory.mktemp("base")
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trainer(base_folder: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(base_folder)


@pytest.fixture(scope="module")
def bundle_folder(trainer: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizer and template as a trained bundle brings them to the model server."""
    folder = tmp_path_factory.mktemp("bundle")
    trainer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def trained(trainer: PreTrainedTokenizerBase) -> Trained:
    return [
        (messages, turns, tokenise(trainer, messages, trained_turns=turns)) for messages, turns in conversations(1000)
    ]


def served(folder: Path) -> Loaded:
    return Loaded(network=None, tokenizer=served_tokenizer(folder), context_tokens=1 << 20)


def served_differently(loaded: Loaded, trained: Trained) -> int:
    """Return of how many trained turns the server would make another prompt than the one that was trained."""
    different = 0
    for messages, turns, chat in trained:
        starts = [
            at for at in range(1, len(chat.labels)) if chat.labels[at] != IGNORED and chat.labels[at - 1] == IGNORED
        ]
        for turn, start in zip(sorted(turns), starts, strict=True):
            different += prompt_ids(loaded, messages[:turn], max_tokens=1) != chat.input_ids[:start]
    return different


def test_of_a_thousand_conversations_only_answers_and_their_stop_tokens_are_trained(trainer, trained) -> None:
    faults = {
        number: found
        for number, (messages, turns, chat) in enumerate(trained)
        if (found := mask_faults(trainer, messages, turns, chat))
    }

    assert len(trained) == 1000
    assert sum(len(turns) for _, turns, _ in trained) > 1200
    assert faults == {}


def test_the_served_prompt_ids_are_the_trained_ones(trained, bundle_folder: Path) -> None:
    assert served_differently(served(bundle_folder), trained) == 0


def test_a_mask_without_the_stop_token_is_found(trainer, trained) -> None:
    for messages, turns, chat in trained[::100]:
        labels = [*chat.labels[:-1], IGNORED]

        assert mask_faults(trainer, messages, turns, replace(chat, labels=labels))


def test_a_mask_that_begins_in_the_prompt_is_found(trainer, trained) -> None:
    for messages, turns, chat in trained[::100]:
        first = next(at for at, label in enumerate(chat.labels) if label != IGNORED)
        labels = [*chat.labels]
        labels[first - 1] = chat.input_ids[first - 1]

        assert mask_faults(trainer, messages, turns, replace(chat, labels=labels))


def test_a_server_with_another_template_is_found(trained, bundle_folder: Path) -> None:
    loaded = served(bundle_folder)
    template = str(loaded.tokenizer.chat_template)
    loaded.tokenizer.chat_template = template.replace("<|im_start|>assistant\n'", "<|im_start|>assistant'")
    assert loaded.tokenizer.chat_template != template

    assert served_differently(loaded, trained[:50]) >= 50
