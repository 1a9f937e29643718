"""Turn raw scores into chances of a good answer, with a bound that lies surely below: isotonic, out of fold."""

import numpy as np
from scipy.stats import beta
from sklearn.isotonic import IsotonicRegression

from auterity_dagster.relaycore.outcomes import Floats
from auterity_dagster.relaycore.predictor import Calibration

MIN_BLOCK = 50
LOWER_QUANTILE = 0.05


def calibrations(raw: Floats, scores: Floats) -> tuple[Calibration, ...]:
    """Return one calibration a model, from scores predicted out of fold; cells that nobody measured are left out."""
    return tuple(
        _calibration(predicted[~np.isnan(measured)], measured[~np.isnan(measured)])
        for predicted, measured in zip(raw.T, scores.T, strict=True)
    )


def _calibration(predicted: Floats, measured: Floats) -> Calibration:
    """Steps of at least 50 prompts; the bound is Clopper and Pearson's 5 % bound of each step's prompts."""
    order = np.argsort(predicted, kind="stable")
    predicted, measured = predicted[order], measured[order]
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit_transform(predicted, measured)
    starts = [0]
    for place in range(1, len(predicted)):
        is_step = fitted[place] != fitted[place - 1] and predicted[place] != predicted[place - 1]
        if is_step and place - starts[-1] >= MIN_BLOCK and len(predicted) - place >= MIN_BLOCK:
            starts.append(place)
    sizes = np.diff([*starts, len(predicted)])
    good = np.add.reduceat(measured, starts)
    probabilities = good / sizes
    bounds = np.where(good > 0, beta.ppf(LOWER_QUANTILE, np.maximum(good, 1e-9), sizes - good + 1), 0.0)
    return Calibration(predicted[starts], probabilities, np.minimum(bounds, probabilities))
