"""What the loss mask promises, looked for token by token in the rendered text and not in how the mask is made."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from auterity_dagster.training.chat_format import IGNORED, STOP, TokenisedChat

Messages = Sequence[dict[str, str]]


def mask_faults(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, trained_turns: Sequence[int], chat: TokenisedChat
) -> list[str]:
    """Return what is wrong with a row's labels; nothing for a row that trains its answers and their stop tokens only.

    Every token of the rendered conversation is placed in the text by its offsets; one inside a trained answer or its
    stop token must be trained as itself, every other one ignored.
    """
    last = max(trained_turns)
    text = str(tokenizer.apply_chat_template([dict(each) for each in messages[: last + 1]], tokenize=False))
    spans = _spans(text, messages[: last + 1], trained_turns)
    encoded = tokenizer(text[: spans[-1][1]], add_special_tokens=False, return_offsets_mapping=True)
    if list(encoded["input_ids"]) != chat.input_ids:
        return ["the ids are not those of the rendered conversation up to its last trained stop token"]
    faults: list[str] = []
    for at, ((start, end), token, label) in enumerate(
        zip(encoded["offset_mapping"], chat.input_ids, chat.labels, strict=True)
    ):
        expected = token if any(low <= start and end <= high for low, high in spans) else IGNORED
        if label != expected:
            faults.append(f"token {at} {tokenizer.decode([token])!r} is labelled {label}, not {expected}")
    return faults + _turn_faults(tokenizer, messages, trained_turns, chat)


def _turn_faults(
    tokenizer: PreTrainedTokenizerBase, messages: Messages, trained_turns: Sequence[int], chat: TokenisedChat
) -> list[str]:
    runs: list[list[int]] = [[]]
    for label in chat.labels:
        if label != IGNORED:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    found = [tokenizer.decode(run) for run in runs if run]
    expected = [messages[turn]["content"] + STOP for turn in sorted(trained_turns)]
    return [] if found == expected else [f"the trained tokens read {found}, the answers are {expected}"]


def _spans(text: str, messages: Messages, trained_turns: Sequence[int]) -> list[tuple[int, int]]:
    """Where each trained answer and its stop token stand in the text: turns stand in order, each ends in one stop."""
    spans, at = [], 0
    for number, message in enumerate(messages):
        start = text.index(message["content"], text.index(f"{message['role']}\n", at) + len(message["role"]) + 1)
        end = start + len(message["content"]) + len(STOP)
        assert text[end - len(STOP) : end] == STOP
        if number in trained_turns:
            spans.append((start, end))
        at = end
    return spans
