"""Tests of two single models, each example independent of all others, as they stand beside the bootstrap in papers."""

import numpy as np
from scipy.special import ndtr
from scipy.stats import binomtest


def delong(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p-value of equal AUROC; labels (N,) of 0 and 1, scores (N,) that are higher for 1; 1 for equal scores.

    DeLong, DeLong & Clarke-Pearson, Comparing the Areas under Two or More Correlated ROC Curves, 1988:
    https://doi.org/10.2307/2531595. Fewer than two examples of a label give NaN.
    """
    parts = [(scores[labels == 1], scores[labels == 0]) for scores in (first, second)]
    above, below = ((_ranks(a, b) - _ranks(c, d)) for (a, b), (c, d) in (parts, [part[::-1] for part in parts]))
    if min(len(above), len(below)) < 2:
        return float("nan")
    error = np.sqrt(above.var(ddof=1) / len(above) + below.var(ddof=1) / len(below))
    return float(2 * ndtr(-abs(above.mean()) / error)) if error > 0 else float(above.mean() == 0)


def _ranks(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of the others that lie below each value, ties counting one half."""
    others = np.sort(others)
    return (np.searchsorted(others, values) + np.searchsorted(others, values, "right")) / 2 / len(others)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Exact two-sided p-value of equal accuracy; whether each of two models is right (N,), bool.

    McNemar, Note on the Sampling Error of the Difference between Correlated Proportions, 1947:
    https://doi.org/10.1007/BF02295996
    """
    only = (first & ~second).sum(), (second & ~first).sum()
    return float(binomtest(int(only[0]), int(sum(only))).pvalue) if sum(only) else 1.0
