"""`inventory_search`: what the dealership has that fits the wishes."""

from dataclasses import dataclass

from auterity_dagster.automatrix.actions.outcome import Done, Outcome, StepContext
from auterity_dagster.automatrix.execution import StepSucceeded
from auterity_dagster.automatrix.inputs import InventorySearchInputs
from auterity_dagster.automatrix.ports import Effect, EffectRecord, Inventory


@dataclass(frozen=True, slots=True)
class InventorySearch:
    """Reads the dealership's own feed."""

    inventory: Inventory

    def effect(self, context: StepContext, inputs: InventorySearchInputs) -> Effect | None:
        return None

    def perform(self, context: StepContext, inputs: InventorySearchInputs, record: EffectRecord | None) -> Outcome:
        snapshot = context.snapshot
        found = self.inventory.search(
            snapshot.claim.organization_id, snapshot.dealership_id, inputs.wanted, inputs.limit
        )
        items = [
            {
                "stock_number": one.stock_number,
                "vin": one.vin,
                "year": one.year,
                "make": one.make,
                "vehicle_model": one.vehicle_model,
                "trim": one.trim,
                "condition": one.condition,
                "status": one.status,
                "total_price_nusd": one.price_nusd,
            }
            for one in found
        ]
        return Done(StepSucceeded(context.path, {"items": items, "as_of": context.now.isoformat()}))
