"""What every request of the API can reach: built once in the app's lifespan, read from `request.state.api`."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from redis.asyncio import Redis
from starlette.requests import HTTPConnection

from auterity_dagster.automatrix.compliance.rows import ComplianceRows
from auterity_dagster.clock import Clock
from auterity_dagster.identity.access_token import AccessTokens
from auterity_dagster.money import NanoUsd
from auterity_dagster.serving.api.password_work import PasswordWork
from auterity_dagster.serving.api.workflow_catalog import WorkflowCatalog
from auterity_dagster.serving.authentication import Authentication
from auterity_dagster.settings import ApiSettings
from auterity_dagster.storage.database import Database
from auterity_dagster.storage.redis_key_epochs import KeyEpochs


@dataclass(frozen=True, slots=True)
class ApiState:
    """The connections, keys and settings of one API process."""

    settings: ApiSettings
    budget_alone_nusd: NanoUsd
    database: Database
    redis: Redis
    clock: Clock
    pepper: bytes
    access_tokens: AccessTokens
    authentication: Authentication
    key_epochs: KeyEpochs
    passwords: PasswordWork
    workflows: WorkflowCatalog
    compliance: ComplianceRows


async def api_state(connection: HTTPConnection) -> ApiState:
    """Return the process's state."""
    state: ApiState = connection.state.api
    return state


State = Annotated[ApiState, Depends(api_state)]
"""The process's state, for a route's parameters."""
