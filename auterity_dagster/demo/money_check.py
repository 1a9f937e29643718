"""The last stage: what every deployment cost, what the dearest would have cost, and the ledger beside the bill."""

import time
from typing import Any

from auterity_dagster.demo.api_client import ApiClient
from auterity_dagster.demo.results import DeploymentSpend, MoneyResult
from auterity_dagster.demo.stage import DemoContext, StageFailed

_SANDBOX_PRICES = "sandbox/"
_PATIENCE_S = 30
MOST_EXPENSIVE = "sandbox-large"
_MOST_EXPENSIVE_PRICE = "sandbox/large"


def check_money(context: DemoContext) -> None:
    """Compare with `==`; raises `StageFailed` if one nano-dollar is missing."""
    owner = context.owner()
    usage = owner.get("/usage/summary", price_key=_MOST_EXPENSIVE_PRICE)
    ledger = _settled_ledger(owner)
    money = MoneyResult(
        deployments=tuple(
            DeploymentSpend(
                deployment=row["deployment_id"],
                requests=row["requests"],
                prompt_tokens=row["prompt_tokens"],
                completion_tokens=row["completion_tokens"],
                cost_nusd=row["cost_nusd"],
                comparison_nusd=row["elsewhere_nusd"],
            )
            for row in usage["deployments"]
        ),
        most_expensive=MOST_EXPENSIVE,
        ledger_sandbox_nusd=sum(
            abs(amount) for account, amount in ledger["payable_nusd"].items() if account.startswith(_SANDBOX_PRICES)
        ),
        sandbox_bill_nusd=context.sandbox_bill_nusd() - context.organization.bill_before_nusd,
        entries_sum_nusd=ledger["entries_sum_nusd"],
        held_nusd=ledger["held_nusd"],
        unknown_nusd=ledger["suspense_nusd"],
    )
    context.state.money = money
    if not money.is_exact:
        raise StageFailed(
            f"the ledger says {money.ledger_sandbox_nusd} nano-dollars for the sandbox, its own bill says "
            f"{money.sandbox_bill_nusd}; all entries sum to {money.entries_sum_nusd}",
            log=context.log("gateway"),
        )


def _settled_ledger(owner: ApiClient) -> dict[str, Any]:
    """The ledger once no hold is open: a settlement follows its answer a moment later, off the caller's path."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        ledger = owner.get("/ledger/summary")
        if ledger["open_holds"] == 0 or time.monotonic() > deadline:
            return ledger
        time.sleep(0.2)
