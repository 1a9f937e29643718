"""Workflows: the shipped templates, what an organization installed, and its published versions."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

from auterity_dagster.automatrix.compiled_workflow import CompiledWorkflow
from auterity_dagster.automatrix.document import DEFINITION_LIMIT_BYTES
from auterity_dagster.identity.permission import Permission
from auterity_dagster.identity.principal import Principal
from auterity_dagster.serving.api.state import ApiState, State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, workflow_versions
from auterity_dagster.storage.repositories.workflow_versions import Publication, Published
from auterity_dagster.storage.tables.workflows import WorkflowVersionRow

router = DeclaredRouter(tags=["workflows"])
BODY_LIMIT_BYTES = DEFINITION_LIMIT_BYTES + 4096
Note = Annotated[str, StringConstraints(max_length=500)]
READ: dict[str, Any] = {
    "authentication": "user_or_api_key",
    "permission": Permission.WORKFLOW_READ,
    "body_limit_bytes": 0,
    "audit_class": "none",
}
PUBLISH: dict[str, Any] = {
    "authentication": "user",
    "permission": Permission.WORKFLOW_PUBLISH,
    "body_limit_bytes": BODY_LIMIT_BYTES,
    "audit_class": "change",
}
CHANGE: dict[str, Any] = {**PUBLISH, "body_limit_bytes": 0, "problems": (409,)}


class _Write(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InstallWrite(_Write):
    """What is set beside the template's defaults."""

    variables: dict[str, Any] = {}


class DefinitionWrite(_Write):
    """A definition as JSON, and why it changes."""

    definition: dict[str, Any]
    note: Note = ""


class TemplateRead(BaseModel):
    """A workflow that ships."""

    key: str
    name: str
    definition: dict[str, Any]


class PublishedRead(BaseModel):
    """The version that new executions get."""

    key: str
    number: int
    digest: str
    job: str


class WorkflowRead(BaseModel):
    """A workflow with its active version; one that was never published has none."""

    key: str
    name: str
    state: str
    variables: dict[str, Any]
    number: int | None
    digest: str | None
    job: str | None


class VersionRead(BaseModel):
    """A published version; it never changes."""

    number: int
    digest: str
    job: str
    note: str
    published_at: datetime
    definition: dict[str, Any]


class ValidRead(BaseModel):
    """A definition that may be published; one that contacts customers needs a second person for it."""

    digest: str
    job: str
    steps: list[str]
    contacts_customers: bool


@router.get("/templates", **READ)
async def list_templates(state: State) -> list[TemplateRead]:
    """Return the workflows that ship."""
    return [
        TemplateRead(key=key, name=one.definition.name, definition=dict(one.document))
        for key, one in state.workflows.templates.items()
    ]


@router.get("/workflows", **READ)
async def list_workflows(state: State, principal: CurrentPrincipal) -> list[WorkflowRead]:
    """Return what the organization installed, by key."""
    async with state.database.begin(principal.organization_id) as session:
        found = await workflow_versions.list_workflows(session)
        drafts = await workflow_versions.list_unpublished(session)
    published = [
        WorkflowRead(
            key=workflow.key, name=workflow.name, state=workflow.state, variables=workflow.variables,
            number=version.number, digest=version.digest, job=version.job,
        )
        for workflow, version in found
    ]  # fmt: skip
    unpublished = [
        WorkflowRead(
            key=one.key, name=one.name, state=one.state, variables=one.variables, number=None, digest=None, job=None
        )
        for one in drafts
    ]
    return sorted([*published, *unpublished], key=lambda one: one.key)


@router.get("/workflows/{key}/versions", **READ)
async def list_versions(state: State, principal: CurrentPrincipal, key: str) -> list[VersionRead]:
    """Return the published versions, newest first."""
    async with state.database.begin(principal.organization_id) as session:
        found = await workflow_versions.list_versions(session, key)
    return [_version(row) for row in found]


@router.post(
    "/workflows/validate",
    authentication="user_or_api_key",
    permission=Permission.WORKFLOW_WRITE,
    body_limit_bytes=BODY_LIMIT_BYTES,
    audit_class="none",
)
async def validate_definition(state: State, body: DefinitionWrite) -> ValidRead:
    """Check a definition; a wrong one answers 422 with every problem and its place."""
    compiled = state.workflows.compiled(body.definition)
    return valid(state, compiled)


@router.post("/templates/{key}/install", status_code=201, **PUBLISH, problems=(409,))
async def install_template(state: State, principal: CurrentPrincipal, key: str, body: InstallWrite) -> PublishedRead:
    """Install a template with the organization's settings; it is in force at once."""
    compiled = state.workflows.template(key)
    publication = Publication(compiled, state.workflows.job(compiled), key, f"template {key}", principal.id)
    return await _install(state, principal, publication, body.variables)


@router.put("/workflows/{key}/variables", **PUBLISH)
async def set_variables(state: State, principal: CurrentPrincipal, key: str, body: InstallWrite) -> None:
    """Replace what is set beside the defaults, for executions that start from now on."""
    async with state.database.begin(principal.organization_id) as session:
        await workflow_versions.set_variables(session, key, body.variables, state.workflows.expressions)
        await audit.append(
            session, actor=principal, action="workflow.variables_set", subject=f"workflow/{key}",
            details={"names": sorted(body.variables)},
        )  # fmt: skip


@router.post("/workflows/{key}/pause", **CHANGE)
async def pause(state: State, principal: CurrentPrincipal, key: str) -> None:
    """Let events and schedules start nothing until it is resumed."""
    await _change_state(state, principal, key, "paused")


@router.post("/workflows/{key}/resume", **CHANGE)
async def resume(state: State, principal: CurrentPrincipal, key: str) -> None:
    """Put it in force again; what happened meanwhile is not made up for."""
    await _change_state(state, principal, key, "active")


@router.post("/workflows/{key}/archive", **CHANGE)
async def archive(state: State, principal: CurrentPrincipal, key: str) -> None:
    """End it; executions that run go on."""
    await _change_state(state, principal, key, "archived")


def valid(state: ApiState, compiled: CompiledWorkflow) -> ValidRead:
    """Return what is known about a definition that compiles."""
    return ValidRead(
        digest=compiled.digest, job=state.workflows.job(compiled), steps=list(compiled.order),
        contacts_customers=compiled.contacts_customers,
    )  # fmt: skip


async def _change_state(state: State, principal: Principal, key: str, wanted: str) -> None:
    async with state.database.begin(principal.organization_id) as session:
        await workflow_versions.set_state(session, key, wanted)
        await audit.append(session, actor=principal, action=f"workflow.{wanted}", subject=f"workflow/{key}", details={})


async def _install(
    state: State, principal: Principal, publication: Publication, variables: dict[str, Any]
) -> PublishedRead:
    async with state.database.begin(principal.organization_id) as session:
        published = await workflow_versions.install(
            session, principal.organization_id, publication, settings=variables, now=state.clock.now()
        )
        await _audit(session, principal, "workflow.installed", published)
    return _published(published)


async def _audit(session: Any, principal: Principal, action: str, published: Published) -> None:
    await audit.append(
        session,
        actor=principal,
        action=action,
        subject=f"workflow/{published.key}",
        details={"number": published.number, "digest": published.digest},
    )


def _published(published: Published) -> PublishedRead:
    return PublishedRead(key=published.key, number=published.number, digest=published.digest, job=published.job)


def _version(row: WorkflowVersionRow) -> VersionRead:
    return VersionRead(
        number=row.number, digest=row.digest, job=row.job, note=row.note, published_at=row.published_at,
        definition=row.definition,
    )  # fmt: skip
