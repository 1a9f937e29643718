"""An organization's own policy steers it through a running gateway; one with a mistake is refused and told."""

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from uuid import uuid4

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from pydantic import PostgresDsn, RedisDsn
from sqlalchemy import func, select

from auterity_dagster.clock import SystemClock
from auterity_dagster.embedded.ports import free_port
from auterity_dagster.embedded.postgres import PostgresServer
from auterity_dagster.embedded.valkey import ValkeyServer
from auterity_dagster.relaycore.catalog import DeploymentOverride
from auterity_dagster.relaycore.price_list import parse_entries
from auterity_dagster.relaycore.steering_file import policy_digest
from auterity_dagster.serving.api.app import build_app
from auterity_dagster.settings import ApiSettings
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.tables.ledger import HoldRow
from auterity_dagster.storage.tables.routing import RequestRow
from auterity_dagster.storage.tables.steering import PriceRow
from tests.conftest import APPLICATION_PASSWORD, TEMPLATE, DatabaseUrls
from tests.fakes.gateway_stack import ROOT, Stack, running_stack
from tests.fakes.gateway_thread import gateway_in_a_thread
from tests.fakes.policy_mistakes import MISTAKES, SHIPPED, PolicyMistake
from tests.fakes.steered_gateway import Organization, Steered, until
from tests.serving.conftest import running

DEARER = """version: 1
prices:
  - key: sandbox/small
    in_force_from: 2026-11-01
    source: a letter of the provider
    usd_per_mtok: [{input: "90.00", output: "900.00"}]
"""
OWN = SHIPPED.replace("name: dealership-default", "name: our-own")


@pytest.fixture(scope="module")
def gateway(
    postgres: PostgresServer, redis_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Steered]:
    folder, name, port = tmp_path_factory.mktemp("steered"), f"steered_{uuid4().hex}", free_port()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(TEMPLATE)))
    urls = DatabaseUrls(
        owner=postgres.url(name), application=postgres.url(name, user="auterity_app", password=APPLICATION_PASSWORD)
    )
    config = shutil.copytree(ROOT / "config", folder / "config")

    def opened() -> AbstractAsyncContextManager[Stack]:
        return running_stack(urls, redis_server.url, folder, config_dir=config, gateway_metrics_port=port)

    database = BlockingDatabase(urls.application)
    secrets_dir = folder / "secrets"
    with gateway_in_a_thread(opened, application_url=urls.application, secrets_dir=secrets_dir) as running:
        metrics_url = f"http://127.0.0.1:{port}/metrics"
        yield Steered(
            url=running.stack.gateway_url,
            metrics_url=metrics_url,
            policy_file=config / "steering.yaml",
            application_url=urls.application,
            redis_url=redis_server.url,
            database=database,
            secrets_dir=secrets_dir,
        )
    database.close()


@pytest.fixture(scope="module")
def steered(gateway: Steered) -> tuple[Organization, str]:
    """An organization whose own policy is in force, and that policy."""
    organization = gateway.organization()
    own = f"our-own@{organization.plant(OWN)}"
    until(lambda: organization.policy() == own)
    return organization, own


def test_an_own_policy_steers_its_organization_and_no_other(
    gateway: Steered, steered: tuple[Organization, str]
) -> None:
    organization, own = steered
    platform = f"dealership-default@{policy_digest(SHIPPED)}"

    explained = organization.post("/v1/route:explain").json()

    assert (explained["policy"], explained["policy_version"]) == (own, 1)
    assert gateway.organization().policy() == platform


def test_a_stored_decision_names_policy_and_version(steered: tuple[Organization, str]) -> None:
    organization, own = steered

    def decided() -> list[RequestRow]:
        with organization.gateway.database.begin(organization.id) as session:
            rows = session.scalars(select(RequestRow).order_by(RequestRow.received_at.desc()))
            return [row for row in rows if row.decision.get("policy") == own]

    organization.policy()
    until(decided)

    row = decided()[0]
    assert row.decided_on is not None
    assert row.decision["policy_version"] == row.decided_on["policy_version"] == 1
    assert row.decided_on["policy_name"] == "our-own"


def test_what_a_second_person_activates_over_the_api_answers_the_next_calls(gateway: Steered) -> None:
    organization, text = gateway.organization(), OWN.replace("max_output_tokens: 1024", "max_output_tokens: 640")

    async def activated() -> int:
        settings = ApiSettings(
            database_url=PostgresDsn(gateway.application_url),
            redis_url=RedisDsn(gateway.redis_url),
            secrets_dir=gateway.secrets_dir,
            config_dir=gateway.policy_file.parent,
        )
        async with running(build_app(settings, clock=SystemClock())) as (state, client):
            author, other = (
                {"authorization": f"Bearer {state.access_tokens.issue(one, organization_id=organization.id, epoch=0)}"}
                for one in organization.administrators()
            )
            path = "/api/v1/steering-policies"
            await client.post(path, json={"yaml": text}, headers=author)
            seen = (await client.get(f"{path}/in-force", headers=other)).json()["digest"]
            answer = await client.post(f"{path}/our-own/1:activate", headers={**other, "if-match": seen})
            return answer.status_code

    assert asyncio.run(activated()) == 200
    until(lambda: organization.policy() == f"our-own@{policy_digest(text)}")


def refusal(organization: Organization, text: str) -> tuple[str, list[dict[str, str]]]:
    """Plant a policy, wait until the gateway took or refused it; return what answers then, and what was audited."""
    before, digest = organization.policy(), organization.plant(text)
    until(lambda: organization.refused().get(digest) or organization.policy() != before)
    return organization.policy(), organization.refused().get(digest, [])


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=list(MISTAKES))
def test_a_policy_with_a_mistake_is_refused_while_the_old_one_serves(
    gateway: Steered, steered: tuple[Organization, str], mistake: PolicyMistake
) -> None:
    organization, own = steered
    counted = gateway.refusals()

    answered_by, audited = refusal(organization, mistake.text)

    assert answered_by == own
    told = [one for one in audited if one["path"] == mistake.path and mistake.reason in one["reason"]]
    assert told, audited
    assert told[0]["file"].startswith("our-own@")
    assert gateway.refusals() == counted + 1
    assert organization.reports(policy_digest(mistake.text)) == [{"kind": "refused", "mistakes": audited}]


def test_the_check_sees_a_policy_that_is_not_refused(gateway: Steered) -> None:
    """Negative control: the same steps with a policy that has no mistake."""
    organization = gateway.organization()
    changed = OWN.replace("max_output_tokens: 1024", "max_output_tokens: 512")

    answered_by, audited = refusal(organization, changed)

    assert (answered_by, audited) == (f"our-own@{policy_digest(changed)}", [])


def test_without_an_earlier_version_nobody_elses_rules_stand_in(gateway: Steered) -> None:
    organization = gateway.organization()
    organization.plant(MISTAKES["no price"].text)

    answer = organization.post("/v1/chat/completions")

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "policy_refused")
    assert organization.refused()


def test_an_organization_cannot_send_the_platforms_other_secrets_anywhere(gateway: Steered) -> None:
    organization = gateway.organization()
    organization.plant(OWN.replace("secret://sandbox_token", "secret://pepper"))

    answer = organization.post("/v1/route:explain")

    removed = answer.json()["refused"]["removed"]
    assert removed["sandbox-small"].startswith("credential: the platform's policy does not lend secret://pepper")


def test_the_platforms_file_is_reloaded_and_kept_where_the_new_one_has_a_mistake(gateway: Steered) -> None:
    organization, counted = gateway.organization(), gateway.refusals()
    before = organization.policy()
    changed = SHIPPED.replace("max_output_tokens: 1024", "max_output_tokens: 900")

    gateway.policy_file.write_text(MISTAKES["unknown key"].text)
    until(lambda: gateway.refusals() > counted)
    kept = organization.policy()
    for text in (changed, SHIPPED):
        gateway.policy_file.write_text(text)
        until(lambda text=text: organization.policy() == f"dealership-default@{policy_digest(text)}")

    assert kept == before
    [mistake] = organization.refused()["steering_policy/platform"]
    assert mistake["file"] == str(gateway.policy_file)
    assert mistake["path"] == MISTAKES["unknown key"].path


def test_an_approved_price_is_what_the_next_call_is_held_at(gateway: Steered) -> None:
    organization = gateway.organization()
    before = organization.post("/v1/route:explain").json()["route"][0]
    [entry] = parse_entries(DEARER, source="import")
    row = PriceRow(
        organization_id=organization.id,
        id=uuid4(),
        key=entry.key,
        in_force_from=entry.in_force_from,
        entry=entry.model_dump(mode="json"),
        digest=entry.price().digest,
        change_percent=None,
        imported_by=uuid4(),
        approved_by=uuid4(),
        approved_at=func.now(),
    )

    with gateway.database.begin(organization.id) as session:
        session.add(row)
    until(lambda: organization.post("/v1/route:explain").json()["route"][0]["price_digest"] == entry.price().digest)
    organization.policy()

    with gateway.database.begin(organization.id) as session:
        hold = session.scalars(select(HoldRow)).one()
    assert hold.price_digest == entry.price().digest
    assert hold.amount_nusd > before["may_cost_nusd"]


def test_a_deployment_that_is_switched_off_is_left_alone_until_it_is_on_again(gateway: Steered) -> None:
    organization, off = gateway.organization(), DeploymentOverride("sandbox-small", is_off=True, note="wrong answers")
    organization.policy()

    def reason() -> str:
        explained = organization.post("/v1/route:explain").json()
        return explained.get("refused", {}).get("removed", {}).get("sandbox-small", "")

    organization.set(off)
    until(lambda: reason() == "off: wrong answers")
    organization.set(DeploymentOverride("sandbox-small", version=1))
    until(lambda: reason() == "")
