"""Scores of predictions: by scikit-learn and ranks, and for many resamples at once.

A resample gives group g a weight, how often it was drawn, so that scores are a few matrix products: counts under all
resamples are `weights (R, G) @ counts per group (G, ...)`. With all weights 1 the values equal scikit-learn's.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.stats import rankdata
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from mmutils.statistics.panel import Panel, check_probabilities, panel, probability_columns

SCORES = ("accuracy", "f1_macro", "f1_weighted", "auroc", "brier")


def scores(predictions: pd.DataFrame) -> dict[str, float]:
    """Scores in [0, 1] of one split: accuracy, auroc; precision, recall, f1, macro and weighted.

    Macro is the mean over the classes that occur among labels or predictions; a class never predicted has precision 0.
    auroc is that of p_1 for two classes, else the mean of one class against the rest, over the classes that have both
    kinds of rows; nan when none has. ValueError: see `check_probabilities`.
    """
    probabilities = predictions[probability_columns(predictions)].to_numpy()  # (N, K)
    labels = predictions["label"].to_numpy()  # (N,)
    check_probabilities(labels, probabilities)
    chosen = probabilities.argmax(axis=1)
    result = {"accuracy": float(accuracy_score(labels, chosen))}
    *values, support = precision_recall_fscore_support(labels, chosen, zero_division=0)  # (K',) each
    for average, weights in (("macro", None), ("weighted", support)):
        for name, by_class in zip(("precision", "recall", "f1"), values, strict=True):
            result[f"{name}_{average}"] = float(np.average(by_class, weights=weights))
    classes = [1] if probabilities.shape[1] == 2 else list(range(probabilities.shape[1]))
    truth = labels[:, None] == classes  # (N, K')
    counts, ranks = truth.sum(axis=0), rankdata(probabilities[:, classes], axis=0)
    defined = (counts > 0) & (counts < len(labels))
    below = (ranks * truth).sum(axis=0) - counts * (counts + 1) / 2  # Mann and Whitney's U: pairs in the right order
    areas = below[defined] / (counts * (len(labels) - counts))[defined]
    return result | {"auroc": float(areas.mean()) if len(areas) else float("nan")}


def best_threshold(predictions: pd.DataFrame) -> float:
    """The threshold t with the best accuracy for saying class 1 where p_1 > t: give predictions on val.

    p_1 is the mean over the seeds. Candidates are 0.5 and the midpoints between neighbouring values; of equally good
    ones the nearest to 0.5 counts. ValueError: as `panel` (but no column group is needed), or more than two classes.
    """
    system = panel(predictions.assign(group=""))
    if system.probabilities.shape[2] != 2:
        raise ValueError(f"a threshold is for two classes, given are {system.probabilities.shape[2]}")
    values = system.probabilities[..., 1].mean(axis=0)  # (N,)
    positive, negative = np.sort(values[system.labels == 1]), np.sort(values[system.labels == 0])
    levels = np.unique(values)
    thresholds = np.append((levels[1:] + levels[:-1]) / 2, 0.5)
    wrong = np.searchsorted(positive, thresholds, "right") - np.searchsorted(negative, thresholds, "right")
    best = thresholds[wrong == wrong.min()]  # up to a constant: positives at or below less negatives at or below
    return float(best[np.abs(best - 0.5).argmin()])


def weighted_score(system: Panel, score: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function from group weights (R, G) to scores (R, S); NaN where a resample leaves a score undefined.

    f1_macro is the mean over the classes that occur among labels or predictions; auroc is that of p_1 for two classes,
    else the mean over classes of one against the rest; brier is the squared error summed over classes (less is better).
    ValueError: an unknown score, or one that is not defined on these examples (auroc where all labels are equal).
    """
    if score not in SCORES:
        raise ValueError(f"unknown score {score!r}: give one of {', '.join(SCORES)}")
    if score == "auroc":
        function = _auroc(system)
    elif score in ("f1_macro", "f1_weighted"):
        function = _f1(system, macro=score == "f1_macro")
    elif score == "accuracy":
        function = _mean(system, system.probabilities.argmax(axis=2) == system.labels)
    else:
        truth = np.eye(system.probabilities.shape[2])[system.labels]  # (N, K)
        function = _mean(system, ((system.probabilities - truth) ** 2).sum(axis=2))
    if np.isnan(function(np.ones((1, len(system.group_names))))).any():
        raise ValueError(f"{score} is not defined on these examples, whose labels are {np.unique(system.labels)}")
    return function


def estimate(predictions: pd.DataFrame | Panel, score: str = "f1_macro") -> float:
    """The score of predictions, computed on each seed and averaged. ValueError: as `weighted_score`."""
    system = panel(predictions)
    return float(weighted_score(system, score)(np.ones((1, len(system.group_names)))).mean())


def chance(predictions: pd.DataFrame) -> dict[str, float]:
    """Accuracy, f1_macro and auroc of always saying the most frequent class of this split.

    With a largest class of share p among the K classes that occur: accuracy p, f1_macro 2 p / (1 + p) / K; auroc .5.
    """
    shares = predictions.drop_duplicates("id")["label"].value_counts(normalize=True)
    largest, classes = float(shares.iloc[0]), len(shares)
    return {"accuracy": largest, "f1_macro": 2 * largest / (1 + largest) / classes, "auroc": 0.5}


def _group_sums(system: Panel, rows: np.ndarray) -> np.ndarray:
    """Sums over the rows of each group: (N, C) -> (G, C)."""
    count = len(system.labels)
    membership = sparse.csr_array((np.ones(count), (system.groups, np.arange(count))))  # (G, N)
    return membership @ rows.astype(np.float64)


def _counts(weights: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Totals under weights (R, G): (R, C) float64. Whole numbers below 2^24 are exact in float32, which is faster."""
    return (weights @ sums.astype(weights.dtype)).astype(np.float64)


def _mean(system: Panel, values: np.ndarray) -> Callable:
    """Score that is the mean of values (S, N)."""
    sums = _group_sums(system, values.T)  # (G, S)
    sizes = _group_sums(system, np.ones((len(system.labels), 1)))  # (G, 1)
    return lambda weights: _counts(weights, sums) / _counts(weights, sizes)


def _f1(system: Panel, macro: bool) -> Callable:
    seeds, count, classes = system.probabilities.shape
    truth = np.eye(classes, dtype=bool)[system.labels]  # (N, K)
    predicted = np.eye(classes, dtype=bool)[system.probabilities.argmax(axis=2)]  # (S, N, K)
    columns = [(predicted & truth).transpose(1, 0, 2), predicted.transpose(1, 0, 2), truth[:, None]]
    sums = _group_sums(system, np.concatenate(columns, axis=1).reshape(count, -1))  # (G, (2 S + 1) K)

    def score(weights):  # (R, G)
        counts = _counts(weights, sums).reshape(len(weights), 2 * seeds + 1, classes)
        hits, guesses, actual = np.split(counts, [seeds, 2 * seeds], axis=1)
        f1 = 2 * hits / np.maximum(guesses + actual, 1)  # (R, S, K); 0 where a class occurs nowhere
        share = guesses + actual > 0 if macro else actual
        return (f1 * share).sum(axis=2) / share.sum(axis=2)

    return score


def _auroc(system: Panel) -> Callable:
    scored = [1] if system.probabilities.shape[2] == 2 else range(system.probabilities.shape[2])
    groups = system.groups, len(system.group_names)
    areas = [[_area(p[:, k], system.labels == k, *groups) for k in scored] for p in system.probabilities]

    def score(weights):  # (R, G)
        by_group = np.ascontiguousarray(weights.T)  # (G, R): a row of it is read in one go
        values = np.array([[area(by_group) for area in row] for row in areas])  # (S, K', R)
        defined = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            return (np.where(defined, values, 0).sum(axis=1) / defined.sum(axis=1)).T  # (R, S)

    return score


def _area(values: np.ndarray, positive: np.ndarray, groups: np.ndarray, count: int) -> Callable:
    """AUROC under group weights (G, R) -> (R,): the share of pairs in the right order, ties counting one half."""
    order = np.argsort(values[~positive], kind="stable")
    rising, negatives, positives = values[~positive][order], groups[~positive][order], groups[positive]
    below = np.stack([np.searchsorted(rising, values[positive], side) for side in ("left", "right")])  # (2, N+)
    levels, place = np.unique(below, return_inverse=True)  # (L,) numbers of negatives below, from left to right
    halves = np.full(below.size, 0.5, np.float32), (place.ravel(), np.tile(positives, 2))
    above = sparse.csr_array(halves, (len(levels), count))  # of each level the positives, half for each side
    steps = np.searchsorted(levels, np.arange(len(rising)), "right"), negatives
    between = sparse.csr_array((np.ones(len(rising), np.float32), steps), (len(levels) + 1, count))

    def area(weights):
        passed = between @ weights  # (L + 1, R) negatives between two levels
        for before, row in pairwise(passed):  # now up to each level, and all; np.cumsum takes five times as long
            row += before
        hits = above @ weights  # (L, R)
        with np.errstate(invalid="ignore"):
            right = np.einsum("lr,lr->r", hits, passed[:-1]).astype(np.float64)
            return right / (hits.sum(axis=0) * passed[-1].astype(np.float64))

    return area
