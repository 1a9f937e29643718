"""The reminders stage: invented customers are due for service, 200 or quickly 50, and one batch writes to them."""

import time
from collections import Counter
from datetime import UTC, datetime

from auterity_dagster.demo.inventory import service_customers
from auterity_dagster.demo.leads import approve_everything, messages_sent, wait_for_executions
from auterity_dagster.demo.results import RemindersResult
from auterity_dagster.demo.stage import DemoContext

CUSTOMERS, QUICK_CUSTOMERS = 200, 50
_WORKFLOW = "service_reminder"
_PATIENCE_S = 1200


def remind_customers(context: DemoContext) -> None:
    """Hand in the audience, start the batch, approve what a rule stopped, and count the messages."""
    owner = context.owner()
    count = QUICK_CUSTOMERS if context.state.is_quick else CUSTOMERS
    dealership_id = str(context.organization.dealerships[0].dealership_id)
    rows = [
        {
            "external_key": customer.customer_id,
            "customer_name": customer.name,
            "channel": "sms",
            "address": customer.phone,
            "vehicle": customer.vehicle,
            "service": customer.due,
            "times": customer.times,
            "due_at": datetime.now(UTC).isoformat(),
        }
        for customer in service_customers(count)
    ]
    owner.put("/audiences/service-due", {"dealership_id": dealership_id, "rows": rows})
    began = time.monotonic()
    owner.post(
        f"/workflows/{_WORKFLOW}/executions",
        {"dealership_id": dealership_id, "audience": {"name": "vehicles_due_for_service"}},
        idempotency_key="demo-service-reminders",
    )
    patience = {"workflow": _WORKFLOW, "patience_s": _PATIENCE_S, "log_process": "dagster-daemon"}
    wait_for_executions(context, owner, **patience)
    approve_everything(context, context.manager())
    executions = wait_for_executions(context, owner, **patience)
    states = Counter(execution["state"] for execution in executions)
    context.state.reminders = RemindersResult(
        customers=count,
        succeeded=states["succeeded"],
        failed=states["failed"] + states["cancelled"],
        waiting=states["waiting"],
        messages=messages_sent(owner, executions),
        wall_s=round(time.monotonic() - began, 1),
    )
