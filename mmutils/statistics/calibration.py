"""Are the probabilities true? Calibration error, Brier score, reliability table, temperature scaling.

Guo et al., On Calibration of Modern Neural Networks, 2017: https://arxiv.org/abs/1706.04599
Brier, Verification of Forecasts Expressed in Terms of Probability, 1950:
https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2

Confidence is the probability of the predicted class. A calibrated classifier is right in 80 % of the cases in which its
confidence is .8. Where there are several seeds each is a model of its own: errors are averaged over them. The expected
calibration error is a mean of absolute values, so even a calibrated model's is not 0 on few examples (about
sqrt(bins / N) / 3): compare it between systems on the same split only.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from statsmodels.stats.proportion import proportion_confint

from mmutils.statistics.bootstrap import estimate
from mmutils.statistics.panel import panel

TEMPERATURES = (0.05, 20.0)  # the range that is searched


def calibration_error(predictions: pd.DataFrame, bins: int = 15) -> float:
    """Expected calibration error, in [0, 1]: mean of |accuracy - confidence| over equal-width bins, weighted by rows.

    0 for a calibrated model on infinitely many examples. ValueError: bad predictions, or fewer than 1 bin.
    """
    confidence, correct, place = _binned(predictions, bins)
    gaps = [np.bincount(p, c - r, minlength=bins) for p, c, r in zip(place, confidence, correct, strict=True)]
    return float(np.abs(gaps).sum(axis=1).mean() / confidence.shape[1])


def brier(predictions: pd.DataFrame) -> float:
    """Brier score: squared error of the probabilities, summed over classes, mean over examples and seeds.

    0 is perfect, (K - 1) / K says 1/K to every class, 2 is certain and wrong; for two classes it is twice the score
    that is computed from p_1 alone. With an interval: `bootstrap_interval(predictions, "brier")`.
    ValueError: bad predictions.
    """
    return estimate(predictions, "brier")


def reliability(predictions: pd.DataFrame, bins: int = 15, level: float = 0.95) -> pd.DataFrame:
    """The table behind a reliability diagram: one row per bin that holds examples, all seeds together.

    Columns: left, right (bin edges; left is not part of the bin), share (of all rows), examples (mean over seeds),
    confidence, accuracy (means), low, high (Wilson interval of the accuracy, as if seeds repeated the same examples).
    ValueError: bad predictions, or fewer than 1 bin.
    """
    confidence, correct, place = (array.ravel() for array in _binned(predictions, bins))
    seeds = predictions["seed"].nunique() if "seed" in predictions else 1
    rows = pd.DataFrame({"bin": place, "confidence": confidence, "accuracy": correct})
    table = rows.groupby("bin").mean()
    examples = rows.groupby("bin").size() / seeds
    low, high = proportion_confint(table["accuracy"] * examples, examples, 1 - level, method="wilson")
    edges = {"left": table.index / bins, "right": (table.index + 1) / bins, "share": examples / examples.sum()}
    return table.assign(**edges, examples=examples, low=low, high=high).reset_index(drop=True)[
        ["left", "right", "share", "examples", "confidence", "accuracy", "low", "high"]
    ]


def temperature(predictions: pd.DataFrame) -> pd.Series:
    """The temperature of each seed that minimises the mean negative log-likelihood (nats): give predictions on val.

    Index: seed. Above 1 where the model is too sure. Works from log-probabilities, which are logits up to a constant
    that the softmax cancels; probabilities below 1e-12 count as 1e-12. Lies in TEMPERATURES; a model without errors on
    val ends at the lower end. ValueError: bad predictions.
    """
    system = panel(predictions)
    rows = np.arange(len(system.labels))
    found = {}
    for seed, probabilities in zip(system.seeds, system.probabilities, strict=True):
        logits = _logarithm(probabilities)  # (N, K)

        def loss(inverse, logits=logits):  # convex in the inverse of the temperature
            return (logsumexp(inverse * logits, axis=1) - inverse * logits[rows, system.labels]).mean()

        bounds = (1 / TEMPERATURES[1], 1 / TEMPERATURES[0])
        found[seed] = 1 / minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x
    return pd.Series(found, name="temperature").rename_axis("seed")


def apply_temperature(predictions: pd.DataFrame, temperatures: float | Mapping | pd.Series) -> pd.DataFrame:
    """Predictions with softmax(log p / T): other confidence, same predicted class.

    temperatures: one T for all, or T by seed as `temperature` returns it.
    ValueError: T not above 0, or none for a seed.
    """
    names = sorted((name for name in predictions if str(name).startswith("p_")), key=lambda name: int(name[2:]))
    if np.isscalar(temperatures):
        values = np.full(len(predictions), temperatures, np.float64)
    else:
        seeds = predictions["seed"] if "seed" in predictions else pd.Series(0, predictions.index)
        values = seeds.map(dict(temperatures)).to_numpy(np.float64)
    if not (values > 0).all():
        raise ValueError(f"each seed needs a temperature above 0, got {temperatures}")
    logits = _logarithm(predictions[names].to_numpy(np.float64)) / values[:, None]
    scaled = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    return predictions.assign(**dict(zip(names, scaled.T, strict=True)))


def _logarithm(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, 1e-12))


def _binned(predictions: pd.DataFrame, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, whether right, and bin (left, right] of each prediction: three times (S, N)."""
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    system = panel(predictions)
    confidence = np.minimum(system.probabilities.max(axis=2), 1)
    correct = system.probabilities.argmax(axis=2) == system.labels
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], confidence, side="left")
    return confidence, correct.astype(np.float64), place
