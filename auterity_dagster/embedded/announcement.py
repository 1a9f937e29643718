"""`up.json`: what runs and where, written when everything is healthy, for the demo, tests, scripts and people."""

from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from rich.table import Table
from sqlalchemy.engine import make_url

from auterity_dagster.embedded.addresses import Urls
from auterity_dagster.embedded.data_folder import DataFolder, owner, write_whole
from auterity_dagster.embedded.environment import url_variables
from auterity_dagster.embedded.supervised_service import ServiceProcess
from auterity_dagster.errors import Unavailable


class Announcement(BaseModel):
    """The file's content; it holds no secret: passwords are in the secrets folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 1
    pid: int
    started_at: datetime
    data_dir: Path
    secrets_dir: Path
    config_dir: Path
    urls: Urls
    database_url: str
    """The application role's address, its password hidden."""
    redis_url: str | None
    """The embedded server's address, its password hidden; None when AUTERITY_REDIS_URL replaces it."""
    processes: tuple[ServiceProcess, ...]

    def environment(self) -> dict[str, str]:
        """The variables with which another process of ours (the demo, a command) joins what runs.

        With a Redis of your own, AUTERITY_REDIS_URL must be set by you.
        """
        password = (self.secrets_dir / "app_database_password").read_text()
        variables = {
            "AUTERITY_DATABASE_URL": _with_password(self.database_url, password),
            "AUTERITY_DATA_DIR": str(self.data_dir),
            "AUTERITY_SECRETS_DIR": str(self.secrets_dir),
            "AUTERITY_CONFIG_DIR": str(self.config_dir),
        } | url_variables(self.urls)
        if self.redis_url is None:
            return variables
        redis_password = (self.secrets_dir / "redis_password").read_text()
        return variables | {"AUTERITY_REDIS_URL": _with_password(self.redis_url, redis_password)}


def write_announcement(folder: DataFolder, announcement: Announcement) -> None:
    """Replace the file as a whole."""
    write_whole(folder.announcement, announcement.model_dump_json(indent=2))


def read_announcement(data_dir: Path) -> Announcement | None:
    """What runs healthy over this data folder now; None when nothing does, or it is still starting."""
    folder = DataFolder(data_dir.resolve())
    try:
        announcement = Announcement.model_validate_json(folder.announcement.read_text())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise Unavailable(f"{folder.announcement} was not written by this version: stop and start again") from error
    return announcement if owner(folder) == announcement.pid else None


def require_running(data_dir: Path) -> Announcement:
    """What runs, or `Unavailable` with the command that starts it."""
    announcement = read_announcement(data_dir)
    if announcement is None:
        raise Unavailable(f"nothing runs over {data_dir.resolve()}: start it with `auterity up`")
    return announcement


def address_table(announcement: Announcement) -> Table:
    """The one table that a person needs."""
    urls = announcement.urls
    table = Table(title="Auterity runs", title_justify="left")
    table.add_column("what")
    table.add_column("address", no_wrap=True)
    table.add_row("Gateway, for any OpenAI SDK", f"{urls.gateway}/v1")
    table.add_row("API", urls.api)
    table.add_row("API reference", f"{urls.api}/docs")
    table.add_row("Dagster: workflows, models, runs", urls.dagster)
    table.add_row("MLflow: experiments, registered models", urls.mlflow)
    table.add_row("Model server", urls.model_server)
    table.add_row("Sandbox provider (offline, clearly labelled)", urls.sandbox)
    table.add_row("Logs", str(announcement.data_dir / "log"))
    return table


def _with_password(url: str, password: str) -> str:
    return make_url(url).set(password=password).render_as_string(hide_password=False)
