"""The API's health and its documentation: declared like any other route, with nothing loaded from elsewhere."""

from html import escape
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from auterity_dagster.errors import Unavailable
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.declared_router import DeclaredRouter

router = DeclaredRouter(include_in_schema=False)


@router.get("/healthz", authentication="public", permission="public", body_limit_bytes=0, audit_class="none")
async def healthz(state: State) -> PlainTextResponse:
    """Answer 200 when PostgreSQL answers; Redis may be away, nothing is lost without it."""
    try:
        async with state.database.begin_without_organization() as session:
            await session.execute(select(1))
    except (DBAPIError, PoolTimeout) as error:
        raise Unavailable("PostgreSQL does not answer", retry_after_s=1) from error
    return PlainTextResponse("ok")


@router.get("/openapi.json", authentication="public", permission="public", body_limit_bytes=0, audit_class="none")
async def openapi(request: Request) -> JSONResponse:
    """Return the OpenAPI document: it describes the API and holds nobody's data."""
    return JSONResponse(request.app.openapi())


@router.get("/docs", authentication="public", permission="public", body_limit_bytes=0, audit_class="none")
async def docs(request: Request) -> HTMLResponse:
    """Return a page that lists every route; it needs no script."""
    document: dict[str, Any] = request.app.openapi()
    rows = [
        f"<tr><td>{escape(method.upper())}</td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(operation['x-authentication'])}</td><td>{escape(operation['x-permission'])}</td>"
        f"<td>{escape(operation.get('description', ''))}</td></tr>"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(document["info"]["title"])}</title>'
        f"<h1>{escape(document['info']['title'])}</h1>"
        '<p>Requests and answers in full: <a href="/openapi.json">openapi.json</a>.</p>'
        "<table><thead><tr><th>method<th>path<th>authentication<th>permission<th>what it does</thead>"
        f"<tbody>{''.join(rows)}</tbody></table></html>"
    )
