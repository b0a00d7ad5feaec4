"""Closed-form comparisons: DeLong for AUROC, exact McNemar for accuracy, Holm over a family of tests.

- DeLong, DeLong & Clarke-Pearson, Comparing the Areas under Two or More Correlated Receiver Operating Characteristic
  Curves, 1988: https://doi.org/10.2307/2531595
- Sun & Xu, Fast Implementation of DeLong's Algorithm, 2014: https://doi.org/10.1109/LSP.2014.2337313
- McNemar, Note on the Sampling Error of the Difference between Correlated Proportions, 1947:
  https://doi.org/10.1007/BF02295996
- Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979: https://www.jstor.org/stable/4615733

DeLong and McNemar compare two single models and take rows as independent: for several seeds, or rows that share a
group, use `bootstrap.paired_difference`.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata
from statsmodels.stats import contingency_tables, multitest

from mmutils.statistics.bootstrap import Interval


class McNemar(NamedTuple):
    """Examples that only one of two classifiers gets right."""

    only_a: int
    only_b: int
    difference: float  # accuracy of a minus accuracy of b
    p_value: float  # exact, two-sided


def delong(labels, a, b=None, *, level: float = 0.95) -> Interval:
    """AUROC of a with DeLong's interval, or, where b is given, AUROC of a minus AUROC of b with two-sided p-value.

    labels (N,) of 0 and 1; a, b (N,) scores that are higher for label 1, on any scale. The standard error is the root
    of DeLong's variance; O(N log N). Equal scores have p = 1.
    ValueError: lengths differ, labels other than 0 and 1 or fewer than two of either, NaN.
    """
    labels = np.asarray(labels)
    scores = np.stack([_checked(labels, values) for values in ([a] if b is None else [a, b])])  # (M, N)
    if not np.isin(labels, (0, 1)).all() or min((labels == 0).sum(), (labels == 1).sum()) < 2:
        raise ValueError(f"labels must be 0 and 1, at least two of each; got {np.unique(labels, return_counts=True)}")
    areas, positive, negative = _placements(scores, labels == 1)
    contrast = np.array([1.0]) if b is None else np.array([1.0, -1.0])
    variance = (contrast @ positive).var(ddof=1) / positive.shape[1]
    variance += (contrast @ negative).var(ddof=1) / negative.shape[1]
    value, error = float(contrast @ areas), float(np.sqrt(variance))
    reach = float(ndtri((1 + level) / 2)) * error
    p_value = None
    if b is not None:
        p_value = float(2 * ndtr(-abs(value) / error)) if error > 0 else float(value == 0)
    return Interval(value, value - reach, value + reach, level, "DeLong", error, len(labels), 1, 0, p_value)


def _placements(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Areas (M,), and the share of negatives below each positive (M, P) and of positives above each negative (M, Q)."""
    positives, negatives = positive.sum(), (~positive).sum()
    together = rankdata(scores, axis=1)  # mid-ranks
    above = (together[:, positive] - rankdata(scores[:, positive], axis=1)) / negatives
    below = 1 - (together[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / positives
    return above.mean(axis=1), above, below


def mcnemar(labels, a, b) -> McNemar:
    """Exact McNemar test of two classifiers' accuracy: is it even odds which of the two is right where one is?

    labels, a, b (N,): the true class and the two predicted classes. p = 1 where no example tells them apart.
    ValueError: lengths differ or a value is NaN.
    """
    labels = np.asarray(labels)
    right_a, right_b = (_checked(labels, values) == labels for values in (a, b))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    table = [[0, only_a], [only_b, 0]]  # examples on which both are right, or both wrong, do not count
    p_value = float(contingency_tables.mcnemar(table, exact=True).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, float(right_a.mean() - right_b.mean()), p_value)


def holm(p_values):
    """Holm's adjusted p-values: reject where one is below .05, and the chance of any false rejection is below .05.

    p_values (M,): a Series keeps its index, anything else gives an array.
    ValueError: NaN or outside [0, 1].
    """
    values = np.asarray(p_values, np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values must be one row of numbers in [0, 1], got {p_values}")
    adjusted = multitest.multipletests(values, method="holm")[1] if len(values) else values
    return pd.Series(adjusted, p_values.index, name="p_holm") if isinstance(p_values, pd.Series) else adjusted


def _checked(labels: np.ndarray, values) -> np.ndarray:
    values = np.asarray(values)
    if labels.ndim != 1 or values.shape != labels.shape:
        raise ValueError(f"labels and scores must have one length: {labels.shape} and {values.shape}")
    if np.isnan(values.astype(np.float64)).any():
        raise ValueError("scores contain NaN")
    return values
