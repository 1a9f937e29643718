"""What a predictor that only watches would have chosen: kept with the request, so that its gate can replay it."""

from auterity_dagster.errors import AuterityError
from auterity_dagster.relaycore.catalog import CatalogSnapshot
from auterity_dagster.relaycore.chat import ChatRequest
from auterity_dagster.relaycore.steering import choose_by
from auterity_dagster.relaycore.steering_policy import SteeringPolicy


def watched_choice(
    policy: SteeringPolicy, request: ChatRequest, snapshot: CatalogSnapshot
) -> tuple[str, str | None] | None:
    """Return a predictor's digest and the deployment of its choice (None: it leaves none); None where none was asked.

    The one that watches, if there is one, else the one that chose. Out of its domain its choice is the posterior's.
    """
    asked = sorted(snapshot.predictions, key=lambda one: one.may_choose)
    if not asked:
        return None
    prediction = asked[0]
    try:
        route = choose_by(prediction if prediction.is_in_domain else None, policy, request, snapshot)
    except AuterityError:
        return prediction.predictor, None
    # What is only tried is nobody's choice; the choice stands behind it.
    return prediction.predictor, next(step.deployment.id for step in route.steps if not step.is_explored)
