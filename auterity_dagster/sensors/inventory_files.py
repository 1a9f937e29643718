"""Launch a run where stock files lie: level-triggered, so a file that a dead run left is taken by the next."""

import dagster as dg
from dagster import RunsFilter

from auterity_dagster.jobs.inventory_files import take_inventory_files
from auterity_dagster.resources.inventory_folder import InventoryFolderResource
from auterity_dagster.sensors.automatrix import OPEN


@dg.sensor(
    job=take_inventory_files,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def inventory_files(context: dg.SensorEvaluationContext, inventory_folder: InventoryFolderResource):
    """Files that are whole, while no run takes them."""
    if not inventory_folder.waiting():
        return dg.SkipReason("no file lies in the folder")
    if context.instance.get_run_records(RunsFilter(job_name=take_inventory_files.name, statuses=OPEN), limit=1):
        return dg.SkipReason("a run takes them")
    return dg.RunRequest()
