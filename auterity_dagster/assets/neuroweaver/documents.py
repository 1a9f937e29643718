"""What NeuroWeaver's assets hand to each other: digests in the object store and the figures the next one needs."""

from collections.abc import Mapping
from functools import cache
from uuid import UUID

import dagster as dg
from pydantic import BaseModel, ConfigDict

from auterity_dagster.neuroweaver.estimate import CostEstimate
from auterity_dagster.neuroweaver.evaluation import EvaluationReport
from auterity_dagster.neuroweaver.example import Family, Message
from auterity_dagster.neuroweaver.preference_effect import PreferenceEffect
from auterity_dagster.neuroweaver.preferences import PairSummary
from auterity_dagster.neuroweaver.preparation.prepare import DatasetCard
from auterity_dagster.neuroweaver.verdict import Grade, Verdict


class Document(BaseModel):
    """Base of all: strict and unchangeable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@cache
def handed(document: type[Document]) -> dg.DagsterType:
    """Return Dagster's type for a document, the same one wherever it is made and used."""
    found = dg.PythonObjectDagsterType(document, name=document.__name__)
    dg.make_python_type_usable_as_dagster_type(document, found)
    return found


class StoredRows(Document):
    """Rows before preparation, the names of their customers by hidden key, and the consents that they came under."""

    rows: str
    names: str
    count: int
    is_synthetic: bool
    consent_ids: tuple[UUID, ...]


class Suites(Document):
    """Held-out items, questions that try to get planted secrets out, and all items that no training may give away."""

    items: str
    guarded: str
    suite_digest: str
    canaries: str
    count: int


class Dataset(Document):
    """All prepared rows, and those of the recipe's families by split."""

    card: DatasetCard
    rows: str
    train: str
    validation: str
    train_rows: int
    contaminated: int
    consent_ids: tuple[UUID, ...]


class StageArtefact(Document):
    """What a stage of training made."""

    digest: str
    stage_key: str
    mlflow_run_id: str | None
    metrics: Mapping[str, float]
    facts: Mapping[str, str]
    is_reused: bool


class Plan(Document):
    """What training will take and cost, by steps that were timed on the rows and the machine that it will have."""

    estimate: CostEstimate
    digest: str


class CandidateAnswers(Document):
    """Answers of the policy and of others to the same prompts."""

    answers: str
    prompts: int


class CandidateLine(Document):
    """Several answers to one prompt."""

    family: Family
    prompt: tuple[Message, ...]
    answers: tuple[str, ...]


class Pairs(Document):
    """Judged pairs: all of them, and those that DPO learns from."""

    all_pairs: str
    usable_pairs: str
    summary: PairSummary
    grade: Grade
    judge: str
    is_enough: bool


class Evaluated(Document):
    """The report that the gate reads, and where every answer is."""

    report: EvaluationReport
    sft_report: EvaluationReport
    preference_effect: PreferenceEffect | None
    results: Mapping[str, str]
    cost_nusd: float
    champion_cost_nusd: float
    mlflow_run_id: str | None


class Judged(Document):
    """The verdict and the digest under which it is stored."""

    verdict: Verdict
    verdict_digest: str


class Registered(Document):
    """A version in the registry."""

    name: str
    version: str
    artefact_digest: str
    verdict_digest: str


# Before any asset names one as an input: Dagster would make a type of its own then, and refuse ours afterwards.
for _document in Document.__subclasses__():
    handed(_document)
