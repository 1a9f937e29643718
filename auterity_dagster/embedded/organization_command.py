"""`auterity organizations create`: the first owner of a customer company, who then invites everybody else."""

from auterity_dagster.clock import SystemClock
from auterity_dagster.embedded.announcement import require_running
from auterity_dagster.identity.secret_file import read_pepper
from auterity_dagster.settings import UpSettings
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.organizations import CreatedOrganization, create_organization


def create_with_owner(settings: UpSettings, *, name: str, owner_email: str, owner_password: str) -> CreatedOrganization:
    """Create an organization and its owner in the database of the environment, or of the running `auterity up`."""
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        secrets_dir = settings.secrets_dir or settings.data_dir / "secrets"
    else:
        running = require_running(settings.data_dir)
        url, secrets_dir = running.environment()["AUTERITY_DATABASE_URL"], running.secrets_dir
    database = BlockingDatabase(url)
    try:
        return create_organization(
            database,
            name=name,
            owner_email=owner_email,
            owner_password=owner_password,
            pepper=read_pepper(secrets_dir),
            clock=SystemClock(),
        )
    finally:
        database.close()
