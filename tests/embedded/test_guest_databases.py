from pathlib import Path

import psycopg
import pytest

from auterity_dagster.embedded.databases import (
    database_urls,
    parse_postgres_url,
    plain_url,
    prepare_guests,
    require_reachable,
)
from auterity_dagster.embedded.ports import free_port
from auterity_dagster.embedded.postgres import PostgresServer
from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.errors import ConfigurationInvalid, Unavailable


@pytest.fixture
def secrets_dir(tmp_path: Path) -> Path:
    ensure_secrets(tmp_path / "secrets")
    return tmp_path / "secrets"


def test_each_guest_enters_its_own_database_and_no_other_guests(postgres: PostgresServer, secrets_dir: Path) -> None:
    urls = database_urls(postgres.url(), secrets_dir=secrets_dir)

    prepare_guests(urls, secrets_dir=secrets_dir)
    prepare_guests(urls, secrets_dir=secrets_dir)

    for own, other in (("dagster", "mlflow"), ("mlflow", "dagster")):
        url = plain_url(getattr(urls, own))
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE mine (id int)")
            connection.rollback()
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(url.replace(f"/{own}", f"/{other}"))


def test_a_database_that_is_down_is_one_message_without_the_password() -> None:
    port = free_port()

    with pytest.raises(Unavailable) as raised:
        require_reachable(f"postgresql://owner:hidden@127.0.0.1:{port}/auterity")

    assert f"127.0.0.1:{port}" in raised.value.message
    assert "Connection refused" in raised.value.message
    assert "AUTERITY_DATABASE_URL" in raised.value.message
    assert "hidden" not in raised.value.message


def test_a_wrong_password_is_said_in_the_servers_words(postgres: PostgresServer) -> None:
    with pytest.raises(Unavailable, match="password authentication failed"):
        require_reachable(postgres.url(password="wrong"))


@pytest.mark.parametrize(
    "url", ["foo", "mysql://a:hidden@b/c", "postgresql://a:hidden@b", "postgresql://a:hidden@b:x/c"]
)
def test_what_is_no_postgresql_address_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="AUTERITY_DATABASE_URL") as raised:
        parse_postgres_url(url)

    assert "hidden" not in raised.value.message
