"""Statistics that the package does not use (yet), in working order: BCa, few seeds, DeLong, McNemar, perceptual score.

- Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 14 (BCa): https://doi.org/10.1201/9780429246593
- Satterthwaite, An Approximate Distribution of Estimates of Variance Components, 1946 (few seeds):
  https://doi.org/10.2307/3002019
- DeLong, DeLong & Clarke-Pearson, Comparing the Areas under Two or More Correlated Receiver Operating Characteristic
  Curves, 1988: https://doi.org/10.2307/2531595
- Sun & Xu, Fast Implementation of DeLong's Algorithm, 2014: https://doi.org/10.1109/LSP.2014.2337313
- McNemar, Note on the Sampling Error of the Difference between Correlated Proportions, 1947:
  https://doi.org/10.1007/BF02295996
- Gat, Schwartz & Schwing, Perceptual Score: What Data Modalities Does Your Model Perceive?, 2021:
  https://arxiv.org/abs/2110.14375

DeLong and McNemar compare two single models and take rows as independent: for several seeds, or rows that share a
group, use `bootstrap.paired_difference`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata
from scipy.stats import t as student
from statsmodels.stats import contingency_tables

from mmutils.statistics import Interval, estimate, to_predictions
from mmutils.statistics.bootstrap import Draws


@dataclass(frozen=True)
class WithError(Interval):
    """An interval with its standard error."""

    standard_error: float = float("nan")


def interval(draws: Draws, statistic: Callable, level: float = 0.95, method: str = "percentile") -> WithError:
    """Interval and p-value of a statistic of the systems' means: an array function (..., M) -> (...).

    method: "percentile", or "bca", which corrects for bias and skewness: for small splits and scores near 0 or 1.
    """
    value, drawn = float(statistic(draws.means)), statistic(draws.draws)
    bias, acceleration = _correction(draws, statistic, value, drawn) if method == "bca" else (0.0, 0.0)
    normal = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
    ends = ndtr(bias + normal / (1 - acceleration * normal))
    low, high = np.quantile(drawn, ends, method="nearest")
    seeds = min(len(system.seeds) for system in draws.systems)
    p_value = _p_value(drawn, bias, acceleration)
    return WithError(value, float(low), float(high), draws.groups, seeds, p_value, float(np.std(drawn, ddof=1)))


def _correction(draws: Draws, statistic: Callable, value: float, drawn: np.ndarray) -> tuple[float, float]:
    """BCa's bias and acceleration; the jackknife leaves out each group, and each seed of several."""
    below = ((drawn < value).mean() + (drawn <= value).mean()) / 2
    bias = float(ndtri(np.clip(below, 1 / (len(drawn) + 1), len(drawn) / (len(drawn) + 1))))
    cubes = squares = 0.0
    for left_out in _jackknife(draws):
        pulls = statistic(left_out)
        pulls = (pulls.mean() - pulls) * (len(pulls) - 1) / len(pulls)
        cubes, squares = cubes + (pulls**3).sum(), squares + (pulls**2).sum()
    if not np.isfinite(cubes):
        raise ValueError("bca leaves out each group in turn, and then the score is not defined: use 'percentile'")
    return bias, float(cubes / (6 * squares**1.5)) if squares > 0 else 0.0


def _jackknife(draws: Draws) -> list[np.ndarray]:
    """Means (units, M) with each unit left out, for groups and then for every set of several seeds."""
    weights = 1 - np.eye(draws.groups)
    units = [np.stack([function(weights).mean(axis=1) for function in draws.functions], axis=1)]  # (G, M)
    full = [function(np.ones((1, draws.groups)))[0] for function in draws.functions]  # M times (S,)
    for seeds in dict.fromkeys(system.seeds for system in draws.systems if len(system.seeds) > 1):
        left_out = np.repeat(draws.means[None], len(seeds), axis=0)  # (S, M)
        for number, (system, scores) in enumerate(zip(draws.systems, full, strict=True)):
            if system.seeds == seeds:
                left_out[:, number] = (scores.sum() - scores) / (len(seeds) - 1)
        units.append(left_out)
    return units


def few_seeds_interval(draws: Draws, by_seed: np.ndarray, level: float = 0.95) -> WithError:
    """Interval of the first system minus the second: the bootstrap's standard error by Student's distribution.

    A variance that S seeds make up has S - 1 degrees of freedom; of the seeds' share in the whole, Satterthwaite's rule
    gives those of both. by_seed: differences on all examples (S,). One seed, or none that matters: the normal quantile.
    """
    drawn, value = draws.draws @ [1, -1], float(draws.means @ [1, -1])
    error, count = drawn.std(ddof=1), len(by_seed)
    between = by_seed.var(ddof=1) / count if count > 1 else 0.0
    freedom = (count - 1) * (error**2 / between) ** 2 if between > 0 else np.inf
    reach = float(student.ppf((1 + level) / 2, freedom)) * error
    p_value = float(2 * student.sf(abs(value) / error, freedom)) if error > 0 else float(value == 0)
    return WithError(value, value - reach, value + reach, draws.groups, count, p_value, float(error))


def _p_value(draws: np.ndarray, bias: float, acceleration: float) -> float:
    """The level at which the interval's nearer end is 0; the percentile interval has bias and acceleration 0."""
    count = len(draws) + 1
    shares = np.array([(1 + (draws <= 0).sum()) / count, 1 - (1 + (draws >= 0).sum()) / count])
    shares = ndtri(np.clip(shares, 1 / count, 1 - 1 / count)) - bias
    left, right = ndtr(shares / (1 + acceleration * shares) - bias)
    return float(min(1, 2 * min(left, 1 - right)))


def delong(labels, a, b=None, *, level: float = 0.95) -> WithError:
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
    return WithError(value, value - reach, value + reach, len(labels), 1, p_value, error)


def _placements(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Areas (M,), and the share of negatives below each positive (M, P) and of positives above each negative (M, Q)."""
    positives, negatives = positive.sum(), (~positive).sum()
    together = rankdata(scores, axis=1)  # mid-ranks
    above = (together[:, positive] - rankdata(scores[:, positive], axis=1)) / negatives
    below = 1 - (together[:, ~positive] - rankdata(scores[:, ~positive], axis=1)) / positives
    return above.mean(axis=1), above, below


class McNemar(NamedTuple):
    """Examples that only one of two classifiers gets right."""

    only_a: int
    only_b: int
    difference: float  # accuracy of a minus accuracy of b
    p_value: float  # exact, two-sided


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


def _checked(labels: np.ndarray, values) -> np.ndarray:
    values = np.asarray(values)
    if labels.ndim != 1 or values.shape != labels.shape:
        raise ValueError(f"labels and scores must have one length: {labels.shape} and {values.shape}")
    if np.isnan(values.astype(np.float64)).any():
        raise ValueError("scores contain NaN")
    return values


class PerceptualScore(NamedTuple):
    """What a model loses when one modality is taken from another example."""

    full: float  # the score
    permuted: float  # mean over permutations
    standard_deviation: float  # over permutations
    drop: float  # full - permuted: the perceptual score
    relative: float  # drop / full
    p_value: float  # share of permutations that reach the full score, with one added: is the modality used at all?


def perceptual_score(
    joint: np.ndarray, labels, modality: str, score: str = "accuracy", *, permutations: int = 100, seed: int = 0
) -> PerceptualScore:
    """Loss of score when one modality is permuted over the examples; 0 for a model that ignores the modality.

    joint (N, N, K) logits of text i with picture j; labels (N,); modality "image" takes joint[i, permutation[i]],
    "text" joint[permutation[i], i]. score: as in `bootstrap_interval`, more is better. For the accuracy the mean over
    all permutations is the mean over all pairs of whether joint[i, j] is right about example i.
    ValueError: unknown modality, wrong shapes, fewer than one permutation.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    if modality not in ("image", "text"):
        raise ValueError(f"unknown modality {modality!r}: give 'text' or 'image'")
    own, order = np.arange(len(joint)), np.random.default_rng(seed)
    ids = own.astype(str)
    examples = pd.DataFrame({"id": ids, "group": ids, "label": labels})

    def value(logits: np.ndarray) -> float:
        return estimate(to_predictions(examples, logits[None]), score)

    full, values = value(joint[own, own]), []
    for _ in range(permutations):
        other = order.permutation(len(joint))
        values.append(value(joint[own, other] if modality == "image" else joint[other, own]))
    values = np.array(values)
    p_value = (1 + (values >= full - 1e-12).sum()) / (1 + permutations)
    permuted, drop = float(values.mean()), float(full - values.mean())
    relative = drop / full if full else float("nan")
    return PerceptualScore(full, permuted, float(values.std()), drop, relative, float(p_value))
