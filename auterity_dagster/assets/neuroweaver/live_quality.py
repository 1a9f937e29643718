"""What production asks and gets, day by day: Evidently's page, and a request to train after two days of drift."""

from datetime import date, timedelta
from uuid import UUID

import dagster as dg
from sqlalchemy.orm import Session

from auterity_dagster.assets.checks import checked
from auterity_dagster.assets.days import DAYS
from auterity_dagster.clock import SystemClock
from auterity_dagster.neuroweaver.drift import Drift, drifted_twice
from auterity_dagster.neuroweaver.traffic_features import Traffic, traffic_features
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.evidently_report import EvidentlyReport, evidently_report
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.storage.repositories import retrain_requests, serving_state
from auterity_dagster.storage.repositories.routing import traffic
from auterity_dagster.storage.repositories.usage_days import organizations_with_usage

GROUP = "neuroweaver_watch"
REFERENCE_DAYS = 7
"""A day is compared with the week before it."""


@dg.asset(
    group_name=GROUP,
    partitions_def=DAYS,
    kinds={"evidently"},
    check_specs=[dg.AssetCheckSpec("drift_two_windows", asset="live_quality")],
)
def live_quality(
    context: dg.AssetExecutionContext, installation: InstallationResource, database: DatabaseResource
) -> dg.MaterializeResult:
    """Each organization's traffic of a day against its week before; drift asks for training and switches nothing."""
    day = date.fromisoformat(context.partition_key)
    pages: dict[str, str] = {}
    figures: dict[str, object] = {}
    drifted: dict[str, list[str]] = {}
    with database.connected() as connected:
        with connected.begin_without_organization() as session:
            organizations = organizations_with_usage(session, since=day, until=day)
        for organization_id in organizations:
            with connected.begin(organization_id) as session:
                report, before = _compared(session, day), _compared(session, day - timedelta(days=1))
                if report is None or report.drift is None:
                    continue
                pages[str(organization_id)] = installation.store.path_of(installation.store.put_bytes(report.html))
                figures[str(organization_id)] = report.drift.model_dump(mode="json")
                columns = drifted_twice(report.drift, None if before is None else before.drift)
                if columns:
                    drifted[str(organization_id)] = list(columns)
                    _ask_again(session, organization_id, report.drift, columns)
    return dg.MaterializeResult(
        metadata={
            "organizations": len(organizations),
            "pages": dg.MetadataValue.json(pages),
            "drift": dg.MetadataValue.json(figures),
        },
        check_results=[checked("drift_two_windows", not drifted, drifted=drifted)],
    )


def _compared(session: Session, day: date) -> EvidentlyReport | None:
    """Return the report of a day, or None where it or the week before had no traffic."""
    current = traffic_features(_rows(session, day, day))
    reference = traffic_features(_rows(session, day - timedelta(days=REFERENCE_DAYS), day - timedelta(days=1)))
    return evidently_report(current, reference) if current and reference else None


def _rows(session: Session, since: date, until: date) -> list[Traffic]:
    return [Traffic(*row) for row in traffic(session, since=since, until=until)]


def _ask_again(session: Session, organization_id: UUID, drift: Drift, columns: tuple[str, ...]) -> None:
    evidence = {"columns": list(columns), "psi": {name: round(drift.psi[name], 3) for name in columns}}
    for state in serving_state.scopes(session):
        retrain_requests.request_again(
            session, organization_id, state.scope, reason="drift", evidence=evidence, now=SystemClock().now()
        )
