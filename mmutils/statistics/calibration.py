"""Are the probabilities true? Calibration error, reliability table, temperature scaling.

Guo et al., On Calibration of Modern Neural Networks, 2017: https://arxiv.org/abs/1706.04599
On few examples even a calibrated classifier's error is not 0 but about sqrt(bins / N) / 3: compare on one split only.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from mmutils.statistics.bootstrap import wilson
from mmutils.statistics.panel import Panel, panel, probability_columns

BINS = 15  # of equal width
LEAST = 1e-12  # a smaller probability counts as this, so that its logarithm is finite


def calibration_error(predictions: pd.DataFrame | Panel) -> float:
    """Expected calibration error in [0, 1]: |accuracy - confidence| of the bins, weighted by rows, mean over seeds."""
    confidence, correct, place = binned(predictions)
    gaps = [np.bincount(p, c - r, minlength=BINS) for p, c, r in zip(place, confidence, correct, strict=True)]
    return float(np.abs(gaps).sum(axis=1).mean() / confidence.shape[1])


def reliability(predictions: pd.DataFrame | Panel) -> pd.DataFrame:
    """The table behind a reliability diagram: one row per bin that holds examples, all seeds together.

    Returns:
        Columns left, right (edges; left is not part of the bin), share (of all rows), examples (mean over seeds),
        confidence, accuracy (means), low, high (95 % Wilson interval, as if seeds repeated the same examples).
    """
    confidence, correct, place = binned(predictions)
    columns = {"bin": place.ravel(), "confidence": confidence.ravel(), "accuracy": correct.ravel()}
    rows = pd.DataFrame(columns).groupby("bin")
    table, examples = rows.mean(), rows.size() / len(place)
    low, high = wilson(table["accuracy"], examples)
    edges = {"left": table.index / BINS, "right": (table.index + 1) / BINS}
    table = table.assign(**edges, share=examples / examples.sum(), examples=examples, low=low, high=high)
    return table.reset_index(drop=True)


def temperature(predictions: pd.DataFrame | Panel) -> pd.Series:
    """The temperature of each seed that minimises the mean negative log-likelihood (nats): give predictions on val.

    Returns:
        Temperatures in [0.05, 20] by seed; above 1 where the model is too confident, 0.05 where val has no errors.
    """
    system, temperatures = panel(predictions), {}
    rows = np.arange(len(system.labels))
    for seed, probabilities in zip(system.seeds, system.probabilities, strict=True):
        logits = np.log(np.maximum(probabilities, LEAST))  # (N, K), up to a constant that the softmax cancels

        def loss(inverse, logits=logits):  # convex in the inverse of the temperature
            return (logsumexp(inverse * logits, axis=1) - inverse * logits[rows, system.labels]).mean()

        best = minimize_scalar(loss, bounds=(1 / 20.0, 1 / 0.05), method="bounded", options={"xatol": 1e-6})
        temperatures[seed] = 1 / best.x
    return pd.Series(temperatures, name="temperature").rename_axis("seed")


def apply_temperature(predictions: pd.DataFrame, temperatures: float | Mapping | pd.Series) -> pd.DataFrame:
    """Predictions with softmax(log p / T): other confidence, same predicted class.

    temperatures: T, one for all rows or by seed. ValueError where a seed has none, or one not above 0.
    """
    names = probability_columns(predictions)
    if np.isscalar(temperatures):
        values = np.full(len(predictions), temperatures, np.float64)
    else:
        values = predictions.get("seed", pd.Series(0, predictions.index)).map(dict(temperatures)).to_numpy(np.float64)
    if not (values > 0).all():
        raise ValueError(f"each seed needs a temperature above 0, got {temperatures}")
    logits = np.log(np.maximum(predictions[names].to_numpy(np.float64), LEAST)) / values[:, None]  # (N, K)
    scaled = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    return predictions.assign(**dict(zip(names, scaled.T, strict=True)))


def binned(predictions: pd.DataFrame | Panel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, whether right, and bin (left, right] of each prediction: three times (S, N)."""
    system = panel(predictions)
    confidence = np.minimum(system.probabilities.max(axis=2), 1)
    correct = system.probabilities.argmax(axis=2) == system.labels
    place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence, side="left")
    return confidence, correct.astype(np.float64), place
