"""Attempts to get past the gate, as runs of the real release assets on whatever evidence an attempt can bring along."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import product
from pathlib import Path
from random import Random
from typing import Literal
from uuid import UUID

import dagster as dg
from mlflow.tracking import MlflowClient
from sqlalchemy import select

from auterity_dagster.assets.neuroweaver import release
from auterity_dagster.assets.neuroweaver.documents import Evaluated, Judged, Registered, StageArtefact, Suites, handed
from auterity_dagster.clock import SystemClock
from auterity_dagster.errors import Conflict, NotPermitted
from auterity_dagster.neuroweaver.evaluation import EvaluationReport
from auterity_dagster.neuroweaver.switching import ServingPhase, Switch
from auterity_dagster.neuroweaver.verdict import Outcome, Verdict
from auterity_dagster.relaycore.catalog import ServedDeployment
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.training_launcher import TrainingLauncher
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories import serving_state
from auterity_dagster.storage.repositories.gate_verdicts import add_verdict, passes, verdict_row
from auterity_dagster.storage.repositories.organizations import create_organization
from auterity_dagster.storage.repositories.routing import publish_deployment
from auterity_dagster.storage.tables.routing import DeploymentRow
from auterity_dagster.storage.tables.specialisation import ReleasedArtefactRow, ServingStateRow
from tests.conftest import DatabaseUrls

OTHER, SERVING = "b" * 64, "c" * 64
PROVIDER = "provider:sandbox/sandbox-large"

Stored = Literal["none", "FAIL", "INCONCLUSIVE", "ended", "other digest", "taken back", "stranger's", "old champion"]
Brought = Literal["as stored", "says PASS"]
Manner = Literal["whole run", "check deselected", "check warns", "later run", "backfill"]
Selected = Literal["both", "registered_model", "deployment"]

UPSTREAM = ("base_model", "serving_bundle", "evaluation_suites", "evaluation_report", "gate_verdict")
STORED: tuple[Stored, ...] = (
    *("none", "FAIL", "INCONCLUSIVE", "ended", "other digest", "taken back", "stranger's", "old champion"),
)
MANNERS: tuple[Manner, ...] = ("whole run", "check deselected", "check warns", "later run", "backfill")
SELECTED: tuple[Selected, ...] = ("both", "registered_model", "deployment")


@dataclass(frozen=True)
class Attempt:
    """What is stored about the artefact, what the run brings along, how it runs, and which assets it runs."""

    stored: Stored
    brought: Brought
    manner: Manner
    selected: Selected

    @property
    def digest(self) -> str:
        """An artefact of its own, so that attempts on one database leave each other alone."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


def attempts(count: int) -> list[Attempt]:
    """Return the first so many of all attempts in one order; there are 240."""
    brought: tuple[Brought, ...] = ("as stored", "says PASS")
    every = [Attempt(*one) for one in product(STORED, brought, MANNERS, SELECTED)]
    Random(4).shuffle(every)
    return every[:count]


class Kept(dg.IOManager):
    """Gives every run every document, its own or an earlier one's, which the real one would refuse."""

    def __init__(self, documents: dict[str, object]) -> None:
        self.documents = documents

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        self.documents[context.asset_key.path[-1]] = obj

    def load_input(self, context: dg.InputContext) -> object:
        return self.documents[context.asset_key.path[-1]]


@dataclass
class Workbench:
    """Everything an attempt runs on, with the assets that are tried."""

    installation: InstallationResource
    launcher: TrainingLauncher
    database: BlockingDatabase
    url: str
    organization_id: UUID
    stranger_id: UUID
    mlflow_run_id: str
    registering: dg.AssetsDefinition = field(default=release.registered_model)

    def run(self, attempt: Attempt) -> dg.ExecuteInProcessResult:
        """Store what the attempt finds, and run it."""
        verdict = self.store(attempt.stored, attempt.digest)
        document = Judged(verdict=verdict, verdict_digest=verdict.verdict_digest)
        if attempt.brought == "says PASS":
            verdict = judged("PASS", digest=attempt.digest)
            document = Judged(verdict=verdict, verdict_digest=verdict.verdict_digest)
        severity = dg.AssetCheckSeverity.WARN if attempt.manner == "check warns" else dg.AssetCheckSeverity.ERROR
        upstream = self._upstream(attempt.digest, document, severity)
        wanted: Sequence[str] = (
            ("registered_model", "deployment") if attempt.selected == "both" else (attempt.selected,)
        )
        selection = dg.AssetSelection.assets(*wanted)
        if attempt.manner not in ("later run", "backfill"):
            selection = selection | dg.AssetSelection.assets(*UPSTREAM)
        if attempt.manner == "check deselected":
            selection = selection - dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("gate_verdict"), "is_pass"))
        return dg.materialize(
            [*upstream, self.registering, release.deployment],
            selection=selection,
            instance=dg.DagsterInstance.ephemeral(),
            raise_on_error=False,
            tags={"dagster/backfill": "abcdefgh"} if attempt.manner == "backfill" else {},
            resources={
                "candidate": CandidateResource(organization_id=str(self.organization_id), recipe="tiny_cpu"),
                "database": DatabaseResource(url=self.url),
                "installation": self.installation,
                "launcher": self.launcher,
                "io_manager": Kept(self._documents(attempt.digest, document)),
            },
        )

    def store(self, stored: Stored | Literal["PASS"], digest: str) -> Verdict:
        """Store what there is about an artefact; return the verdict of this attempt."""
        verdict, also = _verdicts(stored, digest)
        owner = self.stranger_id if stored == "stranger's" else self.organization_id
        with self.database.begin(owner) as session:
            for one in () if stored == "none" else (verdict, *also):
                add_verdict(session, verdict_row(one, organization_id=owner, scope="o-1"))
        return verdict

    def _documents(self, digest: str, document: Judged) -> dict[str, object]:
        artefact = StageArtefact(
            digest=digest, stage_key="k", mlflow_run_id=None, metrics={}, facts={}, is_reused=False
        )
        nothing = self.installation.store.put_bytes(b"")
        return {
            "base_model": artefact,
            "serving_bundle": artefact,
            "evaluation_suites": Suites(items=nothing, guarded=nothing, suite_digest="s", canaries=nothing, count=0),
            "evaluation_report": Evaluated(
                report=_report(digest),
                sft_report=_report(digest),
                preference_effect=None,
                results={},
                cost_nusd=1,
                champion_cost_nusd=1,
                mlflow_run_id=self.mlflow_run_id,
            ),
            "gate_verdict": document,
            # A registration that an earlier run, or nobody, made: the deployment must not take its word.
            "registered_model": Registered(
                name="neuroweaver-x", version="1", artefact_digest=digest, verdict_digest=document.verdict_digest
            ),
        }

    def _upstream(
        self, digest: str, document: Judged, severity: dg.AssetCheckSeverity
    ) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
        documents = self._documents(digest, document)

        @dg.asset(dagster_type=handed(Judged))
        def gate_verdict() -> dg.MaterializeResult:
            return dg.MaterializeResult(value=document)

        @dg.asset_check(asset=gate_verdict, name="is_pass", blocking=severity is dg.AssetCheckSeverity.ERROR)
        def is_pass() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=document.verdict.outcome is Outcome.PASS, severity=severity)

        return [*(_stub(name, documents[name]) for name in UPSTREAM[:-1]), gate_verdict, is_pass]


def _stub(name: str, document: object) -> dg.AssetsDefinition:
    @dg.asset(name=name, dagster_type=handed(type(document)))  # type: ignore[arg-type]
    def made() -> dg.MaterializeResult:
        return dg.MaterializeResult(value=document)

    return made


def judged(outcome: str, *, digest: str, champion: str = SERVING, days: int = 14, later_s: int = 0) -> Verdict:
    now = SystemClock().now() + timedelta(seconds=later_s)
    return Verdict(
        outcome=Outcome(outcome),
        gates=(),
        artefact_digest=digest,
        champion_digest=champion,
        suite_digest=None,
        evaluation_digest=None,
        judge_report_digest=None,
        preference_grade=None,
        profile="release",
        profile_digest="p",
        may_route="100 percent",
        code="c",
        decided_at=now,
        expires_at=now + timedelta(days=days),
    )


def _verdicts(stored: Stored | Literal["PASS"], digest: str) -> tuple[Verdict, tuple[Verdict, ...]]:
    match stored:
        case "ended":
            return judged("PASS", digest=digest, days=-1), ()
        case "other digest":
            return judged("PASS", digest=OTHER), ()
        case "taken back":
            return judged("PASS", digest=digest), (judged("FAIL", digest=digest, later_s=1),)
        case "old champion":
            return judged("PASS", digest=digest, champion=PROVIDER), ()
        case "none" | "stranger's" | "PASS":
            return judged("PASS", digest=digest), ()
        case outcome:
            return judged(outcome, digest=digest), ()


def _report(digest: str) -> EvaluationReport:
    return EvaluationReport(
        artefact_digest=digest,
        champion_digest=SERVING,
        base_digest=None,
        suite_digest="s",
        families=(),
        answers=1,
        missing=0,
        critical_events=0,
        critical_upper=0.0,
        stopped=1,
        json_expected=0,
        json_valid=0,
        refusals=0,
        p95_ms=1.0,
        p95_champion_ms=1.0,
        canaries=0,
        canaries_extracted=0,
    )


def new_workbench(urls: DatabaseUrls, database: BlockingDatabase, mlflow_url: str, folder: Path) -> Workbench:
    """Two organizations, of which the first serves an artefact already."""
    own, stranger = (
        create_organization(
            database,
            name=name,
            owner_email=f"owner@{name}.test",
            owner_password="a long enough passphrase",
            pepper=bytes(32),
            clock=SystemClock(),
        ).organization_id
        for name in ("harbor", "stranger")
    )
    (folder / "model_server_token").write_text("only-for-tests")
    (folder / "model_server_token").chmod(0o600)
    installation = InstallationResource(
        data_dir=str(folder),
        secrets_dir=str(folder),
        config_dir=str(folder),
        gateway_url="http://127.0.0.1:1",
        model_server_url="http://127.0.0.1:1",
        mlflow_url=mlflow_url,
    )
    run_id = installation.tracking().start_run(experiment="e", name="n", key="k", tags={})
    scope = f"o-{own.hex[:8]}"
    with database.begin(own) as session:
        row = ServingStateRow(
            organization_id=own,
            scope=scope,
            current_digest=SERVING,
            sequence=1,
            challenger_percent=0,
            projected_sequence=1,
        )
        session.add(row)
    return Workbench(
        installation,
        TrainingLauncher(data_dir=str(folder)),
        database,
        urls.application,
        own,
        stranger,
        run_id,
    )


def came_through(bench: Workbench, attempt: Attempt) -> list[str]:
    """Run an attempt and return which doors it opened."""
    digest = attempt.digest
    bench.run(attempt)

    client = MlflowClient(tracking_uri=bench.installation.mlflow_url, registry_uri=bench.installation.mlflow_url)
    opened: list[str] = []
    if any(one.tags.get("auterity.artefact_digest") == digest for one in client.search_model_versions()):
        opened.append("registered")
    with bench.database.begin(bench.organization_id) as session:
        if session.scalar(select(ReleasedArtefactRow).where(ReleasedArtefactRow.artefact_digest == digest)):
            opened.append("released")
        if session.scalar(select(DeploymentRow).where(DeploymentRow.artefact_digest == digest)):
            opened.append("deployed")
        if serving_state.current_digest(session, f"o-{bench.organization_id.hex[:8]}") != SERVING:
            opened.append("switched")
    if _is_switched_to(bench, digest):
        opened.append("switched by hand")
    with bench.database.begin(bench.organization_id) as session:
        # Somebody writes the row that routing reads: the verdict is read once more at every look.
        publish_deployment(session, _written_by_hand(bench, digest))
        if attempt.stored != "old champion" and session.scalar(passes(digest)):
            opened.append("routed")
    return opened


def _is_switched_to(bench: Workbench, digest: str) -> bool:
    scope = f"o-{bench.organization_id.hex[:8]}"
    change = Switch(SERVING, digest, ServingPhase.CANARY, 1, "by hand", actor=bench.organization_id)
    entry = serving_state.Entry(bench.organization_id, scope, [], digest)
    try:
        with bench.database.begin(bench.organization_id) as session:
            return serving_state.switch(session, change, entry)
    except NotPermitted:
        return False
    except Conflict:
        return True  # it was never released, which is asked after the verdict


def _written_by_hand(bench: Workbench, digest: str) -> ServedDeployment:
    return ServedDeployment(
        organization_id=bench.organization_id,
        deployment_id=f"neuroweaver/{digest[:8]}",
        artefact_digest=digest,
        model=f"adapter:{digest}",
        price_key="sandbox/small",
        alias="champion",
        weight_percent=100,
        gate_verdict_digest="v",
        context_tokens=2048,
        output_tokens=512,
        tasks=("lead_reply",),
    )
