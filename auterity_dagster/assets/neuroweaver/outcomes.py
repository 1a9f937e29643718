"""What an evaluation leaves for routing to learn from: each model's score and cost on each item."""

from collections.abc import Iterator, Mapping, Sequence

from auterity_dagster.neuroweaver.example import EvaluationItem, ItemResult
from auterity_dagster.relaycore.outcomes import Outcome
from auterity_dagster.relaycore.prompt_features import prompt_text


def measured_outcomes(
    items: Sequence[EvaluationItem],
    results: Mapping[str, Sequence[ItemResult]],
    costs_nusd: Mapping[str, Mapping[str, int]],
) -> Iterator[Outcome]:
    """Yield an outcome for each result; a model is named by the digest under which routing knows it."""
    asked = {item.item_id: item for item in items}
    for name, found in results.items():
        for result in found:
            item = asked[result.item_id]
            yield Outcome(
                prompt=prompt_text(message.content for message in item.messages),
                task=item.family.value,
                model=result.artefact_digest,
                score=result.score,
                cost=float(costs_nusd[name].get(result.item_id, 0)),
            )
