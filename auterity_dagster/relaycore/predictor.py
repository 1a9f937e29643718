"""How good each model's answer to this very prompt will probably be: the learned predictor, as arrays.

The weighted sum of five members over what the task alone says: prompt length, countable traits, hashed words, the most
similar prompts, and boosted trees. A calibration turns it into a chance of a good answer with a lower bound. A prompt
unlike those that were learned from is `is_in_domain=False`: there no predictor is better than the pool's mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from auterity_dagster.relaycore.outcomes import Floats
from auterity_dagster.relaycore.predicted_quality import PredictedQuality
from auterity_dagster.relaycore.prompt_features import BUCKETS, TRAITS, buckets_of, shortened, tokens_of, traits
from auterity_dagster.relaycore.tree_ensemble import TreeEnsemble

NEIGHBOURS = 50
MEMBERS = ("length", "traits", "words", "neighbours", "trees")


class Words(NamedTuple):
    """One prompt's hashed words: which buckets, and how often each."""

    buckets: NDArray[np.int64]
    counts: NDArray[np.float32]


class Encoded(NamedTuple):
    """One prompt as numbers, before anything that was learned is applied."""

    traits: Floats
    words: Words


class Prediction(NamedTuple):
    """What is expected of each model, in the predictor's order of models.

    `scores` rank best (routing compares them); `probabilities` are calibrated and `lower_bounds` lie surely below them.
    """

    scores: Floats
    probabilities: Floats
    lower_bounds: Floats
    is_in_domain: bool


@dataclass(frozen=True, slots=True)
class Calibration:
    """One model's calibrated probability, and its lower bound, as steps over the raw score."""

    scores: Floats
    probabilities: Floats
    lower_bounds: Floats

    def at(self, score: float) -> tuple[float, float]:
        """Return probability and lower bound of a raw score."""
        place = max(int(np.searchsorted(self.scores, score, side="right")) - 1, 0)
        return float(self.probabilities[place]), float(self.lower_bounds[place])


@dataclass(frozen=True, slots=True)
class Domain:
    """Where the predictor may be believed: bounds below which only 1 % of what it learned from lies."""

    known_words: float
    similarity: float


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear map with an intercept, one column a model."""

    weights: NDArray[np.float32]
    intercept: Floats


@dataclass(frozen=True, slots=True)
class Predictor:
    """Everything that was learned. `task_means` has one row a task and a last one for tasks that were never seen."""

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    task_means: Floats
    trait_means: Floats
    trait_scales: Floats
    seen: NDArray[np.bool_]
    idf: NDArray[np.float32]
    projection: NDArray[np.float32]
    length: Linear
    dense: Linear
    words: Linear
    neighbours: NDArray[np.float32]
    neighbour_residuals: NDArray[np.float32]
    trees: TreeEnsemble
    tree_outputs: Floats
    weights: Floats
    calibrations: tuple[Calibration, ...]
    domain: Domain

    def predict(self, prompt: str, task: str | None) -> Prediction:
        """Return what is expected of each model for a prompt."""
        return self.predict_encoded(encode(prompt), task)

    def expected(self, prompt: str, task: str | None) -> tuple[bool, dict[str, PredictedQuality]]:
        """Return what `predict` says as routing takes it: whether the prompt is known, and each model's quality."""
        said = self.predict(prompt, task)
        shares = zip(self.models, said.probabilities.tolist(), said.lower_bounds.tolist(), strict=True)
        return said.is_in_domain, {model: PredictedQuality(mean, bound) for model, mean, bound in shares}

    def predict_encoded(self, encoded: Encoded, task: str | None) -> Prediction:
        """The same for a prompt that is encoded already."""
        index = self.tasks.index(task) if task in self.tasks else len(self.tasks)
        scaled = (encoded.traits - self.trait_means) / self.trait_scales
        weighted = self.weighted(encoded.words)
        vector = self.embedded(encoded.words.buckets, weighted)
        similarities = self.neighbours @ vector.astype(np.float32)
        members = np.stack(
            (
                scaled[:1] @ self.length.weights + self.length.intercept,
                np.concatenate((scaled, vector)) @ self.dense.weights + self.dense.intercept,
                weighted @ self.words.weights[encoded.words.buckets] + self.words.intercept,
                nearest_mean(similarities, self.neighbour_residuals),
                self._trees(encoded.traits, vector, index),
            )
        )
        scores: Floats = np.clip(self.task_means[index] + self.weights @ members, 0, 1)
        pairs = zip(self.calibrations, scores, strict=True)
        calibrated = np.array([calibration.at(float(score)) for calibration, score in pairs])
        return Prediction(
            scores=scores,
            probabilities=calibrated[:, 0],
            lower_bounds=calibrated[:, 1],
            is_in_domain=index < len(self.tasks) and self._is_known(encoded.words, similarities),
        )

    def weighted(self, words: Words) -> NDArray[np.float32]:
        """Return the words' weights: rarer ones weigh more, and the length of the text does not count."""
        return weighted(words, self.idf)

    def embedded(self, buckets: NDArray[np.int64], weights: NDArray[np.float32]) -> Floats:
        """Return the text's place among those that were learned from, as a unit vector."""
        return unit(weights @ self.projection[buckets])

    def _trees(self, plain: Floats, vector: Floats, index: int) -> Floats:
        row = np.concatenate((plain, vector, self.task_means[index]))
        return self.trees.predict(row[None])[0] @ self.tree_outputs

    def _is_known(self, words: Words, similarities: NDArray[np.float32]) -> bool:
        share = known_share(words, self.seen)
        return share >= self.domain.known_words and nearest(similarities) >= self.domain.similarity


def encode(prompt: str) -> Encoded:
    """Return a prompt as numbers."""
    text = shortened(prompt)
    tokens = tokens_of(text)
    counts = buckets_of(tokens)
    words = Words(
        np.fromiter(counts.keys(), dtype=np.int64, count=len(counts)),
        np.log1p(np.fromiter(counts.values(), dtype=np.float32, count=len(counts))),
    )
    return Encoded(np.array(traits(text, tokens, characters=len(prompt))), words)


def weighted(words: Words, idf: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return counts times the inverse document frequency, as a unit vector."""
    found = words.counts * idf[words.buckets]
    return found / max(float(np.linalg.norm(found)), 1e-9)


def unit(vector: NDArray[np.float32]) -> Floats:
    """Return the vector with length 1; a text without known words stays at the origin."""
    return (vector / max(float(np.linalg.norm(vector)), 1e-9)).astype(np.float64)


def known_share(words: Words, seen: NDArray[np.bool_]) -> float:
    """Return the share of a text's words that the learned texts have too."""
    total = float(words.counts.sum())
    return float(words.counts[seen[words.buckets]].sum()) / total if total else 0.0


def nearest(similarities: NDArray[np.float32], *, count: int = 10) -> float:
    """Return the mean similarity of the nearest few."""
    count = min(count, len(similarities))
    return float(np.partition(similarities, -count)[-count:].mean())


def nearest_mean(similarities: NDArray[np.float32], values: NDArray[np.float32]) -> Floats:
    """Return the mean of the nearest prompts' values, weighted by how similar they are."""
    count = min(NEIGHBOURS, len(similarities))
    places = np.argpartition(similarities, -count)[-count:]
    weights = np.maximum(similarities[places], 0) + 1e-3
    return (weights @ values[places] / weights.sum()).astype(np.float64)


def shape_of(models: Sequence[str], *, dimensions: int) -> dict[str, tuple[int, ...]]:
    """Return the shape that each fixed-size array must have, for the check at loading."""
    count = len(models)
    return {
        "idf": (BUCKETS,),
        "seen": (BUCKETS,),
        "projection": (BUCKETS, dimensions),
        "words_weights": (BUCKETS, count),
        "length_weights": (1, count),
        "dense_weights": (len(TRAITS) + dimensions, count),
        "trait_means": (len(TRAITS),),
        "trait_scales": (len(TRAITS),),
        "weights": (len(MEMBERS),),
    }
