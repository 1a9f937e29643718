"""LoRA adapters: put on a base, checked to have moved, written as safetensors and JSON with the base's digest."""

import json
import math
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from auterity_dagster.errors import Invalid
from auterity_dagster.neuroweaver.recipe import Adapter
from auterity_dagster.training.quantised import four_bit_layers

SAFE_SUFFIXES = (".safetensors", ".json", ".jinja")
NAME = "default"


class NotLearned(Exception):
    """Training ran and taught nothing: a loss that is no number, or weights that did not move."""


def new_adapter(model: PreTrainedModel, adapter: Adapter) -> PeftModel:
    """Put a fresh adapter on a base; the caller seeds the random state first."""
    configuration = LoraConfig(
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=adapter.modules,
        task_type="CAUSAL_LM",
    )
    peft = get_peft_model(_prepared(model), configuration)
    assert isinstance(peft, PeftModel)
    return peft


def load_adapter(model: PreTrainedModel, folder: Path, *, is_trainable: bool) -> PeftModel:
    """Put a stored adapter on a base."""
    prepared = _prepared(model) if is_trainable else model
    return PeftModel.from_pretrained(
        prepared, str(folder), adapter_name=NAME, is_trainable=is_trainable, local_files_only=True
    )


def keep_full_precision(model: PeftModel) -> None:
    """Hold trained weights in float32: the trainer turns those of a 4-bit base to bfloat16, which loses small steps."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def start_from_reference(model: PeftModel) -> None:
    """Give the trained adapter the exact values of the trainer's frozen copy `ref`, which was made before rounding.

    Raises `Invalid` if there is no such copy: then the trainer would compare with the bare base.
    """
    if "ref" not in model.peft_config:
        raise Invalid("the trainer made no frozen copy of the adapter", code="wrong_start")
    for name, parameter in model.named_parameters():
        if f".{NAME}." in name:
            parameter.data = model.get_parameter(name.replace(f".{NAME}.", ".ref.")).data.float().clone()


def trained_weights(model: PeftModel) -> dict[str, torch.Tensor]:
    """Return a copy of every trained tensor."""
    return {
        name: parameter.detach().cpu().clone()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def check_moved(before: dict[str, torch.Tensor], model: PeftModel) -> None:
    """Raise `NotLearned` unless every trained tensor changed and is finite."""
    after = trained_weights(model)
    still = [name for name, tensor in before.items() if torch.equal(tensor, after[name])]
    if still or not before:
        raise NotLearned(f"{len(still)} of {len(before)} trained tensors did not move, first {still[:1]}")
    broken = [name for name, tensor in after.items() if not math.isfinite(float(tensor.abs().sum()))]
    if broken:
        raise NotLearned(f"{broken[0]} is not finite after training")


def save_adapter(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, *, base_digest: str, dtype: torch.dtype
) -> None:
    """Write the trained adapter with tokenizer and template; no pickle, no path of this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.to(dtype) for name, tensor in _adapter_state(model).items()}
    model.save_pretrained(str(folder), state_dict=state, selected_adapters=[NAME], safe_serialization=True)
    tokenizer.save_pretrained(folder)
    for path in list(folder.rglob("*")):
        if path.is_file() and path.suffix not in SAFE_SUFFIXES:
            path.unlink()
    _settle_configuration(folder / "adapter_config.json", base_digest)
    check_safe(folder)


def _settle_configuration(path: Path, base_digest: str) -> None:
    # The base is named by its digest instead of a path. PEFT keeps the modules' names in a set, whose order is another
    # one in each process: sorted, the same training has the same bytes.
    configuration = json.loads(path.read_text())
    configuration["base_model_name_or_path"] = base_digest
    if isinstance(configuration["target_modules"], list):
        configuration["target_modules"].sort()
    path.write_text(json.dumps(configuration, sort_keys=True, indent=1))


def base_of(folder: Path) -> str:
    """Return the digest of the base that a stored adapter belongs to."""
    return str(json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"])


def check_safe(folder: Path) -> None:
    """Raise `Invalid` if a folder holds anything but safetensors, JSON and the template."""
    for path in folder.rglob("*"):
        if path.is_symlink() or (path.is_file() and path.suffix not in SAFE_SUFFIXES):
            raise Invalid(
                f"{path.name} has no place in a bundle: only {', '.join(SAFE_SUFFIXES)}", code="unsafe_bundle"
            )


def _adapter_state(model: PeftModel) -> dict[str, torch.Tensor]:
    # The trainer's frozen copy `ref` stays behind: only the trained adapter is written.
    return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items() if f".{NAME}." in name}


def _prepared(model: PreTrainedModel) -> PreTrainedModel:
    if four_bit_layers(model):
        return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    for parameter in model.parameters():
        parameter.requires_grad = False
    return model
