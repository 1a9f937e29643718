"""4-bit bases, and the guard against silently wrong gradients on CPUs with AVX512-BF16.

In bitsandbytes 0.50 the first forward in eval mode repacks a 4-bit weight for such a CPU; from then on the layer calls
a kernel without autograd and training goes on with wrong gradients. Each layer is told not to repack before any
forward, and the one warning that hints at it is an error while we train.
"""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.recipe import Quantization

if TYPE_CHECKING:
    from bitsandbytes.nn.modules import Linear4bit


def four_bit(quantization: Quantization) -> BitsAndBytesConfig:
    """Return the loader's settings for a recipe's quantisation."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization.type,
        bnb_4bit_use_double_quant=quantization.double,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def keep_differentiable(model: PreTrainedModel) -> PreTrainedModel:
    """Forbid the repacking on every 4-bit layer; must run before the model's first forward."""
    for module in four_bit_layers(model):
        if getattr(_state(module), "packing_format_for_cpu", False):
            raise Invalid("a 4-bit layer was already repacked: its gradients would be wrong", code="wrong_gradients")
        module.support_avx512bf16_for_cpu = False
    return model


def four_bit_layers(model: torch.nn.Module) -> "list[Linear4bit]":
    """Return the model's 4-bit layers; there are none where nobody has imported the library that makes them."""
    library = sys.modules.get("bitsandbytes.nn.modules")
    found = [] if library is None else [one for one in model.modules() if isinstance(one, library.Linear4bit)]
    return cast("list[Linear4bit]", found)


@contextmanager
def wrong_gradients_are_errors() -> Iterator[None]:
    """Turn the warning of a kernel without autograd into an exception."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*autograd kernel was not registered.*")
        yield


def quantization_of(model: torch.nn.Module) -> str:
    """Say what the loaded weights are, read from the model itself: `nf4-double`, `nf4`, or `none`."""
    layers = four_bit_layers(model)
    if not layers:
        return "none"
    state = _state(layers[0])
    kind = str(state.quant_type)
    return f"{kind}-double" if state.nested else kind


def _state(layer: "Linear4bit") -> Any:
    return cast(Any, layer.weight).quant_state
