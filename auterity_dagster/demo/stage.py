"""A stage of the demo, what it works with, and the one error that ends it with a log to read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from auterity_dagster.demo.api_client import ApiClient
from auterity_dagster.demo.progress import Progress
from auterity_dagster.demo.results import DemoState, OrganizationResult
from auterity_dagster.embedded.announcement import Announcement
from auterity_dagster.errors import AuterityError


class StageFailed(AuterityError):
    """A stage could not finish; the message ends with the log to read."""

    code = "stage_failed"

    def __init__(self, message: str, *, log: Path) -> None:
        super().__init__(f"{message}\nIts log: {log}. Run the demo again to go on with this stage.")


@dataclass(slots=True)
class DemoContext:
    """What every stage works with: the running services, the state so far, and a way to tell how far it is."""

    announcement: Announcement
    state: DemoState
    progress: Progress

    @property
    def organization(self) -> OrganizationResult:
        """The demo organization; the first stage has made it."""
        assert self.state.organization is not None
        return self.state.organization

    def owner(self) -> ApiClient:
        """The API as the organization's owner."""
        return self._person(self.organization.owner_email)

    def manager(self) -> ApiClient:
        """The API as the manager who approves."""
        return self._person(self.organization.manager_email)

    def log(self, process: str) -> Path:
        """The log of one process."""
        return self.announcement.data_dir / "log" / f"{process}.log"

    def sandbox_bill_nusd(self) -> int:
        """The sandbox provider's own total so far, in nano-dollars."""
        token = (self.announcement.secrets_dir / "sandbox_token").read_text().strip()
        answer = httpx.get(
            f"{self.announcement.urls.sandbox}/bill", headers={"authorization": f"Bearer {token}"}, timeout=30
        )
        answer.raise_for_status()
        return int(answer.json()["total_nusd"])

    def _person(self, email: str) -> ApiClient:
        return ApiClient(self.announcement.urls.api, email=email, password=self.organization.password)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage; `run` fills its part of the state and `is_done` says whether an earlier start already did."""

    key: str
    typical_s: float
    log_process: str
    run: Callable[[DemoContext], None]
    is_done: Callable[[DemoState], bool]
