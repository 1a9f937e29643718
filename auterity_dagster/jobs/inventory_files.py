"""Take the stock files that lie in the watched folder."""

from datetime import UTC, datetime

import dagster as dg

from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.inventory_folder import InventoryFolderResource


@dg.op
def take_files(
    context: dg.OpExecutionContext, database: DatabaseResource, inventory_folder: InventoryFolderResource
) -> None:
    """Take each file in a transaction of its own."""
    taken = rejected = 0
    with database.connected() as connected:
        for file in inventory_folder.waiting():
            found = inventory_folder.take(connected, file, now=datetime.now(UTC))
            context.log.info(
                f"{file.dealership_id} {file.path.name}: {found.taken} vehicles taken, {found.rejected} rows rejected, "
                f"{found.unlisted} unlisted, {found.waiting} wait for a person"
            )
            taken, rejected = taken + found.taken, rejected + found.rejected
    context.add_output_metadata({"vehicles": taken, "rejected_rows": rejected})


@dg.job(executor_def=dg.in_process_executor)
def take_inventory_files():
    """Read what dealers' systems put into the inventory folder."""
    take_files()
