from pathlib import Path

from auterity_dagster.neuroweaver.stage import Stage
from auterity_dagster.training.checkpoint import StopRequest, newest_checkpoint


class StopAfter(StopRequest):
    """Asks to stop from the nth look on, as a signal in the middle of training would."""

    def __init__(self, looks: int) -> None:
        self._left = looks

    @property
    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


def test_a_stopped_stage_goes_on_from_its_checkpoint_and_ends_with_the_same_bytes(chain, tmp_path: Path) -> None:
    bench = chain.bench

    stopped = bench.run(Stage.SFT, stop=StopAfter(6), workdir=tmp_path)
    resumed = bench.run(Stage.SFT, workdir=tmp_path)

    assert stopped.code == 75
    assert stopped.reason == "stopped at step 7 of 20, checkpoint safe"
    assert resumed.resumed_from_step == 7
    assert resumed.digest == chain.sft.digest


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(chain, tmp_path: Path) -> None:
    bench = chain.bench
    bench.run(Stage.SFT, stop=StopAfter(12), workdir=tmp_path)
    key = bench.spec(Stage.SFT).stage_key
    newest = newest_checkpoint(tmp_path / "checkpoints", stage_key=key)
    assert newest is not None
    weights = newest.path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")

    resumed = bench.run(Stage.SFT, workdir=tmp_path)

    assert newest.step == 13
    assert resumed.resumed_from_step == 10
    assert resumed.digest == chain.sft.digest


def test_a_checkpoint_of_another_stage_is_not_used(chain, tmp_path: Path) -> None:
    chain.bench.run(Stage.SFT, stop=StopAfter(6), workdir=tmp_path)

    assert newest_checkpoint(tmp_path / "checkpoints", stage_key="f" * 64) is None
