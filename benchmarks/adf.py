"""How many ADF documents a second one core reads, the good ones and 10,000 damaged ones; and that none crashes it.

Run: `python benchmarks/adf.py`. It prints one JSON object; CPU time counts, not the machine's other work.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from auterity_dagster.automatrix.adf import read_adf  # noqa: E402
from auterity_dagster.automatrix.lead import Lead  # noqa: E402
from auterity_dagster.automatrix.lead_judgement import ReadingContext  # noqa: E402
from auterity_dagster.automatrix.quarantine import Quarantined  # noqa: E402
from tests.fakes.mutated_adf import SAMPLES, mutated_documents  # noqa: E402

COUNT = 10_000
SEED = 20261130
CONTEXT = ReadingContext(received_at=datetime(2026, 11, 24, tzinfo=UTC), zone=ZoneInfo("America/Chicago"))


def outcome(raw: bytes) -> str:
    """What became of a document; anything but leads and reasons is a crash."""
    try:
        found = read_adf(raw, context=CONTEXT)
    except Quarantined as refused:
        return f"quarantined: {refused.reason}"
    except Exception as error:  # noqa: BLE001 -- counting these is the point
        return f"crashed: {type(error).__name__}"
    return "lead" if any(isinstance(one, Lead) for one in found) else "rejected: no way to reply"


def measured(documents: Sequence[bytes]) -> dict[str, object]:
    """Read them all; figures of one core's CPU time."""
    outcomes: Counter[str] = Counter()
    slowest_ms = 0.0
    began = time.process_time()
    for raw in documents:
        before = time.process_time()
        outcomes[outcome(raw)] += 1
        slowest_ms = max(slowest_ms, (time.process_time() - before) * 1000)
    seconds = time.process_time() - began
    return {
        "documents": len(documents),
        "bytes": sum(map(len, documents)),
        "a_second": round(len(documents) / seconds),
        "slowest_ms": round(slowest_ms, 1),
        "outcomes": dict(outcomes.most_common()),
        "crashed": sum(count for name, count in outcomes.items() if name.startswith("crashed")),
    }


def main() -> None:
    good = [(SAMPLES / f"lead_{number:02}.xml").read_bytes() for number in range(1, 21)]
    mutated = measured([*mutated_documents(COUNT, seed=SEED)])
    figures = {"seed": SEED, "samples": measured(good * 100), "mutated": mutated}
    print(json.dumps(figures, indent=2))
    if mutated["crashed"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
