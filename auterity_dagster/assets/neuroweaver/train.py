"""From examples to the adapter that serves: SFT, AI feedback on its answers, DPO on top of it, the bundle."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg

from auterity_dagster.assets.checks import blocking, checked, starts_where_left
from auterity_dagster.assets.neuroweaver.data import GROUP
from auterity_dagster.assets.neuroweaver.documents import (
    CandidateAnswers,
    CandidateLine,
    Dataset,
    Pairs,
    Plan,
    StageArtefact,
    handed,
)
from auterity_dagster.assets.neuroweaver.gateway import judging_gateway
from auterity_dagster.assets.neuroweaver.plan import estimate_error
from auterity_dagster.assets.neuroweaver.stage import StageRunner
from auterity_dagster.clock import SystemClock
from auterity_dagster.errors import AuterityError
from auterity_dagster.mlflow.tracking import DatasetMark
from auterity_dagster.money import in_usd
from auterity_dagster.neuroweaver.example import PreferencePair, TrainingExample
from auterity_dagster.neuroweaver.jsonl import canonical_lines, read_lines
from auterity_dagster.neuroweaver.judge_canaries import judge_canaries, missed
from auterity_dagster.neuroweaver.judging import Comparison, compare, flips, load_rubric
from auterity_dagster.neuroweaver.preferences import Candidates, comparisons, grade, usable
from auterity_dagster.neuroweaver.recipe import PreferenceStage, Recipe
from auterity_dagster.neuroweaver.selection import preference_prompts
from auterity_dagster.neuroweaver.stage import AnswerLine, Generation, PairLine, PromptLine, Stage
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.training_launcher import TrainingLauncher

DPO_SKIPPED = "dpo_skipped"
"""The fact of an adapter that says why preference training was left out."""
OTHER_ANSWERS_FROM = ("sandbox-large", "sandbox-small")
_TEMPERATURES = (0.7, 1.0, 0.85, 0.55, 0.9, 0.65)
_JUDGES = 8
_LENGTH_TOLERANCE = 0.05


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(StageArtefact),
    kinds={"huggingface", "python"},
    check_specs=[blocking(name, "sft_adapter") for name in ("loss_finite", "loss_fell", "adapter_moved")],
)
def sft_adapter(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    launcher: TrainingLauncher,
    database: DatabaseResource,
    base_model: StageArtefact,
    training_examples: Dataset,
    training_plan: Plan,
) -> dg.MaterializeResult:
    """Supervised fine-tuning in a process of its own; reused when nothing that goes into it has changed."""
    runner = StageRunner(context, candidate, installation, launcher, database)
    inputs = {
        "base": base_model.digest,
        "train": training_examples.train,
        "validation": training_examples.validation,
    }
    marks = [DatasetMark("train", training_examples.train, f"objects/{training_examples.train}", "training")]
    artefact = runner.run(Stage.SFT, inputs=inputs, datasets=marks)
    figures = artefact.metrics
    return dg.MaterializeResult(
        value=artefact,
        metadata={**runner.metadata(artefact), **estimate_error(training_plan, Stage.SFT, artefact)},
        check_results=[
            # The child refuses a loss that is no number and weights that stay: an artefact shows that neither happened.
            checked("loss_finite", figures["last_loss"] < 1e6, last_loss=figures["last_loss"]),
            checked(
                "loss_fell",
                figures["held_out_loss_after"] < figures["held_out_loss_before"],
                before=figures["held_out_loss_before"],
                after=figures["held_out_loss_after"],
            ),
            checked("adapter_moved", int(artefact.facts["trainable"]) > 0, tensors=artefact.facts["trainable"]),
        ],
    )


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(CandidateAnswers),
    kinds={"huggingface", "jsonl"},
    check_specs=[blocking("within_budget", "preference_candidates")],
)
def preference_candidates(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    launcher: TrainingLauncher,
    database: DatabaseResource,
    base_model: StageArtefact,
    training_examples: Dataset,
    sft_adapter: StageArtefact,
) -> dg.MaterializeResult:
    """Several answers to each prompt: of the SFT adapter at several temperatures, and of models behind the gateway."""
    recipe, store = candidate.read_recipe(), installation.store
    stage = _preferences(recipe)
    runner = StageRunner(context, candidate, installation, launcher, database)
    rows = preference_prompts(read_lines(store.read_verified(training_examples.train), TrainingExample), recipe)
    prompts = store.put_bytes(canonical_lines(PromptLine(id=row.example_id, messages=row.prompt) for row in rows))
    sampled = runner.run(
        Stage.SAMPLE,
        inputs={"base": base_model.digest, "adapter": sft_adapter.digest, "prompts": prompts},
        generation=Generation(
            max_new_tokens=stage.max_new_tokens,
            temperatures=_TEMPERATURES[: stage.policy_answers],
            batch=recipe.evaluation.batch,
            seed=recipe.seed,
        ),
    )
    answers = {row.example_id: [] for row in rows}
    for line in read_lines(store.read_verified(sampled.digest), AnswerLine):
        answers[line.id].append(line.text)
    cost_nusd = 0
    with database.connected() as connected:
        gateway = judging_gateway(connected, candidate, installation)
        asked = {row.example_id: (row.family.value, row.prompt) for row in rows}
        for deployment in OTHER_ANSWERS_FROM[: stage.other_answers]:
            for prompt_id, answer in gateway.answers(deployment, asked, max_tokens=stage.max_new_tokens).items():
                answers[prompt_id].append(answer.text)
                cost_nusd += answer.cost_nusd
        gateway.close()
    candidates = [
        CandidateLine(family=row.family, prompt=row.prompt, answers=tuple(answers[row.example_id])) for row in rows
    ]
    document = CandidateAnswers(answers=store.put_bytes(canonical_lines(candidates)), prompts=len(rows))
    return dg.MaterializeResult(
        value=document,
        metadata={**runner.metadata(sampled), "prompts": len(rows), "gateway_cost_usd": in_usd(cost_nusd)},
        check_results=[
            checked("within_budget", cost_nusd <= candidate.budget().judge_cap_nusd, cost_usd=in_usd(cost_nusd))
        ],
    )


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(Pairs),
    kinds={"openai", "jsonl"},
    check_specs=[
        blocking(name, "preference_pairs")
        for name in ("both_orders", "length_balanced", "judge_canaries", "within_budget")
    ],
)
def preference_pairs(
    candidate: CandidateResource,
    installation: InstallationResource,
    database: DatabaseResource,
    training_examples: Dataset,
    preference_candidates: CandidateAnswers,
) -> dg.MaterializeResult:
    """AI feedback: programs first, then a judge behind the gateway in both orders, paid from the judging budget."""
    recipe, store = candidate.read_recipe(), installation.store
    stage = _preferences(recipe)
    rubric = load_rubric(Path(installation.config_dir) / "rubrics" / f"{stage.rubric}.yaml")
    found = [
        comparison
        for line in read_lines(store.read_verified(preference_candidates.answers), CandidateLine)
        for comparison in comparisons(Candidates(line.family, line.prompt, line.answers))
    ]
    rows = read_lines(store.read_verified(training_examples.train), TrainingExample)
    planted = judge_canaries(rows, compared=len(found))
    with database.connected() as connected:
        gateway = judging_gateway(connected, candidate, installation)

        def judged(comparison: Comparison) -> PreferencePair:
            return compare(comparison, judge=gateway, rubric=rubric)

        try:
            with ThreadPoolExecutor(_JUDGES) as pool:
                known = list(pool.map(judged, [canary.comparison for canary in planted]))
                pairs = list(pool.map(judged, found))
        except AuterityError as error:
            raise dg.Failure(f"judging stopped: {error.message}") from error
        finally:
            gateway.close()
    kept, summary = usable(pairs)
    # A judge whose choice is a matter of length teaches length: then DPO is skipped, as with too few pairs.
    is_balanced = abs(summary.chosen_longer - 0.5) <= _LENGTH_TOLERANCE + 0.5 / max(len(kept), 1)
    judges = sorted({vote.judge for pair in (*pairs, *known) for vote in pair.votes})
    fooled = missed(planted, known)
    cost_nusd = summary.cost_nusd + sum(vote.cost_nusd for pair in known for vote in pair.votes)
    lines = [PairLine(id=one.pair_id, messages=one.prompt, chosen=one.chosen, rejected=one.rejected) for one in kept]
    document = Pairs(
        all_pairs=store.put_bytes(canonical_lines(pairs)),
        usable_pairs=store.put_bytes(canonical_lines(lines)),
        summary=summary,
        grade=grade(
            is_synthetic=training_examples.card.is_synthetic,
            judge=judges[0] if judges else "none",
            rubric_digest=rubric.digest,
            report=None,
            now=SystemClock().now(),
        ),
        judge=", ".join(judges),
        is_enough=len(kept) >= stage.min_pairs and is_balanced,
    )
    return dg.MaterializeResult(
        value=document,
        metadata={
            **summary.model_dump(),
            "flips": flips(pairs),
            "judges": judges,
            "grade": document.grade,
            "cost_usd": in_usd(cost_nusd),
        },
        check_results=[
            checked("both_orders", all({v.order for v in one.votes} in ({"ab", "ba"}, set()) for one in pairs)),
            checked(
                "length_balanced",
                is_balanced or not document.is_enough,
                chosen_longer=summary.chosen_longer,
                used_by_dpo=document.is_enough,
            ),
            checked("judge_canaries", not fooled, fooled_by=fooled, planted=len(planted)),
            checked("within_budget", cost_nusd <= candidate.budget().judge_cap_nusd, cost_usd=in_usd(cost_nusd)),
        ],
    )


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(StageArtefact),
    kinds={"huggingface", "python"},
    check_specs=[blocking(name, "dpo_adapter") for name in ("starts_from_sft", "zero_margins")],
)
def dpo_adapter(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    launcher: TrainingLauncher,
    database: DatabaseResource,
    base_model: StageArtefact,
    training_examples: Dataset,
    sft_adapter: StageArtefact,
    preference_pairs: Pairs,
    training_plan: Plan,
) -> dg.MaterializeResult:
    """Preference optimisation on top of the SFT adapter; with too few pairs it is skipped and the SFT adapter stays."""
    runner = StageRunner(context, candidate, installation, launcher, database)
    if not preference_pairs.is_enough:
        wanted = _preferences(candidate.read_recipe()).min_pairs
        summary = preference_pairs.summary
        told = (
            f"{summary.pairs} pairs, {wanted} needed, the better answer is the longer one in "
            f"{summary.chosen_longer:.0%} of them: the SFT adapter stays"
        )
        return dg.MaterializeResult(
            value=sft_adapter.model_copy(update={"facts": {**sft_adapter.facts, DPO_SKIPPED: told}}),
            metadata={"digest": sft_adapter.digest, "skipped": told},
            check_results=[checked("starts_from_sft", True, skipped=told), checked("zero_margins", True, skipped=told)],
        )
    artefact = runner.run(
        Stage.DPO,
        inputs={
            "base": base_model.digest,
            "sft": sft_adapter.digest,
            "pairs": preference_pairs.usable_pairs,
            "train": training_examples.train,
        },
        expected={"reference_log_probability": sft_adapter.metrics["reference_log_probability"]},
        datasets=[
            DatasetMark("pairs", preference_pairs.usable_pairs, f"objects/{preference_pairs.usable_pairs}", "training")
        ],
    )
    return dg.MaterializeResult(
        value=artefact,
        metadata={
            **runner.metadata(artefact),
            **estimate_error(training_plan, Stage.DPO, artefact),
            "preference_grade": preference_pairs.grade,
        },
        check_results=[
            starts_where_left(
                "starts_from_sft",
                found=artefact.metrics["start_log_probability"],
                recorded=sft_adapter.metrics["reference_log_probability"],
            ),
            checked(
                "zero_margins", abs(artefact.metrics["first_margin"]) <= 1e-4, margin=artefact.metrics["first_margin"]
            ),
        ],
    )


@dg.asset(
    group_name=GROUP,
    dagster_type=handed(StageArtefact),
    kinds={"huggingface"},
    check_specs=[blocking(name, "serving_bundle") for name in ("safe_files_only", "token_ids_equal")],
)
def serving_bundle(
    context: dg.AssetExecutionContext,
    candidate: CandidateResource,
    installation: InstallationResource,
    launcher: TrainingLauncher,
    database: DatabaseResource,
    base_model: StageArtefact,
    training_examples: Dataset,
    grpo_adapter: StageArtefact,
) -> dg.MaterializeResult:
    """The bytes that will serve: adapter in bfloat16, tokenizer, template, card; the gate judges exactly these."""
    runner = StageRunner(context, candidate, installation, launcher, database)
    inputs = {"base": base_model.digest, "adapter": grpo_adapter.digest, "train": training_examples.train}
    artefact = runner.run(Stage.BUNDLE, inputs=inputs)
    files = sorted(installation.store.manifest(artefact.digest).files)
    compared = int(artefact.facts["token_ids_equal"])
    return dg.MaterializeResult(
        value=artefact,
        metadata={**runner.metadata(artefact), "files": files},
        check_results=[
            checked("safe_files_only", not unsafe_files(files), files=files),
            checked("token_ids_equal", compared > 0, rows=compared),
        ],
    )


def unsafe_files(files: list[str]) -> tuple[str, ...]:
    """Return the files of a bundle that could run code or that nobody expects."""
    return tuple(name for name in files if not name.endswith((".safetensors", ".json", ".jinja")))


def _preferences(recipe: Recipe) -> PreferenceStage:
    if recipe.preferences is None or recipe.dpo is None:
        raise dg.Failure(f"recipe {recipe.recipe} has no preference stage", allow_retries=False)
    return recipe.preferences
