"""Providers' bills against the ledger, once a day: what was unknown is settled by them, and the rest is shown."""

from pathlib import Path

import dagster as dg

from auterity_dagster.assets.checks import checked
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.storage.repositories.bill_folder import reconcile_folder

GROUP = "relaycore_money"
FOLDER = "bills"


@dg.asset(
    group_name=GROUP,
    kinds={"postgres"},
    check_specs=[
        dg.AssetCheckSpec("every_bill_was_read", asset="reconciliations"),
        dg.AssetCheckSpec("nothing_is_unexplained", asset="reconciliations"),
    ],
)
def reconciliations(database: DatabaseResource, installation: InstallationResource) -> dg.MaterializeResult:
    """Bills in `bills/<organization>/<provider>/` of the data folder, each compared once, its corrections booked."""
    with database.connected() as connected:
        result = reconcile_folder(connected, Path(installation.data_dir) / FOLDER)
    rows = result.booked
    open_ones = {str(row.id): row.differences for row in rows if row.differences}
    return dg.MaterializeResult(
        metadata={
            "bills": len(rows),
            "bills_known_before": result.known_files,
            "rows": sum(row.lines for row in rows),
            "matched": sum(row.matched_lines for row in rows),
            "unmatched": sum(row.lines - row.matched_lines for row in rows),
            "corrections": sum(row.corrections for row in rows),
            "corrected_nusd": sum(row.adjusted_nusd for row in rows),
            "differences": sum(row.differences for row in rows),
        },
        check_results=[
            checked("every_bill_was_read", not result.unread, **result.unread),
            checked("nothing_is_unexplained", not open_ones, **open_ones),
        ],
    )
