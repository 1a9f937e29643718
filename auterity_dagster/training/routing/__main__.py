"""Learn or measure a predictor in a process of its own: `python -m auterity_dagster.training.routing learn|measure`."""

import argparse
import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from dagster_pipes import PipesContext, open_dagster_pipes
from threadpoolctl import threadpool_limits

from auterity_dagster.errors import AuterityError
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.predictor_bundle import load_predictor, save_predictor
from auterity_dagster.training.routing.fit import encoded_prompts, learn
from auterity_dagster.training.routing.holdout import learned_part, measured
from auterity_dagster.training.routing.outcome_file import read_outcomes

EXIT_REFUSED = 65


def main() -> int:
    """Do one of the two and tell Dagster what came of it."""
    parser = argparse.ArgumentParser(prog="python -m auterity_dagster.training.routing")
    parser.add_argument("stage", choices=["learn", "measure"])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--outcomes", required=True, help="digest of a Parquet file in the store")
    parser.add_argument("--predictor", help="digest of the bundle to measure")
    parser.add_argument("--floor", type=float, default=0.7)
    arguments = parser.parse_args()
    store = ObjectStore(arguments.store)
    with open_dagster_pipes() as pipes, threadpool_limits(1):
        try:
            if arguments.stage == "learn":
                _learn(pipes, store, arguments.outcomes)
            else:
                _measure(pipes, store, arguments.outcomes, arguments.predictor, floor=arguments.floor)
        except AuterityError as error:
            sys.stderr.write(f"{error.message}\n")
            return EXIT_REFUSED
    return 0


def _learn(pipes: PipesContext, store: ObjectStore, outcomes: str) -> None:
    table = learned_part(read_outcomes(io.BytesIO(store.read_verified(outcomes))))
    predictor = learn(table, encoded_prompts(table.prompts), seed=0).predictor
    with TemporaryDirectory() as folder:
        save_predictor(predictor, Path(folder))
        digest = store.put_bundle(Path(folder))
    pipes.report_custom_message({"digest": digest, "prompts": len(table), "models": list(table.models)})


def _measure(pipes: PipesContext, store: ObjectStore, outcomes: str, predictor: str, *, floor: float) -> None:
    table = read_outcomes(io.BytesIO(store.read_verified(outcomes)))
    found = measured(load_predictor(store.checkout(predictor)), table, floor=floor)
    held_out = found.held_out
    pipes.report_custom_message(
        {
            "tasks": list(held_out.tasks),
            "posterior_scores": held_out.posterior_scores.tolist(),
            "posterior_costs": held_out.posterior_costs.tolist(),
            "predictor_scores": held_out.predictor_scores.tolist(),
            "predictor_costs": held_out.predictor_costs.tolist(),
            "calibration_error": held_out.calibration_error,
            "apgr": found.pair.apgr,
            "cpt50": found.pair.cpt50,
            "cpt80": found.pair.cpt80,
            "prompt_length_apgr": found.by_length.apgr,
            "strong": found.strong,
            "weak": found.weak,
            "in_domain_share": found.in_domain_share,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
