"""A dealership on a really running `auterity up`: made over its API, with a lead sender and a workflow."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from auterity_dagster.embedded.announcement import Announcement
from auterity_dagster.embedded.operator_commands import up_settings
from auterity_dagster.embedded.organization_command import create_with_owner

PASSWORD = "a long walk by the river"
OWNER = "owner@prairie.example"
MANAGER = "dana@prairie.example"


@dataclass(frozen=True)
class LeadSite:
    """Where a sender posts to, and whose rows come of it."""

    api: str
    organization_id: UUID
    dealership_id: UUID
    source_id: UUID
    secret: str
    database_url: str
    record: Path
    owner_token: str


def lead_site(running: Announcement, workflow: Mapping[str, Any]) -> LeadSite:
    """Make a company with a dealership, publish the workflow, and make a source of leads."""
    made = create_with_owner(
        up_settings(data_dir=running.data_dir), name="Prairie Auto Group", owner_email=OWNER, owner_password=PASSWORD
    )
    with httpx.Client(base_url=f"{running.urls.api}/api/v1", timeout=60, trust_env=False) as client:
        owner = _signed_in(client, OWNER)
        dealership_id = _ask(client, owner, "POST", "/dealerships", DEALERSHIP)["id"]
        _ask(client, owner, "POST", "/users", {**PERSON, "email": MANAGER, "roles": ["manager"]})
        _ask(client, owner, "POST", "/workflows", {"definition": dict(workflow)})
        publish = f"/workflows/{workflow['key']}/publish"
        _ask(client, _signed_in(client, MANAGER), "POST", publish, {"note": "First"}, **{"if-match": '"1"'})
        source = {"dealership_id": dealership_id, "name": "Own website", "kind": "json"}
        made_source = _ask(client, owner, "POST", "/webhook-sources", source)
    return LeadSite(
        api=running.urls.api,
        organization_id=made.organization_id,
        dealership_id=UUID(dealership_id),
        source_id=UUID(made_source["id"]),
        secret=made_source["secret"],
        database_url=running.environment()["AUTERITY_DATABASE_URL"],
        record=running.data_dir / "messenger" / "sent.jsonl",
        owner_token=owner,
    )


DEALERSHIP = {
    "name": "Prairie Honda", "time_zone": "America/Chicago", "street": "1 Main Street", "city": "Peoria",
    "region": "IL", "postal_code": "61602", "country": "US",
}  # fmt: skip
PERSON = {"name": "Dana Manager", "password": PASSWORD}


def customer_name(number: int) -> str:
    """The n-th customer's name: it stands in everything that comes of the lead."""
    return f"Customer {number:05}"


def customer_mobile(number: int) -> str:
    """The n-th customer's mobile, in Chicago; there are 79,000."""
    return f"+1312{2 + number // 10_000}55{number % 10_000:04}"


def lead_body(number: int) -> bytes:
    """The n-th customer's lead as a CloudEvent."""
    data = {
        "name": customer_name(number),
        "phones": [{"number": customer_mobile(number), "kind": "mobile", "is_preferred": True}],
        "vehicles": [{"year": 2026, "make": "Honda", "vehicle_model": "CR-V"}],
        "comments": "Is it still there?",
    }
    envelope = {
        "specversion": "1.0", "id": f"l-{number}", "source": "Own website", "type": "com.auterity.lead.submitted",
        "time": datetime(2026, 11, 24, 12, tzinfo=UTC).isoformat(), "data": data,
    }  # fmt: skip
    return json.dumps(envelope).encode()


def _signed_in(client: httpx.Client, email: str) -> str:
    answer = client.post("/auth/login", json={"email": email, "password": PASSWORD}).raise_for_status()
    return answer.json()["access_token"]


def _ask(client: httpx.Client, token: str, method: str, path: str, body: Any, **headers: str) -> Any:
    answer = client.request(method, path, json=body, headers={"authorization": f"Bearer {token}", **headers})
    assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
    return answer.json()
