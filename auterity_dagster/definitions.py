"""What Dagster loads: one function per code location, each composing its `Definitions` explicitly."""

import dagster as dg

from auterity_dagster.assets.automatrix import analytics
from auterity_dagster.automatrix.expression import CelEngine
from auterity_dagster.automatrix.template import load_templates
from auterity_dagster.jobs.automatrix import BATCHES, custom_workflow, template_job
from auterity_dagster.jobs.automatrix_analytics import am_days, am_stuck, daily_workflow_analytics, look_for_stuck
from auterity_dagster.jobs.cron_triggers import due_cron_triggers, fire_cron_triggers
from auterity_dagster.jobs.inventory_files import take_inventory_files
from auterity_dagster.resources.automatrix import automatrix_from_environment
from auterity_dagster.resources.database import database_from_environment
from auterity_dagster.resources.inventory_folder import inventory_folder_from_environment
from auterity_dagster.sensors.automatrix import ready_executions
from auterity_dagster.sensors.inventory_files import inventory_files
from auterity_dagster.settings import ModelsSettings, WorkflowSettings


def workflows() -> dg.Definitions:
    """The slim location: dealership workflows."""
    settings = WorkflowSettings()
    config_dir = settings.config_dir.resolve()
    templates = load_templates(config_dir / "workflows", CelEngine())
    jobs = [*(template_job(template) for template in templates.values()), custom_workflow]
    return dg.Definitions(
        assets=[analytics.lead_response_times, analytics.workflow_funnel, analytics.stuck_executions],
        jobs=[*jobs, fire_cron_triggers, take_inventory_files, am_days, am_stuck],
        schedules=[due_cron_triggers, daily_workflow_analytics, look_for_stuck],
        sensors=[ready_executions(jobs, max_open_runs=settings.max_open_runs), inventory_files],
        resources={
            "automatrix": automatrix_from_environment(config_dir),
            BATCHES: dg.mem_io_manager,
            "database": database_from_environment(),
            "inventory_folder": inventory_folder_from_environment(),
        },
    )


def models() -> dg.Definitions:
    """The location of NeuroWeaver's assets and of RelayCore's learning and analytics."""
    # Imported here: `workflows` shares this module and must not pay for MLflow with every run.
    from auterity_dagster.assets.neuroweaver import (
        answer_comparisons,
        data,
        dataset,
        dataset_report,
        evaluate,
        grpo,
        live_quality,
        plan,
        release,
        train,
    )
    from auterity_dagster.assets.relaycore import advice, bills, quality
    from auterity_dagster.assets.relaycore import analytics as usage_analytics
    from auterity_dagster.jobs import relaycore
    from auterity_dagster.jobs.neuroweaver import daily_watch, nw_compare, nw_demo, nw_train, nw_watch
    from auterity_dagster.resources.candidate import CandidateResource
    from auterity_dagster.resources.documents import DocumentIOManager
    from auterity_dagster.resources.installation import installation_from
    from auterity_dagster.resources.routing_scope import PredictorTraining, RoutingScope
    from auterity_dagster.resources.training_launcher import launcher_from
    from auterity_dagster.sensors.neuroweaver import alias_mirror, scope_watch, training_requests
    from auterity_dagster.sensors.neuroweaver_requests import retrain_watch
    from auterity_dagster.sensors.neuroweaver_shadow import waiting_comparisons

    settings = ModelsSettings()
    installation = installation_from(settings)
    return dg.Definitions(
        assets=[
            data.base_model,
            data.evaluation_suites,
            dataset.source_rows,
            dataset.training_examples,
            dataset_report.dataset_report,
            plan.training_plan,
            train.sft_adapter,
            train.preference_candidates,
            train.preference_pairs,
            train.dpo_adapter,
            grpo.grpo_adapter,
            train.serving_bundle,
            evaluate.evaluation_report,
            evaluate.gate_verdict,
            release.registered_model,
            release.deployment,
            live_quality.live_quality,
            answer_comparisons.answer_comparisons,
            quality.routing_outcomes,
            quality.quality_model,
            quality.quality_report,
            usage_analytics.usage_day,
            usage_analytics.shared_quality,
            advice.recommendations,
            bills.reconciliations,
        ],
        jobs=[
            *(nw_demo, nw_train, nw_watch, nw_compare),
            *(relaycore.rc_quality, relaycore.rc_usage, relaycore.rc_advice, relaycore.rc_reconciliation),
        ],
        schedules=[relaycore.daily_usage, relaycore.daily_advice, relaycore.daily_reconciliation, daily_watch],
        sensors=[scope_watch, alias_mirror, training_requests, waiting_comparisons, retrain_watch],
        resources={
            "candidate": CandidateResource.configure_at_launch(config_dir=installation.config_dir),
            "database": database_from_environment(),
            "installation": installation,
            "io_manager": DocumentIOManager(data_dir=installation.data_dir),
            "launcher": launcher_from(settings, data_dir=installation.data_dir),
            "predictor_training": PredictorTraining(data_dir=installation.data_dir),
            "routing": RoutingScope.configure_at_launch(),
        },
    )
