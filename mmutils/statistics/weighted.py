"""Scores for many resamples at once: a resample is a vector of multiplicities, a score a few matrix products.

A bootstrap resample gives group g a weight (how often it was drawn). Counts under all resamples are then
`weights (R, G) @ counts per group (G, ...)`, and AUROC needs one sorting for all of them. With all weights 1 the values
equal scikit-learn's.
"""

from collections.abc import Callable

import numpy as np
from scipy import sparse

from mmutils.statistics.panel import Panel

SCORES = ("accuracy", "f1_macro", "f1_weighted", "auroc", "brier")


def weighted_score(panel: Panel, score: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function from group weights (R, G) to scores (R, S); NaN where a resample leaves a score undefined.

    Args:
        score: one of SCORES. f1_macro is the mean over the classes that occur among labels or predictions; auroc is
            that of p_1 for two classes, else the mean over classes of one against the rest; brier is the squared error
            summed over classes (lower is better; for two classes twice the error of p_1).

    Raises:
        ValueError: an unknown score.
    """
    if score not in SCORES:
        raise ValueError(f"unknown score {score!r}: give one of {', '.join(SCORES)}")
    if score in ("f1_macro", "f1_weighted"):
        return _f1(panel, macro=score == "f1_macro")
    if score == "auroc":
        return _auroc(panel)
    if score == "accuracy":
        return _mean(panel, panel.probabilities.argmax(axis=2) == panel.labels)
    truth = np.eye(panel.probabilities.shape[2])[panel.labels]  # (N, K)
    return _mean(panel, ((panel.probabilities - truth) ** 2).sum(axis=2))


def _group_sums(panel: Panel, rows: np.ndarray) -> np.ndarray:
    """Sums over the rows of each group: (N, C) -> (G, C)."""
    count = len(panel.labels)
    membership = sparse.csr_array((np.ones(count), (panel.groups, np.arange(count))))  # (G, N)
    return membership @ rows.astype(np.float64)


def _counts(weights: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Totals under weights (R, G): (R, C) float64. Whole numbers below 2^24 are exact in float32, which is faster."""
    return (weights @ sums.astype(weights.dtype)).astype(np.float64)


def _mean(panel: Panel, values: np.ndarray) -> Callable:
    """Score that is the mean of values (S, N)."""
    sums = _group_sums(panel, values.T)  # (G, S)
    sizes = _group_sums(panel, np.ones((len(panel.labels), 1)))  # (G, 1)
    return lambda weights: _counts(weights, sums) / _counts(weights, sizes)


def _f1(panel: Panel, macro: bool) -> Callable:
    seeds, count, classes = panel.probabilities.shape
    truth = np.eye(classes, dtype=bool)[panel.labels]  # (N, K)
    predicted = np.eye(classes, dtype=bool)[panel.probabilities.argmax(axis=2)]  # (S, N, K)
    columns = [(predicted & truth).transpose(1, 0, 2), predicted.transpose(1, 0, 2), truth[:, None]]
    sums = _group_sums(panel, np.concatenate(columns, axis=1).reshape(count, -1))  # (G, (2 S + 1) K)

    def score(weights):  # (R, G)
        counts = _counts(weights, sums).reshape(len(weights), 2 * seeds + 1, classes)
        hits, guesses, actual = np.split(counts, [seeds, 2 * seeds], axis=1)
        f1 = 2 * hits / np.maximum(guesses + actual, 1)  # (R, S, K); 0 where a class occurs nowhere
        share = guesses + actual > 0 if macro else actual
        return (f1 * share).sum(axis=2) / share.sum(axis=2)

    return score


def _auroc(panel: Panel) -> Callable:
    seeds, _, classes = panel.probabilities.shape
    scored = [1] if classes == 2 else range(classes)
    tables = [[_ranks(panel, seed, k) for k in scored] for seed in range(seeds)]

    def score(weights):  # (R, G)
        by_group = np.ascontiguousarray(weights.T)  # (G, R): a row of it is read in one go
        areas = np.array([[_area(by_group, *table) for table in row] for row in tables])  # (S, K', R)
        defined = ~np.isnan(areas)
        with np.errstate(invalid="ignore"):
            return (np.where(defined, areas, 0).sum(axis=1) / defined.sum(axis=1)).T  # (R, S)

    return score


def _ranks(panel: Panel, seed: int, k: int) -> tuple[np.ndarray, ...]:
    """Groups of negatives by rising probability, of positives, and the counts of negatives below and not above each."""
    values, positive = panel.probabilities[seed, :, k], panel.labels == k
    order = np.argsort(values[~positive], kind="stable")
    negatives = values[~positive][order]
    below = np.searchsorted(negatives, values[positive], side="left")
    not_above = np.searchsorted(negatives, values[positive], side="right")
    return panel.groups[~positive][order], panel.groups[positive], below, not_above


def _area(weights, negatives, positives, below, not_above) -> np.ndarray:
    """AUROC under group weights (G, R) -> (R,): the share of pairs in the right order, ties counting one half."""
    cumulative = np.zeros((len(negatives) + 1, weights.shape[1]), weights.dtype)
    np.cumsum(weights[negatives], axis=0, out=cumulative[1:])
    gains = weights[positives]  # (P, R)
    lower = np.einsum("pr,pr->r", gains, cumulative[below]).astype(np.float64)
    upper = lower if (below == not_above).all() else np.einsum("pr,pr->r", gains, cumulative[not_above])
    with np.errstate(invalid="ignore"):
        return (lower + upper) / 2 / (gains.sum(axis=0) * cumulative[-1])
