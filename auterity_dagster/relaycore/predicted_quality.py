"""What a learned predictor says of one prompt, and whose word on a model's quality routing takes.

The posterior knows a model by task; a predictor knows it by prompt. Only a predictor that the policy lets choose, that
is the organization's champion with a gate verdict in force, and that knows prompts like this one, is believed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from auterity_dagster.relaycore.quality import Quality

PredictorMode = Literal["off", "watch", "choose"]
"""`watch`: what it would have chosen is kept beside the request. `choose`: it replaces the posterior."""

QualitySource = Literal["posterior", "predictor"]


@dataclass(frozen=True, slots=True)
class PredictedQuality:
    """One model's chance of a good answer to this prompt, and what that chance surely is at least."""

    mean: float
    lower_bound: float


@dataclass(frozen=True, slots=True)
class QualityPrediction:
    """One predictor's word on one prompt; `predictor` is its digest, `models` are known by their artefact's digest.

    `is_in_domain` is False for a prompt unlike those that it learned from. `may_choose`: not only watches.
    """

    predictor: str
    is_in_domain: bool
    may_choose: bool
    models: Mapping[str, PredictedQuality]


@dataclass(frozen=True, slots=True)
class PublishedPredictor:
    """What an organization's alias names, and what the gate says now about those bytes."""

    alias: Literal["champion", "challenger"]
    artefact_digest: str
    has_passing_verdict: bool


class PromptPredictor(Protocol):
    """A learned predictor, ready to be asked."""

    def expected(self, prompt: str, task: str | None) -> tuple[bool, Mapping[str, PredictedQuality]]:
        """Return whether the prompt is like those that were learned from, and what is expected of each model."""
        ...


@dataclass(frozen=True, slots=True)
class ActivePredictor:
    """A predictor of an organization that is asked about its prompts."""

    digest: str
    may_choose: bool
    predictor: PromptPredictor = field(compare=False, repr=False)

    def predict(self, prompt: str, task: str | None) -> QualityPrediction:
        """Return its word on a prompt."""
        is_in_domain, models = self.predictor.expected(prompt, task)
        return QualityPrediction(self.digest, is_in_domain, self.may_choose, models)


@dataclass(frozen=True, slots=True)
class ExpectedQuality:
    """What routing expects of one deployment, and on whose word."""

    mean: float
    lower_bound: float
    is_measured: bool
    source: QualitySource


def to_ask(mode: PredictorMode, published: Sequence[PublishedPredictor]) -> tuple[tuple[str, bool], ...]:
    """Return the digests of the predictors that are asked, each with whether it may choose.

    Only a champion with a PASS in force may; the challenger watches, and where nothing may choose the champion does.
    """
    by_alias = {one.alias: one for one in published}
    champion, challenger = by_alias.get("champion"), by_alias.get("challenger")
    if mode == "off":
        return ()
    chooses = champion if mode == "choose" and champion is not None and champion.has_passing_verdict else None
    watches = challenger or (champion if chooses is None else None)
    asked = {one.artefact_digest: one is chooses for one in (watches, chooses) if one is not None}
    return tuple(asked.items())


def chooser(mode: PredictorMode, predictions: Sequence[QualityPrediction]) -> QualityPrediction | None:
    """Return the prediction that is believed instead of the posterior, or None."""
    if mode != "choose":
        return None
    return next((one for one in predictions if one.may_choose and one.is_in_domain), None)


def expected_quality(quality: Quality, artefact_digest: str, prediction: QualityPrediction | None) -> ExpectedQuality:
    """Return what is expected of a model: of one that the predictor never saw, what the posterior says."""
    predicted = prediction.models.get(artefact_digest) if prediction is not None else None
    if predicted is not None:
        return ExpectedQuality(predicted.mean, predicted.lower_bound, is_measured=True, source="predictor")
    return ExpectedQuality(quality.mean, quality.lower_bound, is_measured=quality.is_measured, source="posterior")
