"""`approval`: ask a person, wait without holding anything, go on with what was decided."""

from auterity_dagster.automatrix.actions.outcome import Done, Outcome, StepContext, Wait
from auterity_dagster.automatrix.execution import StepSucceeded
from auterity_dagster.automatrix.inputs import ApprovalInputs
from auterity_dagster.automatrix.ports import (
    ApprovalExpired,
    ApprovalForm,
    ApprovalOpened,
    Decision,
    Effect,
    EffectRecord,
)
from auterity_dagster.automatrix.step_path import item_path, read_path


class Approval:
    """Opens a form and parks; when it is called again there is a decision, or the time is over."""

    def effect(self, context: StepContext, inputs: ApprovalInputs) -> Effect | None:
        return None

    def perform(self, context: StepContext, inputs: ApprovalInputs, record: EffectRecord | None) -> Outcome:
        fields = dict(inputs.fields)
        if context.decision is not None:
            return Done(StepSucceeded(context.path, _output(context.decision, fields)))
        if context.is_expired:
            outcome = "approved" if inputs.on_expiry == "approve" else "rejected"
            output = {**_output(Decision("expired", {}, None), fields), "decision": outcome, "is_expired": True}
            return Done(StepSucceeded(context.path, output), entries=(ApprovalExpired(context.path),))
        expires_at = context.now + inputs.expires
        form = ApprovalForm(
            role=inputs.role,
            title=inputs.title,
            show=inputs.show,
            fields=fields,
            expires_at=expires_at,
            other_than=inputs.other_than and _beside(context.path, inputs.other_than),
        )
        return Wait(expires_at, entries=(ApprovalOpened(context.path, form),))


def _beside(path: str, step_id: str) -> str:
    """Return the path of a step as seen from another: of the same item, where that stands in one."""
    place = read_path(path)
    return step_id if place.loop is None or place.index is None else item_path(place.loop, place.index, step_id)


def _output(decision: Decision, fields: dict[str, str]) -> dict[str, object]:
    return {
        "decision": decision.outcome,
        "final": {**fields, **decision.final},
        "decided_by": decision.decided_by,
        "is_expired": decision.outcome == "expired",
    }
