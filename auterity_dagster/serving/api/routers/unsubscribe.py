"""The page behind an e-mail's link that ends them: a person presses a button, a mail program posts by itself."""

from html import escape

from fastapi.responses import HTMLResponse

from auterity_dagster.automatrix import unsubscribe
from auterity_dagster.automatrix.compliance.rows import EmailOptOut
from auterity_dagster.serving.api.state import State
from auterity_dagster.serving.declared_router import DeclaredRouter
from auterity_dagster.serving.delivery import or_unavailable
from auterity_dagster.storage.repositories import suppressions

router = DeclaredRouter(tags=["messages"])
# RFC 8058: `List-Unsubscribe=One-Click`; the address says everything, so the body is not read.
FORM_LIMIT_BYTES = 1024


@router.get(
    "/unsubscribe/{token}",
    authentication="signature",
    permission="signed_in",
    body_limit_bytes=0,
    audit_class="none",
    problems=(404,),
    response_class=HTMLResponse,
)
async def ask(token: str, state: State) -> HTMLResponse:
    """Ask before anything changes: programs that look for dangerous links open every one of them."""
    unsubscribe.read(state.pepper, token)
    return _page("End these e-mails?", '<form method="post"><button>No more e-mails</button></form>')


@router.post(
    "/unsubscribe/{token}",
    authentication="signature",
    permission="signed_in",
    body_limit_bytes=FORM_LIMIT_BYTES,
    audit_class="none",
    problems=(404,),
    response_class=HTMLResponse,
)
async def end(token: str, state: State) -> HTMLResponse:
    """End the e-mails: it holds before this is answered, and a second time changes nothing."""
    organization_id, contact_id = unsubscribe.read(state.pepper, token)
    now = state.clock.now()
    rules = [row.id for row in state.compliance.in_force(now, ()) if isinstance(row, EmailOptOut)]
    async with or_unavailable(), state.database.begin(organization_id) as session:
        dealership = await suppressions.end_emails(session, contact_id, rules=rules, now=now)
    return _page("Done.", f"<p>You will get no more e-mails from {escape(dealership or 'us')}.</p>")


def _page(title: str, content: str) -> HTMLResponse:
    return HTMLResponse(
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><meta name="robots" content="noindex">'
        f"<title>{title}</title><h1>{title}</h1>{content}</html>"
    )
