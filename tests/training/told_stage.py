"""A child that keeps the training process's contract (lock, heartbeat, outcome, exit code) and ends as it is told.

`told.json` beside its specification lists one ending a launch: an exit code, `die` (killed without a word), `freeze`
(alive and silent), or a number of a code that no outcome is written for. What was asked stands in `launches.jsonl`.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from auterity_dagster.neuroweaver.stage import ExitCode, StageOutcome, StageSpec
from auterity_dagster.storage.workdir import Workdir


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("stage")
    parser.add_argument("--spec", type=Path)
    spec = StageSpec.model_validate_json(parser.parse_args().spec.read_bytes())
    workdir = Workdir(spec.workdir)
    launches = spec.workdir / "launches.jsonl"
    number = len(launches.read_text().splitlines()) if launches.exists() else 0
    with launches.open("a") as lines:
        lines.write(json.dumps({"halvings": spec.halvings}) + "\n")
    told = json.loads((spec.workdir / "told.json").read_text())[number]
    with workdir.held():
        if told == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if told == "checkpoint, die":
            (workdir.checkpoints / f"step-{number:06d}").mkdir(parents=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if told == "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        if told == ExitCode.SPEC_INVALID:
            return int(told)
        code, _, by = str(told).partition(" ")
        workdir.finish(
            StageOutcome.model_validate(
                {"code": int(code), "reason": f"told {told}", "digest": "d" * 64, "stopped_by": by or None}
            )
        )
        return int(code)


if __name__ == "__main__":
    sys.exit(main())
