from pathlib import Path

from auterity_dagster.neuroweaver.estimate import probes_from
from auterity_dagster.neuroweaver.stage import ExitCode, Stage
from auterity_dagster.storage.workdir import Workdir
from tests.training.conftest import Chain
from tests.training.rows import EXAMPLES


def test_the_plan_times_a_few_steps_of_each_stage_and_keeps_nothing_of_them(chain: Chain, tmp_path: Path) -> None:
    outcome = chain.bench.run(Stage.PLAN, workdir=tmp_path)

    assert outcome.code is ExitCode.VERIFIED, outcome.reason
    probes = {probe.stage: probe for probe in probes_from(outcome.metrics)}
    assert {stage: (probe.steps, len(probe.step_s)) for stage, probe in probes.items()} == {
        Stage.SFT: (20, 3),
        Stage.DPO: (4, 3),
    }
    assert all(seconds > 0 for probe in probes.values() for seconds in probe.step_s)
    assert outcome.metrics["rows"] == len(EXAMPLES)
    assert outcome.metrics["longest_batch_s"] > 0
    assert Workdir(tmp_path).checkpoint_names() == ()
    assert not list(tmp_path.rglob("*.safetensors"))
