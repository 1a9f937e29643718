"""`recall_lookup`: the open recalls of a vehicle, as the organization's dated table knows them."""

from dataclasses import dataclass

from auterity_dagster.automatrix.actions.outcome import Done, NotDone, Outcome, StepContext
from auterity_dagster.automatrix.execution import StepError, StepSucceeded
from auterity_dagster.automatrix.inputs import RecallLookupInputs
from auterity_dagster.automatrix.outputs import RecallCampaign, RecallLookupOutput, written
from auterity_dagster.automatrix.ports import Effect, EffectRecord
from auterity_dagster.automatrix.recall import Recalls, sentence
from auterity_dagster.automatrix.vin import read_vin


@dataclass(frozen=True, slots=True)
class RecallLookup:
    """Reads; without a table it fails, because no recall found would be a false comfort."""

    recalls: Recalls

    def effect(self, context: StepContext, inputs: RecallLookupInputs) -> Effect | None:
        return None

    def perform(self, context: StepContext, inputs: RecallLookupInputs, record: EffectRecord | None) -> Outcome:
        vin = read_vin(inputs.vin).vin if inputs.vin else None
        is_model_known = bool(inputs.make and inputs.vehicle_model and inputs.year)
        if vin is None and not is_model_known:
            return NotDone(StepError("invalid_input", "a VIN, or make, vehicle_model and year are needed"))
        found = self.recalls.find(
            context.snapshot.claim.organization_id,
            vin=vin,
            make=inputs.make if is_model_known else None,
            vehicle_model=inputs.vehicle_model if is_model_known else None,
            year=inputs.year if is_model_known else None,
        )
        if found is None:
            return NotDone(StepError("invalid_input", "no table of recalls was imported: post one to /ingest/recalls"))
        output = RecallLookupOutput(
            campaigns=tuple(
                RecallCampaign(
                    campaign=one.campaign,
                    component=one.component,
                    summary=one.summary,
                    consequence=one.consequence,
                    remedy=one.remedy,
                    reported_on=None if one.reported_on is None else one.reported_on.isoformat(),
                )
                for one in found.campaigns
            ),
            match=found.match,
            sentence=sentence(found.match),
            as_of=found.as_of.isoformat(),
        )
        return Done(StepSucceeded(context.path, written(output)))
