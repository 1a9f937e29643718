"""Workflows compared, taken out and brought in: differences by step, YAML and JSON, the schema that editors read."""

import json
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from auterity_dagster.automatrix.definition_diff import diff
from auterity_dagster.automatrix.document import DEFINITION_LIMIT_BYTES, read_document, write_yaml
from auterity_dagster.automatrix.workflow import schema_text
from auterity_dagster.errors import Invalid, NotFound
from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.api.routers.workflow_drafts import DraftRead, RevisionIfAny, read_draft, revision
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter, raw_body
from auterity_dagster.storage.repositories import workflow_drafts, workflow_versions

router = DeclaredRouter(tags=["workflows"])
READ: dict[str, Any] = {
    "authentication": "user_or_api_key",
    "permission": Permission.WORKFLOW_READ,
    "body_limit_bytes": 0,
    "audit_class": "none",
}
Which = Annotated[str, Path(pattern=r"^([1-9][0-9]{0,8}|draft)$")]
"""A version's number, or `draft`."""


class ChangeRead(BaseModel):
    """One difference: `path` names the step by its id, as in `steps.draft.with.prompt`."""

    kind: str
    path: str
    before: Any
    after: Any


@router.get("/workflows/schema", **READ)
async def workflow_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a definition."""
    found: dict[str, Any] = json.loads(schema_text())
    return found


@router.get("/workflows/{key}/versions/{before}/diff/{after}", **READ, problems=(404,))
async def compare(state: State, principal: CurrentPrincipal, key: str, before: Which, after: Which) -> list[ChangeRead]:
    """Return what changed between two versions, or to the draft; steps are found again by their ids."""
    async with state.database.begin(principal.organization_id) as session:
        old, new = await _definition(session, key, before), await _definition(session, key, after)
    return [ChangeRead(kind=one.kind, path=one.path, before=one.before, after=one.after) for one in diff(old, new)]


@router.get(
    "/workflows/{key}/export",
    **READ,
    problems=(404,),
    response_class=Response,
    responses={200: {"content": {"application/yaml": {}, "application/json": {}}}},
)
async def export_workflow(
    state: State,
    principal: CurrentPrincipal,
    key: str,
    version: Annotated[str, Query(pattern=r"^([1-9][0-9]{0,8}|draft|active)$")] = "active",
    form: Annotated[Literal["yaml", "json"], Query(alias="format")] = "yaml",
) -> Response:
    """Return a definition as a document that `import` takes again."""
    async with state.database.begin(principal.organization_id) as session:
        definition = await _definition(session, key, version)
    if form == "json":
        return Response(json.dumps(definition, indent=2, ensure_ascii=False) + "\n", media_type="application/json")
    return Response(await run_in_threadpool(write_yaml, definition), media_type="application/yaml")


@router.post(
    "/workflows/import",
    authentication="user",
    permission=Permission.WORKFLOW_WRITE,
    body_limit_bytes=DEFINITION_LIMIT_BYTES,
    audit_class="none",
    problems=(409,),
    openapi_extra=raw_body("application/yaml", "application/json"),
)
async def import_workflow(
    request: Request, state: State, principal: CurrentPrincipal, response: Response, if_match: RevisionIfAny = None
) -> DraftRead:
    """Make a YAML or JSON document the draft of the workflow whose key it has, which is added if it is new."""
    try:
        text = (await request.body()).decode()
    except UnicodeDecodeError as error:
        raise Invalid("a definition is UTF-8", code="definition_invalid") from error
    definition = await run_in_threadpool(read_document, text)
    key = definition.get("key")
    if not isinstance(key, str):
        raise Invalid("a definition needs a `key`", field="key")
    async with state.database.begin(principal.organization_id) as session:
        now = state.clock.now()
        try:
            workflow, draft = await workflow_drafts.find(session, key)
        except NotFound:
            name = str(definition.get("name", key))[:200]
            workflow, draft = (
                await workflow_drafts.add_workflow(
                    session, principal.organization_id, key=key, name=name, settings={}, now=now
                ),
                None,
            )
        written = await workflow_drafts.save(
            session, workflow, draft, definition=definition, note="imported", by=principal.id,
            seen=revision(if_match), now=now,
        )  # fmt: skip
    return read_draft(state, key, written, response)


async def _definition(session: Any, key: str, which: str) -> dict[str, Any]:
    if which == "draft":
        return (await workflow_drafts.require(session, key)).definition
    if which == "active":
        found = {one.key: version for one, version in await workflow_versions.list_workflows(session)}.get(key)
        if found is None:
            raise NotFound(f"workflow {key!r} has no version in force")
        return found.definition
    versions = await workflow_versions.list_versions(session, key)
    for version in versions:
        if version.number == int(which):
            return version.definition
    known = ", ".join(str(one.number) for one in versions) or "none"
    raise NotFound(f"workflow {key!r} has no version {which}; there are {known}")
