"""The link in an e-mail that ends them: one post by a mail program, or a person's button, and no e-mail leaves."""

from uuid import UUID, uuid4

import pytest

from auterity_dagster.automatrix import unsubscribe
from auterity_dagster.automatrix.unsubscribe import UnsubscribeLinks
from auterity_dagster.errors import NotFound
from auterity_dagster.storage.repositories.organizations import DealershipDetails, add_dealership_blocking
from tests.fakes.workflow_world import CONTACT, Dealership, customer
from tests.serving.conftest import Api

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.fixture
def link(api: Api) -> str:
    with api.database.begin(api.organization_id) as session:
        dealership_id = add_dealership_blocking(session, DealershipDetails("Lake & Side Honda", "America/Chicago"))
        session.execute(customer(Dealership(None, api.organization_id, dealership_id, api.owner_id, api.clock), 1))
    return UnsubscribeLinks("", lambda: api.state.pepper).url(api.organization_id, CONTACT)


async def suppressed(api: Api) -> list[tuple[str, str, str]]:
    found = (await api.owner.get("/api/v1/suppressions")).json()
    return [(one["reason"], one["channel"], one["state"]) for one in found]


async def test_one_post_ends_the_e_mails_and_a_second_changes_nothing(api: Api, link: str) -> None:
    first = await api.anonymous.post(link, data=ONE_CLICK)
    second = await api.anonymous.post(link, data=ONE_CLICK)

    assert (first.status_code, second.status_code) == (200, 200)
    assert "no more e-mails from Lake &amp; Side Honda" in first.text
    assert await suppressed(api) == [("opted_out", "email", "in_force")]


async def test_opening_the_link_asks_and_changes_nothing(api: Api, link: str) -> None:
    asked = await api.anonymous.get(link)

    assert (asked.status_code, asked.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert '<form method="post">' in asked.text
    assert await suppressed(api) == []


@pytest.mark.parametrize("place", [0, 20, 40, 63])
async def test_a_link_that_we_did_not_write_is_nobodys(api: Api, link: str, place: int) -> None:
    start = len(link) - 64 + place
    changed = link[:start] + ("A" if link[start] != "A" else "B") + link[start + 1 :]

    answers = [await api.anonymous.get(changed), await api.anonymous.post(changed, data=ONE_CLICK)]

    assert [one.status_code for one in answers] == [404, 404]
    assert await suppressed(api) == []


async def test_a_contact_that_is_gone_is_answered_the_same(api: Api, link: str) -> None:
    gone = UnsubscribeLinks("", lambda: api.state.pepper).url(api.organization_id, uuid4())

    answer = await api.anonymous.post(gone, data=ONE_CLICK)

    assert (answer.status_code, "no more e-mails" in answer.text) == (200, True)


@pytest.mark.parametrize("token", ["", "x", "é", "AAAA", "A" * 64, "A" * 63 + "=", "A" * 5000, "../../secrets"])
def test_anything_else_is_refused_and_crashes_nothing(token: str) -> None:
    with pytest.raises(NotFound):
        unsubscribe.read(bytes(32), token)


def test_a_link_names_its_contact_and_another_pepper_does_not_know_it() -> None:
    organization_id, contact_id = UUID(int=1), UUID(int=2)
    token = unsubscribe.written(bytes(32), organization_id, contact_id)

    assert unsubscribe.read(bytes(32), token) == (organization_id, contact_id)
    with pytest.raises(NotFound):
        unsubscribe.read(bytes(range(32)), token)


async def test_mail_goes_live_only_where_its_links_reach_us(api: Api) -> None:
    settings = {"kind": "smtp", "host": "mail.example.com", "from_address": "sales@example.com"}
    made = await api.owner.post("/api/v1/connections", json={"name": "mail", "settings": settings})

    answer = await api.owner.put("/api/v1/connections/mail/live", json={"is_live": True})

    assert made.status_code == 201, made.text
    assert (answer.status_code, answer.json()["code"]) == (422, "public_url_needed")
    assert "AUTERITY_PUBLIC_URL" in answer.json()["detail"]
