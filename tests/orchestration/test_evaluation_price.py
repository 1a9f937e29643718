"""An evaluation counts what the gateway would charge: an organization's approved price before the common list's."""

from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from auterity_dagster.assets.neuroweaver.evaluate import PRICE_KEY, own_price
from auterity_dagster.relaycore.price_list import load_prices, parse_entries
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.storage.database import BlockingDatabase
from auterity_dagster.storage.tables.steering import PriceRow
from tests.storage.serving_scopes import Scope, new_scope

CONFIG = Path(__file__).parents[2] / "config"
OWN = f"""
version: 1
prices:
  - key: {PRICE_KEY}
    in_force_from: 2026-11-01
    source: what our own machine costs us
    usd_per_mtok: [{{input: "9.00", output: "18.00"}}]
"""


@pytest.mark.parametrize("is_approved", [True, False], ids=["approved", "waiting"])
def test_the_organizations_own_price_counts_once_it_is_approved(
    blocking_database: BlockingDatabase, is_approved: bool
) -> None:
    scope: Scope = new_scope(blocking_database)
    [entry] = parse_entries(OWN, source="own")
    price = entry.price()
    with blocking_database.begin(scope.organization_id) as session:
        session.add(
            PriceRow(
                organization_id=scope.organization_id,
                id=uuid4(),
                key=price.key,
                in_force_from=date(2026, 11, 1),
                entry=entry.model_dump(mode="json"),
                digest=price.digest,
                imported_by=uuid4(),
                approved_by=uuid4() if is_approved else None,
                approved_at=datetime.now(UTC) if is_approved else None,
            )
        )
    common = load_prices(CONFIG / "prices.yaml").in_force(PRICE_KEY, datetime.now(UTC))
    folder = {name: str(CONFIG) for name in ("data_dir", "secrets_dir", "config_dir")}
    addresses = dict.fromkeys(("gateway_url", "model_server_url", "mlflow_url"), "http://127.0.0.1:1")
    candidate = CandidateResource(organization_id=str(scope.organization_id), recipe="tiny_cpu")

    found = own_price(blocking_database, candidate, InstallationResource(**folder, **addresses))

    assert found == (price if is_approved else common)
