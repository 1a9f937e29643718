"""Turning messages into token ids with our own loss mask: a trained turn is its text and its stop token, nothing else.

No trainer's default cuts, masks or appends anything here. The template is the base model's; it is checked, not trusted:
the prompt must be a prefix of the whole, and the trained tokens must decode to the assistant's words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from auterity_dagster.errors import Invalid

STOP = "<|im_end|>"
PAD = "<|endoftext|>"
IGNORED = -100

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TokenisedChat:
    """One row for the trainer: `labels` repeats the ids that are trained and is -100 elsewhere."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained_tokens(self) -> int:
        """How many tokens bear on the loss."""
        return sum(label != IGNORED for label in self.labels)


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Pad with a token that is not the stop token, so that padding never hides that the model must stop."""
    if PAD not in tokenizer.get_vocab() or STOP not in tokenizer.get_vocab():
        raise Invalid(f"the tokenizer lacks {PAD} or {STOP}", code="chat_format")
    tokenizer.pad_token = PAD
    tokenizer.eos_token = STOP
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise Invalid("the padding token is the stop token", code="chat_format")
    return tokenizer


def pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that fills rows up to one length."""
    return _id(tokenizer, PAD)


def stop_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that ends a turn."""
    return _id(tokenizer, STOP)


def check_messages(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> None:
    """Raise `Invalid` for what the template would silently change: no system message, no content, special tokens."""
    if not messages or messages[0].get("role") != "system":
        raise Invalid("first message must be `system`: the template would invent one", field="messages")
    special = {*tokenizer.all_special_tokens, *cast(Any, tokenizer).get_added_vocab()}
    for number, message in enumerate(messages):
        content = message.get("content")
        if not isinstance(content, str) or not content:
            raise Invalid(f"message {number} has no content", field=f"messages[{number}].content")
        found = next((token for token in sorted(special) if token in content), None)
        if found is not None:
            raise Invalid(f"message {number} contains the control token {found}", field=f"messages[{number}].content")


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> str:
    """Return the text up to where the assistant begins to write."""
    check_messages(tokenizer, messages)
    text = tokenizer.apply_chat_template([dict(each) for each in messages], tokenize=False, add_generation_prompt=True)
    assert isinstance(text, str)
    return text


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Tokenise rendered text; the template wrote every special token, so none is added."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def tokenise(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, trained_turns: Sequence[int]
) -> TokenisedChat:
    """Return ids and labels of a whole conversation in which the named assistant turns are trained.

    Raises `Invalid` when a turn is no assistant's, or when the template breaks one of the mask's promises.
    """
    check_messages(tokenizer, messages)
    ids: list[int] = []
    labels: list[int] = []
    for turn in sorted(trained_turns):
        if turn >= len(messages) or messages[turn]["role"] != "assistant":
            raise Invalid(f"message {turn} is no assistant turn", field="trained_turns")
        prompt = token_ids(tokenizer, render_prompt(tokenizer, messages[:turn]))
        answer = token_ids(tokenizer, messages[turn]["content"] + STOP)
        _check_turn(tokenizer, prompt, answer, whole=_render(tokenizer, messages[: turn + 1]), turn=messages[turn])
        if prompt[: len(ids)] != ids:
            raise Invalid("an earlier trained turn is no prefix of a later turn's prompt", code="chat_format")
        ids += prompt[len(ids) :]
        labels += [IGNORED] * (len(ids) - len(labels))
        ids += answer
        labels += answer
    chat = TokenisedChat(input_ids=ids, labels=labels)
    if chat.trained_tokens == 0:
        raise Invalid("the row trains no token", field="trained_turns")
    return chat


def _id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    number = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(number, int)
    return number


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> str:
    text = tokenizer.apply_chat_template([dict(each) for each in messages], tokenize=False)
    assert isinstance(text, str)
    return text


def _check_turn(
    tokenizer: PreTrainedTokenizerBase, prompt: list[int], answer: list[int], *, whole: str, turn: Message
) -> None:
    if token_ids(tokenizer, whole)[: len(prompt) + len(answer)] != prompt + answer:
        raise Invalid("prompt and answer are no prefix of the rendered conversation", code="chat_format")
    if answer[-1] != stop_id(tokenizer) or tokenizer.decode(answer[:-1]) != turn["content"]:
        raise Invalid("the trained tokens do not decode to the assistant's words", code="chat_format")
