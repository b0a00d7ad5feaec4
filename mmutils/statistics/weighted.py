"""Scores for many resamples at once: a resample is a vector of multiplicities, a score a few matrix products.

A bootstrap resample draws groups with replacement, that is, it gives group g a weight (how often it was drawn).
Counts under all resamples are then `weights (R, G) @ counts per group (G, ...)`, and AUROC needs one sorting for all of
them. With all weights 1 the values equal scikit-learn's.
"""

from collections.abc import Callable

import numpy as np
from scipy import sparse

from mmutils.statistics.panel import Panel

SCORES = ("accuracy", "f1_macro", "f1_weighted", "auroc", "brier")


def weighted_score(panel: Panel, score: str | Callable) -> Callable[[np.ndarray], np.ndarray]:
    """The function from group weights (R, G) to scores (R, S); NaN where a resample leaves a score undefined.

    score: a name of SCORES, or a function of labels (N,) and probabilities (N, K) to a float: it is called once per
    resample and seed with the drawn rows, which is slow but works for everything. f1_macro is the mean over the classes
    that occur among labels or predictions (scikit-learn's default); auroc is that of p_1 for two classes, else the mean
    over classes of one against the rest; brier is the squared error summed over classes (lower is better).
    ValueError: an unknown name.
    """
    if callable(score):
        return _by_function(panel, score)
    if score in ("f1_macro", "f1_weighted"):
        return _f1(panel, macro=score == "f1_macro")
    if score == "auroc":
        return _auroc(panel)
    truth = np.eye(panel.probabilities.shape[2])[panel.labels]  # (N, K)
    if score == "accuracy":
        return _mean(panel, panel.probabilities.argmax(axis=2) == panel.labels)
    if score == "brier":
        return _mean(panel, ((panel.probabilities - truth) ** 2).sum(axis=2))
    raise ValueError(f"unknown score {score!r}: give one of {', '.join(SCORES)} or a function(labels, probabilities)")


def _group_sums(panel: Panel, rows: np.ndarray) -> np.ndarray:
    """Sums over the rows of each group: (N, C) -> (G, C)."""
    count = len(panel.labels)
    membership = sparse.csr_array((np.ones(count), (panel.groups, np.arange(count))))  # (G, N)
    return membership @ rows.astype(np.float64)


def _counts(weights: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Totals under weights (R, G): (R, C) float64. Whole numbers below 2^24 are exact in float32, which is faster."""
    return (weights @ sums.astype(weights.dtype)).astype(np.float64)


def _mean(panel: Panel, values: np.ndarray) -> Callable:
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
        hits, guesses, actual = counts[:, :seeds], counts[:, seeds : 2 * seeds], counts[:, 2 * seeds :]
        f1 = 2 * hits / np.maximum(guesses + actual, 1)  # (R, S, K); 0 where a class occurs nowhere
        share = guesses + actual > 0 if macro else actual
        return (f1 * share).sum(axis=2) / share.sum(axis=2)

    return score


def _auroc(panel: Panel) -> Callable:
    seeds, _, classes = panel.probabilities.shape
    chosen = [1] if classes == 2 else range(classes)
    tables = [[_ranks(panel, seed, number) for number in chosen] for seed in range(seeds)]

    def score(weights):  # (R, G)
        by_group = np.ascontiguousarray(weights.T)  # (G, R): a row of it is read in one go
        areas = np.array([[_area(by_group, *table) for table in row] for row in tables])  # (S, K', R)
        defined = ~np.isnan(areas)
        with np.errstate(invalid="ignore"):
            return (np.where(defined, areas, 0).sum(axis=1) / defined.sum(axis=1)).T  # (R, S)

    return score


def _ranks(panel: Panel, seed: int, number: int) -> tuple[np.ndarray, ...]:
    """Groups of negatives by rising probability, of positives, and the counts of negatives below and not above each."""
    values, positive = panel.probabilities[seed, :, number], panel.labels == number
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


def _by_function(panel: Panel, function: Callable) -> Callable:
    def score(weights):
        rows = [np.repeat(np.arange(len(panel.labels)), row[panel.groups].astype(int)) for row in weights]
        return np.array([[function(panel.labels[r], p[r]) for p in panel.probabilities] for r in rows], np.float64)

    return score
