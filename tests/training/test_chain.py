import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from auterity_dagster.neuroweaver.jsonl import read_lines
from auterity_dagster.neuroweaver.stage import AnswerLine, Stage
from auterity_dagster.storage.workdir import Workdir


def test_the_chain_learns(chain) -> None:
    assert chain.sft.metrics["held_out_loss_after"] < 0.95 * chain.sft.metrics["held_out_loss_before"]
    assert chain.sft.metrics["last_loss"] < chain.sft.metrics["first_loss"]
    assert abs(chain.dpo.metrics["first_margin"]) <= 1e-4
    assert chain.dpo.metrics["last_margin"] > 0


def test_preferences_start_from_the_sft_adapter(chain) -> None:
    started_at = chain.dpo.metrics["start_log_probability"]

    assert abs(started_at - chain.sft.metrics["reference_log_probability"]) <= 1e-3


def test_preferences_on_another_start_are_refused(chain) -> None:
    outcome = chain.bench.run(
        Stage.DPO,
        expected={"reference_log_probability": -chain.sft.metrics["held_out_loss_before"]},
        workdir=chain.bench.folder / "other",
    )

    assert outcome.code == 65
    assert "the SFT adapter had" in outcome.reason


def test_the_bundle_holds_safetensors_json_and_the_template_only(chain) -> None:
    files = chain.bench.store.manifest(chain.bundle.digest).files

    assert {name.rsplit(".", 1)[1] for name in files} == {"safetensors", "json", "jinja"}
    assert "adapter_model.safetensors" in files
    assert "chat_template.jinja" in files


def test_the_bundle_names_its_base_by_digest_and_no_path(chain) -> None:
    folder = chain.bench.store.checkout(chain.bundle.digest)
    configuration = json.loads((folder / "adapter_config.json").read_text())

    assert configuration["base_model_name_or_path"] == chain.bench.inputs["base"]
    assert str(chain.bench.folder) not in "".join(path.read_text() for path in folder.glob("*.json"))


def test_the_frozen_reference_stays_behind(chain) -> None:
    weights = load_file(chain.bench.store.checkout(chain.dpo.digest) / "adapter_model.safetensors")

    assert weights
    assert not [name for name in weights if "ref" in name]


def test_every_prompt_is_answered_by_the_bundle(chain) -> None:
    answers = read_lines(chain.bench.store.read_verified(chain.answers.digest), AnswerLine)

    assert [answer.id for answer in answers] == [f"p{number}" for number in range(6)]
    assert all(1 <= answer.completion_tokens <= 16 for answer in answers)


def test_equal_inputs_give_the_same_adapter(chain, tmp_path) -> None:
    again = chain.bench.run(Stage.SFT, workdir=tmp_path / "again")

    assert again.digest == chain.sft.digest


@pytest.mark.slow
def test_another_process_gives_the_same_adapter(chain, tmp_path: Path) -> None:
    """Names come out of sets in an order that follows the process's hash seed: this one's surely is another."""
    spec = chain.bench.spec(Stage.SFT, inputs=inputs_of_sft(chain), workdir=tmp_path / "stage")
    (tmp_path / "spec.json").write_text(spec.model_dump_json())

    subprocess.run(
        [sys.executable, "-m", "auterity_dagster.training", "sft", "--spec", str(tmp_path / "spec.json")],
        env=os.environ | {"PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )

    outcome = Workdir(spec.workdir).outcome()
    assert outcome is not None
    assert outcome.digest == chain.sft.digest


def inputs_of_sft(chain) -> dict[str, str]:
    return {name: chain.bench.inputs[name] for name in ("train", "validation", "base")}
