"""Workflows in the making: written as a draft, checked, tried out, published by a second person."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Header, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from auterity_dagster.automatrix.document import DEFINITION_LIMIT_BYTES
from auterity_dagster.automatrix.duration import duration_text
from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.publication import DefinitionInvalid
from auterity_dagster.automatrix.trial import TrialOrder, TrialReport, try_out
from auterity_dagster.errors import Conflict, Invalid, NotFound, NotPermitted
from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.api.routers.workflows import Note, PublishedRead, ValidRead, valid
from auterity_dagster.serving.api.state import ApiState, State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.storage.repositories import audit, workflow_drafts, workflow_versions
from auterity_dagster.storage.repositories.workflow_versions import Publication
from auterity_dagster.storage.tables.workflows import WorkflowDraftRow

router = DeclaredRouter(tags=["workflows"])
BODY_LIMIT_BYTES = DEFINITION_LIMIT_BYTES + 64 * 1024
WRITE: dict[str, Any] = {
    "authentication": "user",
    "permission": Permission.WORKFLOW_WRITE,
    "body_limit_bytes": BODY_LIMIT_BYTES,
    "audit_class": "none",
}
DRAFT = "/workflows/{key}/draft"
Revision = Annotated[str, Header(pattern=r'^"?[0-9]{1,9}"?$')]
"""The revision of the draft that the caller has seen."""
RevisionIfAny = Annotated[str | None, Header(alias="if-match", pattern=r'^"?[0-9]{1,9}"?$')]


class _Write(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DraftWrite(_Write):
    """A definition as JSON, whole or not yet, and why it changes."""

    definition: dict[str, Any]
    note: Note = ""


class WorkflowAdd(DraftWrite):
    """A workflow of the organization's own, which begins as a draft."""

    variables: dict[str, Any] = {}


class PublishWrite(_Write):
    """Why this version is published; without a note, the draft's."""

    note: Note = ""


class TrialEventWrite(_Write):
    """The event that starts the trial."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=100)] = "lead.received"
    subject: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "leads/trial"
    data: dict[str, Any] = {}


class TrialWrite(_Write):
    """A trial of the draft, or of a version: its event, its settings, and what steps are to give.

    `pins` are outputs by step id, or by path for one item of a `for_each`; `{"error": {"code", "message"}}` lets the
    step fail. Steps that ask somebody outside need one.
    """

    version: Annotated[int | None, Field(ge=1, le=2**31)] = None
    event: TrialEventWrite = TrialEventWrite()
    variables: dict[str, Any] = {}
    pins: dict[str, dict[str, Any]] = {}
    dealership: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "Trial dealership"
    time_zone: str = "America/Chicago"
    at: AwareDatetime | None = None


class DraftRead(BaseModel):
    """A draft; `revision` goes into `If-Match` to change or publish it, `problems` are what hinders the latter."""

    key: str
    revision: int
    definition: dict[str, Any]
    note: str
    edited_by: UUID
    edited_at: datetime
    problems: list[str]


class TrialStepRead(BaseModel):
    """What became of a step."""

    path: str
    state: str
    attempts: int
    output: dict[str, Any]
    error: dict[str, str] | None


class TrialRead(BaseModel):
    """What an execution would do: nothing was sent, kept or told. `took` is how long it would have waited at most."""

    state: str
    is_triggered: bool
    error: dict[str, str] | None
    took: str
    steps: list[TrialStepRead]
    messages: list[dict[str, Any]]
    tasks: list[dict[str, Any]]
    events: list[dict[str, Any]]
    outputs: dict[str, Any]


@router.post("/workflows", status_code=201, **WRITE, problems=(409,))
async def add_workflow(state: State, principal: CurrentPrincipal, body: WorkflowAdd, response: Response) -> DraftRead:
    """Add a workflow of the organization's own, as a draft."""
    key = body.definition.get("key")
    if not isinstance(key, str):
        raise Invalid("a definition needs a `key`", field="definition.key")
    async with state.database.begin(principal.organization_id) as session:
        workflow = await workflow_drafts.add_workflow(
            session, principal.organization_id, key=key, name=str(body.definition.get("name", key))[:200],
            settings=body.variables, now=state.clock.now(),
        )  # fmt: skip
        draft = await workflow_drafts.save(
            session, workflow, None, definition=body.definition, note=body.note, by=principal.id, seen=None,
            now=state.clock.now(),
        )  # fmt: skip
    return read_draft(state, key, draft, response)


@router.get(
    DRAFT,
    authentication="user_or_api_key",
    permission=Permission.WORKFLOW_READ,
    body_limit_bytes=0,
    audit_class="none",
)
async def get_draft(state: State, principal: CurrentPrincipal, key: str, response: Response) -> DraftRead:
    """Return a workflow's draft."""
    async with state.database.begin(principal.organization_id) as session:
        draft = await workflow_drafts.require(session, key)
    return read_draft(state, key, draft, response)


@router.put(DRAFT, **WRITE, problems=(404, 409))
async def put_draft(
    state: State,
    principal: CurrentPrincipal,
    key: str,
    body: DraftWrite,
    response: Response,
    if_match: RevisionIfAny = None,
) -> DraftRead:
    """Write the draft; once there is one, `If-Match` carries the revision that was read."""
    definition = {**body.definition, "key": key}
    async with state.database.begin(principal.organization_id) as session:
        workflow, draft = await workflow_drafts.find(session, key)
        written = await workflow_drafts.save(
            session, workflow, draft, definition=definition, note=body.note, by=principal.id, seen=revision(if_match),
            now=state.clock.now(),
        )  # fmt: skip
    return read_draft(state, key, written, response)


@router.delete(DRAFT, **{**WRITE, "body_limit_bytes": 0}, problems=(404, 409))
async def discard_draft(state: State, principal: CurrentPrincipal, key: str, if_match: Revision) -> None:
    """Drop the draft."""
    async with state.database.begin(principal.organization_id) as session:
        await workflow_drafts.discard(session, _seen(await workflow_drafts.require(session, key), if_match))


@router.post("/workflows/{key}/validate", **{**WRITE, "body_limit_bytes": 0}, problems=(404,))
async def validate_draft(state: State, principal: CurrentPrincipal, key: str) -> ValidRead:
    """Check the draft; a wrong one answers 422 with every problem and its place."""
    async with state.database.begin(principal.organization_id) as session:
        draft = await workflow_drafts.require(session, key)
    return valid(state, state.workflows.compiled(draft.definition))


@router.post("/workflows/{key}/test", **WRITE, problems=(404,))
async def test_workflow(state: State, principal: CurrentPrincipal, key: str, body: TrialWrite) -> TrialRead:
    """Run the draft, or a version, on pinned data: the engine is the real one, nothing leaves and nothing is kept."""
    async with state.database.begin(principal.organization_id) as session:
        if body.version is None:
            definition = (await workflow_drafts.require(session, key)).definition
        else:
            versions = await workflow_versions.list_versions(session, key)
            found = next((one.definition for one in versions if one.number == body.version), None)
            if found is None:
                raise NotFound(f"workflow {key!r} has no version {body.version}")
            definition = found
    compiled = state.workflows.compiled(definition)
    report = await run_in_threadpool(try_out, compiled, _order(state, principal.organization_id, body))
    return _trial(report)


@router.post(
    "/workflows/{key}/publish",
    authentication="user",
    permission=Permission.WORKFLOW_PUBLISH,
    body_limit_bytes=4096,
    audit_class="change",
    problems=(404, 409),
)
async def publish_draft(
    state: State, principal: CurrentPrincipal, key: str, body: PublishWrite, if_match: Revision
) -> PublishedRead:
    """Make the draft a version that new executions get; running ones keep theirs.

    A workflow that contacts customers is published by somebody else than who wrote the draft.
    """
    async with state.database.begin(principal.organization_id) as session:
        draft = _seen(await workflow_drafts.require(session, key), if_match)
        compiled = state.workflows.compiled(draft.definition)
        if compiled.contacts_customers and draft.edited_by == principal.id:
            raise NotPermitted(
                "this workflow contacts customers: somebody else than its author publishes it",
                code="second_person_required",
            )
        publication = Publication(compiled, state.workflows.job(compiled), None, body.note or draft.note, principal.id)
        published = await workflow_versions.publish(
            session, principal.organization_id, publication, now=state.clock.now()
        )
        await workflow_drafts.discard(session, draft)
        await audit.append(
            session, actor=principal, action="workflow.published", subject=f"workflow/{key}",
            details={"number": published.number, "digest": published.digest, "author": str(draft.edited_by)},
        )  # fmt: skip
    return PublishedRead(key=key, number=published.number, digest=published.digest, job=published.job)


def read_draft(state: ApiState, key: str, draft: WorkflowDraftRow, response: Response) -> DraftRead:
    """Return a draft as it is read, with its revision as the answer's ETag."""
    response.headers["etag"] = f'"{draft.revision}"'
    return DraftRead(
        key=key, revision=draft.revision, definition=draft.definition, note=draft.note, edited_by=draft.edited_by,
        edited_at=draft.edited_at, problems=_problems(state, draft.definition),
    )  # fmt: skip


def revision(if_match: str | None) -> int | None:
    """Return the revision that an `If-Match` carries."""
    return None if if_match is None else int(if_match.strip('"'))


def _seen(draft: WorkflowDraftRow, if_match: str) -> WorkflowDraftRow:
    if draft.revision != revision(if_match):
        raise Conflict(
            f"the draft is at revision {draft.revision}: look at it again first", code="draft_changed",
            revision=draft.revision,
        )  # fmt: skip
    return draft


def _problems(state: ApiState, definition: dict[str, Any]) -> list[str]:
    try:
        state.workflows.compiled(definition)
    except DefinitionInvalid as error:
        return list(error.problems)
    except Invalid as error:
        return [error.message]
    return []


def _order(state: ApiState, organization_id: UUID, body: TrialWrite) -> TrialOrder:
    try:
        ZoneInfo(body.time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise Invalid(f"{body.time_zone!r} is no time zone", field="time_zone") from error
    event = Event(
        id=uuid4(), type=body.event.type, organization_id=organization_id, dealership_id=uuid4(),
        subject=body.event.subject, time=body.at or state.clock.now(), dedupe_key="trial", data=body.event.data,
    )  # fmt: skip
    return TrialOrder(event, body.variables, body.pins, body.dealership, body.time_zone)


def _trial(report: TrialReport) -> TrialRead:
    state = report.state
    return TrialRead(
        state=state.status.value,
        is_triggered=report.is_triggered,
        error=None if state.error is None else asdict(state.error),
        took=duration_text(timedelta(seconds=round(report.took.total_seconds()))),
        steps=[
            TrialStepRead(
                path=path, state=step.status.value, attempts=step.attempt, output=dict(step.output),
                error=None if step.error is None else asdict(step.error),
            )
            for path, step in state.steps.items()
        ],
        messages=[asdict(one) for one in report.messages],
        tasks=[{"path": one.path, "role": one.role, "title": one.title, "due_at": one.due_at} for one in report.tasks],
        events=[{"type": one.type, "data": dict(one.data), "findings": dict(one.findings)} for one in report.events],
        outputs=dict(report.outputs),
    )  # fmt: skip
