"""The first stage: an organization with two dealerships, people, keys, a budget, lead senders, stock and workflows."""

import secrets
from datetime import UTC, datetime
from uuid import UUID

from auterity_dagster.clock import SystemClock
from auterity_dagster.demo.api_client import ApiClient
from auterity_dagster.demo.inventory import STOCK
from auterity_dagster.demo.results import DealershipAccess, OrganizationResult
from auterity_dagster.demo.stage import DemoContext
from auterity_dagster.identity.secret_file import read_pepper
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.repositories.organizations import create_organization

DEALERSHIPS = ("Lakeside Motors", "Prairie Auto Center")
TIME_ZONE = "America/Chicago"
WORKFLOWS = ("lead_response", "service_reminder")


def create_demo_organization(context: DemoContext) -> None:
    """Make the organization with `auterity organizations create`'s own code, and all else over the API."""
    announcement = context.announcement
    mark = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    owner_email, manager_email = f"owner-{mark}@auterity.example", f"manager-{mark}@auterity.example"
    password = secrets.token_urlsafe(18)
    database = BlockingDatabase(announcement.environment()["AUTERITY_DATABASE_URL"])
    created = create_organization(
        database,
        name=f"Demo Auto Group {mark}",
        owner_email=owner_email,
        owner_password=password,
        pepper=read_pepper(announcement.secrets_dir),
        clock=SystemClock(),
    )
    database.close()
    api = ApiClient(announcement.urls.api, email=owner_email, password=password)
    context.progress.tell("people, keys and a budget")
    manager = {"email": manager_email, "name": "Dana Manager", "password": password, "roles": ["manager"]}
    api.post("/users", manager)
    key = api.post("/api-keys", {"name": "demo", "scopes": ["gateway.call", "model.read"], "purposes": ["interactive"]})
    api.post("/budgets", {"name": "AI spending", "scope": "organization", "period": "month", "cap_usd": "25.00"})
    dealerships = tuple(_open_dealership(context, api, announcement.urls.api, name) for name in DEALERSHIPS)
    # Replies that pass every check go out by themselves; what a rule stops still waits for the manager.
    for workflow in WORKFLOWS:
        context.progress.tell(f"installing {workflow}")
        api.post(f"/templates/{workflow}/install", {"variables": {"auto_send": True}})
    context.state.organization = OrganizationResult(
        organization_id=created.organization_id,
        name=f"Demo Auto Group {mark}",
        owner_email=owner_email,
        manager_email=manager_email,
        password=password,
        api_key=key["key"],
        bill_before_nusd=context.sandbox_bill_nusd(),
        dealerships=dealerships,
    )


def _open_dealership(context: DemoContext, api: ApiClient, api_url: str, name: str) -> DealershipAccess:
    context.progress.tell(f"{name}: stock and lead sender")
    dealership_id = UUID(api.post("/dealerships", {"name": name, "time_zone": TIME_ZONE})["id"])
    rows = [
        {
            "stock_number": vehicle.stock_number,
            "status": "available",
            "condition": vehicle.status,
            "year": vehicle.year,
            "make": vehicle.make,
            "vehicle_model": vehicle.vehicle_model,
            "trim": vehicle.trim,
            "total_price_usd": vehicle.price_usd,
        }
        for vehicle in STOCK
    ]
    api.post("/ingest/inventory", {"dealership_id": str(dealership_id), "rows": rows})
    source = api.post(
        "/webhook-sources", {"dealership_id": str(dealership_id), "name": "ADF lead sender", "kind": "adf"}
    )
    return DealershipAccess(
        dealership_id=dealership_id,
        name=name,
        hook_url=f"{api_url}{source['path']}",
        hook_secret=source["secret"],
    )
