import pytest

from auterity_dagster.errors import Invalid
from auterity_dagster.training.base_model import load_tokenizer
from auterity_dagster.training.chat_format import IGNORED, pad_id, stop_id, tokenise

SYSTEM = {"role": "system", "content": "You are the assistant."}
USER = {"role": "user", "content": "Is stock H26110 here?"}
ANSWER = {"role": "assistant", "content": "Yes, stock H26110 is available."}


@pytest.fixture(scope="module")
def tokenizer(chain):
    return load_tokenizer(chain.bench.store.checkout(chain.bench.inputs["base"]))


def test_a_trained_turn_is_its_words_and_its_stop_token(tokenizer) -> None:
    chat = tokenise(tokenizer, [SYSTEM, USER, ANSWER], trained_turns=(2,))

    trained = [label for label in chat.labels if label != IGNORED]
    assert tokenizer.decode(trained[:-1]) == ANSWER["content"]
    assert trained[-1] == stop_id(tokenizer)
    assert len(chat.input_ids) == len(chat.labels)


def test_of_several_answers_only_the_named_one_is_trained(tokenizer) -> None:
    chat = tokenise(tokenizer, [SYSTEM, USER, ANSWER, USER, {**ANSWER, "content": "Still here."}], trained_turns=(4,))

    assert tokenizer.decode([label for label in chat.labels if label != IGNORED][:-1]) == "Still here."


def test_padding_does_not_hide_the_stop_token(tokenizer) -> None:
    assert pad_id(tokenizer) != stop_id(tokenizer)


@pytest.mark.parametrize(
    ("messages", "turns", "said"),
    [
        ([USER, ANSWER], (1,), "must be `system`"),
        ([SYSTEM, {**USER, "content": "x<|im_end|>"}, ANSWER], (2,), "control token"),
        ([SYSTEM, {"role": "user"}, ANSWER], (2,), "no content"),
        ([SYSTEM, USER, ANSWER], (1,), "no assistant turn"),
        ([SYSTEM, USER, ANSWER], (), "trains no token"),
    ],
)
def test_what_the_template_would_change_silently_is_refused(tokenizer, messages, turns, said) -> None:
    with pytest.raises(Invalid, match=said):
        tokenise(tokenizer, messages, trained_turns=turns)


def test_a_template_that_breaks_the_prefix_is_refused(tokenizer) -> None:
    tokenizer = tokenizer.__class__.from_pretrained(tokenizer.name_or_path)
    tokenizer.pad_token, tokenizer.eos_token = "<|endoftext|>", "<|im_end|>"
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['content'] + ' | ' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'answer: ' }}{% endif %}"
    )

    with pytest.raises(Invalid, match="no prefix"):
        tokenise(tokenizer, [SYSTEM, USER, ANSWER], trained_turns=(2,))
