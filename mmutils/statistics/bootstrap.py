"""Bootstrap intervals and paired differences for any score, over examples and seeds at once.

- Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13-15 (percentile, BCa):
  https://doi.org/10.1201/9780429246593
- Koehn, Statistical Significance Tests for Machine Translation Evaluation, 2004 (paired, any score):
  https://aclanthology.org/W04-3250/
- Owen, The Pigeonhole Bootstrap, 2007 (two crossed factors drawn independently): https://doi.org/10.1214/07-AOAS122

What is drawn: groups of examples with replacement (rows that share a group, such as the pictures of one tweet, move
together; taking them apart makes intervals too short) and, independently, seeds. Of S seeds S - 1 are drawn, which
makes the variance between few seeds unbiased (S of S would make it (S - 1) / S of what it is). So the interval is about
the expected score of newly trained models on new examples; with one seed it is about that one model. Two crossed draws
count the part of the variance that belongs to neither factor up to three times: intervals are rather too wide than too
short.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from mmutils.statistics.panel import Panel, panel, panels
from mmutils.statistics.weighted import weighted_score

_CELLS = 2**20  # weights held at once: 4 MB, which stays in the processor's cache better than all of them


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval; `value in interval` says whether it holds a value."""

    estimate: float
    low: float
    high: float
    level: float  # 0.95 for a 95 % interval
    method: str
    standard_error: float
    groups: int  # independent units of the split
    seeds: int
    resamples: int  # those in which the score was defined; 0 for a closed form
    p_value: float | None = None  # two-sided, against 0; None for a score

    def __contains__(self, value: float) -> bool:
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(predictions: pd.DataFrame, score: str | Callable = "f1_macro") -> float:
    """The score of predictions, computed on each seed and averaged. ValueError: as `bootstrap_interval`."""
    system = panel(predictions)
    return float(_means([system], [weighted_score(system, score)])[0])


def bootstrap_interval(
    predictions: pd.DataFrame,
    score: str | Callable = "f1_macro",
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    method: str = "percentile",
    seed: int = 0,
) -> Interval:
    """Interval of a score: the mean over seeds, resampled over groups and seeds at once.

    score: "accuracy", "f1_macro", "f1_weighted", "auroc", "brier", or a function of labels (N,), probabilities (N, K).
    method: "percentile", or "bca", which corrects for bias and skewness: for small splits and scores near 0 or 1.
    ValueError: bad predictions (see `panel.panel`), an unknown score or method, one group only, or a score that is not
    defined on these examples (auroc where all labels are equal).
    """
    draw = Draws([panel(predictions)], score, resamples, seed)
    return draw.interval(lambda means: means[..., 0], level, method)


def paired_difference(
    a: pd.DataFrame,
    b: pd.DataFrame,
    score: str | Callable = "f1_macro",
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    method: str = "percentile",
    seed: int = 0,
) -> Interval:
    """Score of a minus score of b on the same examples, with interval and two-sided p-value.

    Both systems are scored on the same drawn examples. Where they have the same seeds, these are drawn together;
    otherwise each system's seeds are drawn for themselves. The p-value inverts the interval: twice the share of
    resamples beyond 0, (1 + count) / (1 + resamples), on the side where it is smaller, at most 1. So p < 1 - level
    exactly when the interval leaves 0 out (up to the added one), and equal systems have p = 1.
    ValueError: as `bootstrap_interval`; ids, labels, groups or classes that differ between a and b.
    """
    draw = Draws(panels([a, b]), score, resamples, seed)
    return draw.interval(lambda means: means[..., 0] - means[..., 1], level, method, test=True)


class Draws:
    """Mean scores of M systems under the same R resamples: `means` (M,), `draws` (R, M)."""

    def __init__(self, systems: list[Panel], score: str | Callable, resamples: int, seed: int):
        if resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {resamples}")
        self.systems = systems
        self.groups = len(systems[0].group_names)
        if self.groups < 2:
            raise ValueError("all examples belong to one group: there is nothing to resample")
        self.functions = [weighted_score(system, score) for system in systems]
        self.means = _means(systems, self.functions)
        generator = np.random.default_rng(seed)
        chunk = max(1, _CELLS // self.groups)
        sizes = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
        draws = np.concatenate([self._chunk(size, generator) for size in sizes])
        self.draws = draws[~np.isnan(draws).any(axis=1)]
        if not len(self.draws):
            raise ValueError(f"{score} is not defined in any of {resamples} resamples: too few groups of a class")

    def _chunk(self, count: int, generator: np.random.Generator) -> np.ndarray:
        weights = _multiplicities(count, self.groups, self.groups, generator)  # (R, G)
        drawn = {}  # systems with the same seeds share their draw
        for system in self.systems:
            seeds = len(system.seeds)
            if system.seeds not in drawn:
                drawn[system.seeds] = _multiplicities(count, max(1, seeds - 1), seeds, generator)  # (R, S)
        scores = [function(weights) for function in self.functions]  # M times (R, S)
        chosen = [drawn[system.seeds] for system in self.systems]
        return np.stack([(s * v).sum(axis=1) / v.sum(axis=1) for s, v in zip(scores, chosen, strict=True)], axis=1)

    def interval(self, statistic: Callable, level: float = 0.95, method: str = "percentile", test=False) -> Interval:
        """Interval of a statistic of the systems' means: an array function (..., M) -> (...)."""
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level}")
        if method not in ("percentile", "bca"):
            raise ValueError(f"unknown method {method!r}: give 'percentile' or 'bca'")
        value, draws = float(statistic(self.means)), statistic(self.draws)
        bias, acceleration = self._correction(statistic, value, draws) if method == "bca" else (0.0, 0.0)
        normal = bias + ndtri([(1 - level) / 2, (1 + level) / 2])
        ends = ndtr(bias + normal / (1 - acceleration * normal))
        low, high = np.quantile(draws, ends, method="nearest")
        p_value = _p_value(draws, bias, acceleration) if test else None
        error = float(np.std(draws, ddof=1)) if len(draws) > 1 and np.isfinite(draws).all() else float("nan")
        seeds = min(len(system.seeds) for system in self.systems)
        return Interval(value, float(low), float(high), level, method, error, self.groups, seeds, len(draws), p_value)

    def _correction(self, statistic: Callable, value: float, draws: np.ndarray) -> tuple[float, float]:
        """BCa's bias and acceleration; the jackknife leaves out each group, and each seed of several."""
        below = ((draws < value).mean() + (draws <= value).mean()) / 2
        bias = float(ndtri(np.clip(below, 1 / (len(draws) + 1), len(draws) / (len(draws) + 1))))
        cubes = squares = 0.0
        for left_out in self._jackknife():
            pulls = statistic(left_out)
            pulls = (pulls.mean() - pulls) * (len(pulls) - 1) / len(pulls)
            cubes, squares = cubes + (pulls**3).sum(), squares + (pulls**2).sum()
        if not np.isfinite(cubes):
            raise ValueError("bca leaves out each group in turn, and then the score is not defined: use 'percentile'")
        return bias, float(cubes / (6 * squares**1.5)) if squares > 0 else 0.0

    def _jackknife(self) -> list[np.ndarray]:
        """Means (units, M) with each unit left out, for groups and then for every set of several seeds."""
        chunk = max(1, _CELLS // self.groups)
        parts = []
        for start in range(0, self.groups, chunk):
            weights = np.ones((min(chunk, self.groups - start), self.groups))
            weights[np.arange(len(weights)), start + np.arange(len(weights))] = 0
            parts.append(np.stack([function(weights).mean(axis=1) for function in self.functions], axis=1))
        units = [np.concatenate(parts)]  # (G, M)
        full = [function(np.ones((1, self.groups)))[0] for function in self.functions]  # M times (S,)
        for seeds in dict.fromkeys(system.seeds for system in self.systems if len(system.seeds) > 1):
            left_out = np.repeat(self.means[None], len(seeds), axis=0)  # (S, M)
            for number, (system, scores) in enumerate(zip(self.systems, full, strict=True)):
                if system.seeds == seeds:
                    left_out[:, number] = (scores.sum() - scores) / (len(seeds) - 1)
            units.append(left_out)
        return units


def _means(systems: list[Panel], functions: list[Callable]) -> np.ndarray:
    """Score of each system on all examples, averaged over its seeds: (M,)."""
    means = np.array([function(np.ones((1, len(systems[0].group_names)))).mean() for function in functions])
    if np.isnan(means).any():
        raise ValueError(f"the score is not defined on these examples, whose labels are {np.unique(systems[0].labels)}")
    return means


def _multiplicities(count: int, drawn: int, units: int, generator: np.random.Generator) -> np.ndarray:
    """How often each unit comes up in `drawn` draws with replacement: (count, units) float32, rows sum to `drawn`."""
    cells = generator.integers(0, units, (count, drawn), dtype=np.int32)
    cells += np.arange(count, dtype=np.int32)[:, None] * np.int32(units)
    return np.bincount(cells.ravel(), minlength=count * units).reshape(count, units).astype(np.float32)


def _p_value(draws: np.ndarray, bias: float, acceleration: float) -> float:
    """The level at which the interval's nearer end is 0; the percentile interval has bias and acceleration 0."""
    count = len(draws) + 1
    shares = np.array([(1 + (draws <= 0).sum()) / count, 1 - (1 + (draws >= 0).sum()) / count])
    shares = ndtri(np.clip(shares, 1 / count, 1 - 1 / count)) - bias
    left, right = ndtr(shares / (1 + acceleration * shares) - bias)
    return float(min(1, 2 * min(left, 1 - right)))
