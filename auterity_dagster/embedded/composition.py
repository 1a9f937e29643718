"""Compose one `up` from options and environment, after checking what can be checked before anything runs."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import redis
from redis.exceptions import RedisError

from auterity_dagster.embedded.addresses import InnerPorts, Ports, inner_ports
from auterity_dagster.embedded.configuration_check import require_valid
from auterity_dagster.embedded.dagster_home import write_dagster_home
from auterity_dagster.embedded.data_folder import DataFolder
from auterity_dagster.embedded.databases import OWN_DATABASE, database_urls, require_reachable
from auterity_dagster.embedded.environment import Environments, configuration_folder, project_root
from auterity_dagster.embedded.postgres import PostgresCluster, end_leftover, prepare_cluster
from auterity_dagster.embedded.secrets import ensure_secrets
from auterity_dagster.embedded.stack import Stack
from auterity_dagster.embedded.valkey import valkey_url
from auterity_dagster.errors import ConfigurationInvalid, Unavailable
from auterity_dagster.settings import UpSettings


def compose(settings: UpSettings, *, folder: DataFolder, ports: Ports, announce: Callable[[str, str], None]) -> Stack:
    """Check what can be checked before anything runs, and put the servers together."""
    config_dir = configuration_folder(settings.config_dir)
    require_valid(config_dir)
    ports.require_free()
    inner = inner_ports()
    secrets_dir = (settings.secrets_dir or folder.root / "secrets").resolve()
    ensure_secrets(secrets_dir)
    redis_password, redis_url = _redis(settings, inner=inner, secrets_dir=secrets_dir)
    if settings.database_url is not None:
        cluster, owner_url = None, settings.database_url.get_secret_value()
        require_reachable(owner_url)
    else:
        cluster = _embedded_cluster(folder, announce)
        owner_url = cluster.url(inner.postgres, OWN_DATABASE)
    write_dagster_home(
        folder.root / "dagster",
        template=project_root() / "deploy" / "dagster" / "dagster.yaml",
        code_servers={"workflows": inner.workflows, "models": inner.models},
    )
    environments = Environments(
        data_dir=folder.root,
        secrets_dir=secrets_dir,
        config_dir=config_dir,
        urls=ports.urls(),
        databases=database_urls(owner_url, secrets_dir=secrets_dir),
        redis_url=redis_url,
        mark=uuid4().hex,
    )
    return Stack(
        folder=folder,
        ports=ports,
        inner=inner,
        environments=environments,
        cluster=cluster,
        redis_password=redis_password,
    )


def require_redis(url: str) -> None:
    """Raise when the address is none, or nobody answers or lets us in there."""
    try:
        with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
            client.ping()
    except ValueError as error:
        raise ConfigurationInvalid(f"AUTERITY_REDIS_URL is no address: {error}") from error
    except RedisError as error:
        raise Unavailable(f"cannot reach the server in AUTERITY_REDIS_URL: {error}") from error


def _embedded_cluster(folder: DataFolder, announce: Callable[[str, str], None]) -> PostgresCluster:
    cluster = prepare_cluster(folder.root / "postgres")
    if not cluster.data_dir.is_relative_to(folder.root):
        announce("postgres", f"keeps its data in {cluster.data_dir}: {folder.root} is closed to the user it runs as")
    if end_leftover(cluster):
        announce("postgres", "was not stopped cleanly last time; it recovers from its log")
    return cluster


def _redis(settings: UpSettings, *, inner: InnerPorts, secrets_dir: Path) -> tuple[str | None, str]:
    """The embedded server's password (None: a server of others) and the address."""
    if settings.redis_url is None:
        password = (secrets_dir / "redis_password").read_text()
        return password, valkey_url(inner.valkey, password)
    url = settings.redis_url.get_secret_value()
    require_redis(url)
    return None, url
