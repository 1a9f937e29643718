"""`vin_decode`: what a VIN says about the vehicle; pure and offline."""

from auterity_dagster.automatrix.actions.outcome import Done, Outcome, StepContext
from auterity_dagster.automatrix.execution import StepSucceeded
from auterity_dagster.automatrix.inputs import VinDecodeInputs
from auterity_dagster.automatrix.outputs import VinDecodeOutput, written
from auterity_dagster.automatrix.ports import Effect, EffectRecord
from auterity_dagster.automatrix.vin_decoding import decode_vin


class VinDecode:
    """A VIN that cannot be one is an output, not a failure: the lead goes on and the VIN is marked."""

    def effect(self, context: StepContext, inputs: VinDecodeInputs) -> Effect | None:
        return None

    def perform(self, context: StepContext, inputs: VinDecodeInputs, record: EffectRecord | None) -> Outcome:
        decoded = decode_vin(inputs.vin, year=inputs.year)
        output = VinDecodeOutput(
            vin=decoded.vin,
            make=decoded.make,
            vehicle_model=decoded.vehicle_model,
            year=decoded.year,
            trim=decoded.trim,
            body=decoded.body,
            is_check_digit_valid=decoded.is_check_digit_valid,
            error_codes=decoded.error_codes,
            suggestion=decoded.suggestion,
        )
        return Done(StepSucceeded(context.path, written(output)))
