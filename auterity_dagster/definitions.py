"""What Dagster loads: one function per code location, each composing its `Definitions` explicitly."""

import dagster as dg

from auterity_dagster.automatrix.expression import CelEngine
from auterity_dagster.automatrix.template import load_templates
from auterity_dagster.jobs.automatrix import BATCHES, custom_workflow, template_job
from auterity_dagster.jobs.cron_triggers import due_cron_triggers, fire_cron_triggers
from auterity_dagster.resources.automatrix import automatrix_from_environment
from auterity_dagster.resources.database import database_from_environment
from auterity_dagster.sensors.automatrix import ready_executions
from auterity_dagster.settings import ModelsSettings, WorkflowSettings


def workflows() -> dg.Definitions:
    """The slim location: dealership workflows."""
    settings = WorkflowSettings()
    config_dir = settings.config_dir.resolve()
    templates = load_templates(config_dir / "workflows", CelEngine())
    jobs = [*(template_job(template) for template in templates.values()), custom_workflow]
    return dg.Definitions(
        jobs=[*jobs, fire_cron_triggers],
        schedules=[due_cron_triggers],
        sensors=[ready_executions(jobs, max_open_runs=settings.max_open_runs)],
        resources={
            "automatrix": automatrix_from_environment(config_dir),
            BATCHES: dg.mem_io_manager,
            "database": database_from_environment(),
        },
    )


def models() -> dg.Definitions:
    """The location of NeuroWeaver's assets and of RelayCore's learning and analytics."""
    # Imported here: `workflows` shares this module and must not pay for MLflow with every run.
    from auterity_dagster.assets.neuroweaver import data, dataset, evaluate, release, train
    from auterity_dagster.assets.relaycore import advice, analytics, quality
    from auterity_dagster.jobs import relaycore
    from auterity_dagster.jobs.neuroweaver import nw_demo, nw_train
    from auterity_dagster.resources.candidate import CandidateResource
    from auterity_dagster.resources.documents import DocumentIOManager
    from auterity_dagster.resources.installation import installation_from
    from auterity_dagster.resources.routing_scope import PredictorTraining, RoutingScope
    from auterity_dagster.resources.training_launcher import TrainingLauncher

    installation = installation_from(ModelsSettings())
    return dg.Definitions(
        assets=[
            data.base_model,
            data.evaluation_suites,
            dataset.source_rows,
            dataset.training_examples,
            train.sft_adapter,
            train.preference_candidates,
            train.preference_pairs,
            train.dpo_adapter,
            train.serving_bundle,
            evaluate.evaluation_report,
            evaluate.gate_verdict,
            release.registered_model,
            release.deployment,
            quality.routing_outcomes,
            quality.quality_model,
            quality.quality_report,
            analytics.usage_day,
            analytics.shared_quality,
            advice.recommendations,
        ],
        jobs=[nw_demo, nw_train, relaycore.rc_quality, relaycore.rc_usage, relaycore.rc_advice],
        schedules=[relaycore.daily_usage, relaycore.daily_advice],
        resources={
            "candidate": CandidateResource.configure_at_launch(config_dir=installation.config_dir),
            "database": database_from_environment(),
            "installation": installation,
            "io_manager": DocumentIOManager(data_dir=installation.data_dir),
            "launcher": TrainingLauncher(data_dir=installation.data_dir),
            "predictor_training": PredictorTraining(data_dir=installation.data_dir),
            "routing": RoutingScope.configure_at_launch(),
        },
    )
