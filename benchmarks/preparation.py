"""How long 100,000 rows take to become a dataset and to be audited, and how much memory: one process, one core.

Run: `python benchmarks/preparation.py [--rows N]`. It prints one JSON object. The rows are generator A's, written to a
file first; what is timed reads them from there, as the assets do.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from auterity_dagster.neuroweaver.canaries import canary_items  # noqa: E402
from auterity_dagster.neuroweaver.corpus.generator import generate  # noqa: E402
from auterity_dagster.neuroweaver.example import TrainingExample  # noqa: E402
from auterity_dagster.neuroweaver.jsonl import canonical_lines  # noqa: E402
from auterity_dagster.neuroweaver.preparation.audit import Audit, Permitted, Secrets, audited, noting_vins  # noqa: E402
from auterity_dagster.neuroweaver.preparation.prepare import PreparationPolicy, prepare_stream  # noqa: E402
from auterity_dagster.neuroweaver.suites.generator import SUITE_CANARY  # noqa: E402
from auterity_dagster.neuroweaver.suites.suite import evaluation_suite  # noqa: E402
from auterity_dagster.prompt import load_prompts  # noqa: E402

KEY = b"only for benchmarks"
BATCH = 10_000


def write_rows(path: Path, count: int) -> None:
    """Write generator A's rows with a new seed every 10,000, so that the generator's own memory is not measured."""
    prompts = load_prompts(ROOT / "config" / "prompts")
    with path.open("wb") as file:
        for start in range(0, count, BATCH):
            wanted = min(BATCH, count - start)
            file.write(canonical_lines(generate(prompts, seed=start, conversations=wanted, customers=wanted // 3).rows))


def read_rows(path: Path) -> Iterator[TrainingExample]:
    with path.open("rb") as lines:
        for line in lines:
            yield TrainingExample.model_validate_json(line)


def told(step: str, done: int) -> None:
    print(f"{step}: {done:,} rows", file=sys.stderr)


def measured(folder: Path) -> dict[str, object]:
    """Prepare and audit; return seconds of both, and the highest memory of this process."""
    prompts = load_prompts(ROOT / "config" / "prompts")
    items = evaluation_suite(prompts, seed=7, items_per_family=400).items
    source_vins: set[str] = set()
    begun, used = time.perf_counter(), time.process_time()
    with (folder / "prepared.jsonl").open("wb") as prepared:

        def take(row: TrainingExample) -> None:
            prepared.write(row.model_dump_json().encode() + b"\n")

        card = prepare_stream(
            noting_vins(read_rows(folder / "rows.jsonl"), into=source_vins),
            items=items,
            policy=PreparationPolicy(salt="benchmark", key=KEY),
            names={},
            previous_splits={},
            folder=folder,
            take=take,
            progress=told,
        )
    at_half, used_at_half = time.perf_counter(), time.process_time()
    audit = Audit(
        items=items,
        secrets=Secrets(
            (str(SUITE_CANARY),), tuple(str(one.expected["secret"]) for one in canary_items(prompts, seed=1, count=100))
        ),
        key=KEY,
        names={},
        source_vins=source_vins,
        permitted=Permitted(UUID(int=1), {}, frozenset({"Apache-2.0"})),
        folder=folder,
    )
    findings = audited(read_rows(folder / "prepared.jsonl"), audit, progress=lambda done: told("audited", done))
    return {
        "rows_in": card.rows_in,
        "duplicates": card.duplicates_exact + card.duplicates_near,
        "low_quality": card.low_quality,
        "contaminated": card.contaminated,
        "rows_out": sum(card.splits.values()),
        "prepare_s": round(at_half - begun, 1),
        "audit_s": round(time.perf_counter() - at_half, 1),
        "prepare_cpu_s": round(used_at_half - used, 1),
        "audit_cpu_s": round(time.process_time() - used_at_half, 1),
        "findings": len(findings),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a child, so that what generation needed does not count as preparation's memory.
        if (child := os.fork()) == 0:
            write_rows(folder / "rows.jsonl", options.rows)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(json.dumps({**measured(folder), "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
