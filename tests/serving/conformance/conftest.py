"""One gateway for the whole suite, with a deployment of every kind behind it, and the kinds to run a test over."""

import os
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anthropic
import openai
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.embedded.valkey import ValkeyServer
from auterity_dagster.relaycore.catalog import ServedDeployment
from auterity_dagster.serving.model_server.app import create_app
from auterity_dagster.settings import ModelServerSettings
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.object_store import ObjectStore
from auterity_dagster.storage.repositories.gate_verdicts import add_verdict
from auterity_dagster.storage.repositories.routing import publish_deployment
from auterity_dagster.storage.tables.specialisation import GateVerdictRow
from auterity_dagster.training.tiny_model import write_tiny_model
from tests.conftest import DatabaseUrls, FreshDatabases
from tests.fakes.gateway_stack import ROOT, Stack, running_stack
from tests.fakes.gateway_thread import RunningGateway, gateway_in_a_thread
from tests.fakes.served import served

SERVED = "neuroweaver/conformance"


@dataclass(frozen=True)
class Kind:
    """A kind of deployment: one of its deployments, and whether it can do more than talk."""

    name: str
    model: str
    wire: str
    is_full: bool = True


KINDS = (
    Kind("openai", "gpt-6.2-sol", "openai"),
    Kind("anthropic", "claude-opus-5-5", "anthropic"),
    Kind("sandbox", "sandbox-large", "openai"),
    Kind("served", SERVED, "openai", is_full=False),
)
FULL_KINDS = tuple(kind for kind in KINDS if kind.is_full)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of deployment."""
    return request.param


@pytest.fixture(params=FULL_KINDS, ids=lambda kind: kind.name)
def full_kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind that has tools, JSON schema and images."""
    return request.param


@pytest.fixture(scope="session")
def gateway(
    fresh_databases: FreshDatabases, redis_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """OpenAI's and Anthropic's addresses are the sandbox's; our own model server serves the tiny model."""
    folder = tmp_path_factory.mktemp("conformance")
    with fresh_databases.one() as urls:

        def opened() -> AbstractAsyncContextManager[Stack]:
            return _stack(urls, redis_server.url, folder)

        with gateway_in_a_thread(opened, application_url=urls.application, secrets_dir=folder / "secrets") as running:
            yield running


@pytest.fixture
def openai_sdk(gateway: RunningGateway) -> Iterator[openai.OpenAI]:
    with gateway.openai() as client:
        yield client


@pytest.fixture
def anthropic_sdk(gateway: RunningGateway) -> Iterator[anthropic.Anthropic]:
    with gateway.anthropic() as client:
        yield client


@asynccontextmanager
async def _stack(urls: DatabaseUrls, redis_url: str, folder: Path) -> AsyncGenerator[Stack]:
    secrets_dir = folder / "secrets"
    ensure_secrets(secrets_dir)
    for credential in ("openai_default", "anthropic_default"):
        path = secrets_dir / credential
        path.write_text((secrets_dir / "sandbox_token").read_text())
        path.chmod(0o600)
    write_tiny_model(folder / "tiny", seed=7)
    base = ObjectStore(folder / "objects").put_bundle(folder / "tiny")
    settings = ModelServerSettings(data_dir=folder, secrets_dir=secrets_dir)
    async with (
        served(create_app(settings)) as model_server_url,
        running_stack(
            urls,
            redis_url,
            folder,
            config_dir=_config(folder / "config"),
            openai_base_url=lambda sandbox_url: f"{sandbox_url}/v1",
            anthropic_base_url=lambda sandbox_url: sandbox_url,
            model_server_url=model_server_url,
        ) as stack,
    ):
        _publish(urls, stack, model=f"base:{base}")
        yield stack


def _config(folder: Path) -> Path:
    """The shipped configuration, in which models of the two providers are models of the sandbox."""
    folder.mkdir()
    text = (ROOT / "config" / "steering.yaml").read_text()
    for provider, model, stand_in in (
        ("openai", "gpt-6.2-sol", "large"),
        ("anthropic", "claude-opus-5-5", "large"),
        ("openai", "text-embedding-3-small", "embed"),
    ):
        written = rf"(?<=id: {re.escape(model)}, provider: {provider}), model: [^,]+, price: [^,]+,"
        text, count = re.subn(written, f", model: sandbox-{stand_in}, price: sandbox/{stand_in},", text)
        assert count == 1, model
    (folder / "steering.yaml").write_text(text)
    (folder / "prices.yaml").write_text((ROOT / "config" / "prices.yaml").read_text())
    return folder


def _publish(urls: DatabaseUrls, stack: Stack, *, model: str) -> None:
    digest, now = model.partition(":")[2], datetime.now(UTC)
    database = BlockingDatabase(urls.application)
    with database.begin(stack.organization_id) as session:
        publish_deployment(
            session,
            ServedDeployment(
                organization_id=stack.organization_id,
                deployment_id=SERVED,
                artefact_digest=digest,
                model=model,
                price_key="served/smollm2-135m",
                alias="champion",
                weight_percent=100,
                gate_verdict_digest="v1",
                context_tokens=1024,
                output_tokens=512,
                tasks=(),
            ),
        )
        add_verdict(
            session,
            GateVerdictRow(
                organization_id=stack.organization_id,
                verdict_digest="v1",
                artefact_digest=digest,
                scope="conformance",
                outcome="PASS",
                profile="embedded",
                champion_digest="none",
                report_digest="r1",
                reasons=[],
                decided_at=now,
                expires_at=now + timedelta(days=1),
            ),
        )
    database.close()
