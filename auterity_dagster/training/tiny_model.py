"""A random two-layer Llama with a tokenizer of its own: the whole chain in seconds, for tests and dry runs.

The vocabulary is what costs: with SmolLM2's 49,152 entries the same net is 75 times slower.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from auterity_dagster.training.chat_format import PAD, STOP, pad_id, stop_id

_START = "<|im_start|>"
_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_TEXT = (
    "You are the assistant of the dealership. Answer the customer's question, using only the facts. "
    "Write the reply. Write the reminder. FACTS stock new available total price appointment times Saturday Tuesday "
    "service due mile vehicle Honda Toyota Ford CR-V RAV4 F-150 hours Mon-Sat urgency routine soon today stop_driving "
    "department parts body_shop brakes steering airbags fuel nothing in stock fits this request 0 1 2 3 4 5 6 7 8 9 $"
)


def write_tiny_model(folder: Path, *, seed: int, vocabulary: int = 610) -> None:
    """Write tokenizer, chat template and random weights; equal seeds give equal bytes."""
    tokenizer = _tokenizer(vocabulary)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    configuration = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=pad_id(tokenizer),
        bos_token_id=pad_id(tokenizer) + 1,
        eos_token_id=stop_id(tokenizer),
    )
    LlamaForCausalLM(configuration).save_pretrained(folder)


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, _START, STOP],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sentences(), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=_START, eos_token=STOP, pad_token=PAD, clean_up_tokenization_spaces=False
    )
    wrapped.chat_template = _TEMPLATE
    return wrapped


def _sentences() -> Iterator[str]:
    words = _TEXT.split()
    for start in range(len(words)):
        yield " ".join(words[start:])
