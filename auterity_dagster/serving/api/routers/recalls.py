"""The organization's table of recalls: a day's CSV file takes the place of an older one."""

from datetime import date

from fastapi import Request
from pydantic import BaseModel

from auterity_dagster.automatrix.recall import read_recalls
from auterity_dagster.errors import Invalid
from auterity_dagster.identity.permission import Permission
from auterity_dagster.serving.api.routers.ingest import BadRow
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.authentication import CurrentPrincipal
from auterity_dagster.serving.declared_router import DeclaredRouter, raw_body
from auterity_dagster.serving.delivery import or_unavailable
from auterity_dagster.storage.repositories import audit, recalls

router = DeclaredRouter(tags=["ingest"])
FILE_LIMIT_BYTES = 16 * 1024 * 1024
SHOWN = 100


class RecallsTaken(BaseModel):
    """How many rows the table has now, and the first hundred rows that were not taken."""

    taken: int
    as_of: date
    bad_rows: list[BadRow]


@router.post(
    "/ingest/recalls",
    authentication="user_or_api_key",
    permission=Permission.INGEST_WRITE,
    body_limit_bytes=FILE_LIMIT_BYTES,
    audit_class="change",
    problems=(409,),
    openapi_extra=raw_body("text/csv"),
)
async def ingest_recalls(as_of: date, request: Request, state: State, principal: CurrentPrincipal) -> RecallsTaken:
    """Replace the table with a file of that day; a file without a good row replaces nothing."""
    try:
        text = (await request.body()).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid("the file is not UTF-8", field="body") from error
    taken, bad = read_recalls(text)
    if not taken:
        raise Invalid("the file has no row that can be taken", field="body")
    async with or_unavailable(), state.database.begin(principal.organization_id) as session:
        await recalls.replace_all(session, taken, as_of=as_of)
        details = {"taken": len(taken), "bad_rows": len(bad), "as_of": as_of.isoformat()}
        await audit.append(session, actor=principal, action="recalls.imported", subject="recalls", details=details)
    bad_rows = [BadRow(row=one.row, field=one.field, reason=one.reason) for one in bad[:SHOWN]]
    return RecallsTaken(taken=len(taken), as_of=as_of, bad_rows=bad_rows)
