"""Tell an organization that this gateway refuses a steering policy and keeps the one before."""

from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auterity_dagster.errors import ConfigurationInvalid
from auterity_dagster.relaycore.strict_yaml import told_mistakes
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.repositories import audit
from auterity_dagster.storage.repositories.steering_policies import PolicyVersion, add_report

PLATFORM = "steering_policy/platform"

_log = structlog.get_logger(__name__)


async def tell_refusal(
    database: Database, organization_id: UUID, refused: PolicyVersion | None, error: ConfigurationInvalid
) -> None:
    """Audit which version is refused (None: the platform's files), with file, path and reason of each mistake.

    A version's reports get the same, so that of several gateways only the first audits it. While PostgreSQL is away
    only the log tells.
    """
    mistakes = told_mistakes(error)
    subject = PLATFORM if refused is None else refused.subject
    try:
        async with database.begin(organization_id) as session:
            if refused is None or await add_report(session, refused, {"kind": "refused", "mistakes": mistakes}):
                details = {"mistakes": mistakes, **({} if refused is None else {"digest": refused.digest})}
                await audit.append(session, actor=None, action="steering.refused", subject=subject, details=details)
    except (DBAPIError, PoolTimeout) as failure:
        _log.warning("refusal_not_audited", subject=subject, reason=type(failure).__name__)
