"""4-bit training on a CPU: the guard against repacked weights, and the proof that it is needed."""

from pathlib import Path

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit

from auterity_dagster.training.quantised import wrong_gradients_are_errors

HAS_REPACKING = "avx512_bf16" in (Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else "")


def layer(*, is_guarded: bool) -> Linear4bit:
    torch.manual_seed(0)
    made = Linear4bit(128, 128, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4").to("cpu")
    if is_guarded:
        made.support_avx512bf16_for_cpu = False
    return made


def gradient_after_evaluation(made: Linear4bit) -> torch.Tensor | None:
    made.eval()
    with torch.no_grad():
        made(torch.ones(1, 128, dtype=torch.bfloat16))
    made.train()
    inputs = torch.ones(1, 128, dtype=torch.bfloat16, requires_grad=True)
    made(inputs).sum().backward()
    return inputs.grad


def test_the_guarded_layer_has_the_gradient_of_its_weights() -> None:
    made = layer(is_guarded=True)
    with wrong_gradients_are_errors():
        found = gradient_after_evaluation(made)

    inputs = torch.ones(1, 128, dtype=torch.bfloat16, requires_grad=True)
    fresh = layer(is_guarded=True)
    fresh(inputs).sum().backward()
    assert found is not None
    assert inputs.grad is not None
    assert torch.equal(found, inputs.grad)


@pytest.mark.skipif(not HAS_REPACKING, reason="only CPUs with AVX512-BF16 repack")
def test_without_the_guard_the_fault_is_there_and_raises() -> None:
    with wrong_gradients_are_errors(), pytest.raises((UserWarning, RuntimeError)):
        gradient_after_evaluation(layer(is_guarded=False))
