"""Bootstrap intervals and paired differences for any score, over examples and seeds at once.

- Efron & Tibshirani, An Introduction to the Bootstrap, 1993: https://doi.org/10.1201/9780429246593
- Koehn, Statistical Significance Tests for Machine Translation Evaluation, 2004 (paired, any score):
  https://aclanthology.org/W04-3250/
- Owen, The Pigeonhole Bootstrap, 2007 (two crossed factors): https://doi.org/10.1214/07-AOAS122

Groups of examples and, independently, seeds are drawn with replacement. Of S seeds S - 1 are drawn, which makes the
variance between few seeds unbiased. So the interval is about the expected score of newly trained models on new
examples. Two crossed draws count part of the variance up to three times: intervals are too wide rather than too short.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from mmutils.statistics.panel import Panel, panel, panels
from mmutils.statistics.weighted import weighted_score

LEVEL = 0.95
ENDS = (0.025, 0.975)  # quantiles of a LEVEL interval
_CELLS = 2**20  # weights held at once: 4 MB, which stays in the processor's cache


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % confidence interval; `value in interval` says whether it holds a value."""

    estimate: float
    low: float
    high: float
    groups: int  # independent units of the split
    seeds: int
    p_value: float | None = None  # two-sided, against 0; None for a score

    def __contains__(self, value: float) -> bool:
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def estimate(predictions: pd.DataFrame, score: str = "f1_macro") -> float:
    """The score of predictions, computed on each seed and averaged. ValueError: as `bootstrap_interval`."""
    system = panel(predictions)
    return float(_means([system], [weighted_score(system, score)], score)[0])


def bootstrap_interval(predictions: pd.DataFrame, score: str = "f1_macro", *, resamples: int = 10_000) -> Interval:
    """Percentile interval of a score: the mean over seeds, resampled over groups and seeds at once.

    Args:
        score: "accuracy", "f1_macro", "f1_weighted", "auroc" or "brier".

    Raises:
        ValueError: bad predictions (see `panel`), an unknown score, one group only, or a score that is not defined on
            these examples (auroc where all labels are equal).
    """
    return Draws([panel(predictions)], score, resamples).interval(lambda means: means[..., 0])


def paired_difference(
    a: pd.DataFrame, b: pd.DataFrame, score: str = "f1_macro", *, resamples: int = 10_000
) -> Interval:
    """Score of a minus score of b on the same examples, with interval and two-sided p-value.

    Both systems are scored on the same drawn examples. Where they have the same seeds, these are drawn together;
    otherwise each system's seeds are drawn independently. The p-value inverts the interval: twice the share of
    resamples beyond 0, (1 + count) / (1 + resamples), on the side where it is smaller, at most 1. So p < .05 exactly
    when the interval leaves 0 out (up to the added one), and equal systems have p = 1.

    Raises:
        ValueError: as `bootstrap_interval`; ids, labels, groups or classes that differ between a and b.
    """
    draws = Draws(panels([a, b]), score, resamples)
    return draws.interval(lambda means: means[..., 0] - means[..., 1], test=True)


class Draws:
    """Mean scores of M systems under the same R resamples: `means` (M,), `draws` (R, M)."""

    def __init__(self, systems: list[Panel], score: str, resamples: int):
        if resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {resamples}")
        self.systems = systems
        self.groups = len(systems[0].group_names)
        if self.groups < 2:
            raise ValueError("all examples belong to one group: there is nothing to resample")
        self.functions = [weighted_score(system, score) for system in systems]
        self.means = _means(systems, self.functions, score)
        generator = np.random.default_rng(0)
        chunk = max(1, _CELLS // self.groups)
        sizes = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
        draws = np.concatenate([self._chunk(size, generator) for size in sizes])
        self.draws = draws[~np.isnan(draws).any(axis=1)]
        if not len(self.draws):
            raise ValueError(f"{score} is not defined in any of {resamples} resamples: too few groups of a class")

    def interval(self, statistic: Callable[[np.ndarray], np.ndarray], test: bool = False) -> Interval:
        """Interval, with `test` a p-value too, of a statistic of the means: an array function (..., M) -> (...)."""
        draws = statistic(self.draws)
        low, high = np.quantile(draws, ENDS, method="nearest")
        seeds = min(len(system.seeds) for system in self.systems)
        p_value = _p_value(draws) if test else None
        return Interval(float(statistic(self.means)), float(low), float(high), self.groups, seeds, p_value)

    def _chunk(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Mean scores (count, M) under as many resamples."""
        weights = _multiplicities(count, self.groups, self.groups, generator)  # (R, G)
        drawn = {}  # systems with the same seeds share their draw
        for system in self.systems:
            seeds = len(system.seeds)
            if system.seeds not in drawn:
                drawn[system.seeds] = _multiplicities(count, max(1, seeds - 1), seeds, generator)  # (R, S)
        scores = [function(weights) for function in self.functions]  # M times (R, S)
        chosen = [drawn[system.seeds] for system in self.systems]
        return np.stack([(s * v).sum(axis=1) / v.sum(axis=1) for s, v in zip(scores, chosen, strict=True)], axis=1)


def _means(systems: list[Panel], functions: list[Callable], score: str) -> np.ndarray:
    """Score of each system on all examples, averaged over its seeds: (M,)."""
    means = np.array([function(np.ones((1, len(systems[0].group_names)))).mean() for function in functions])
    if np.isnan(means).any():
        raise ValueError(f"{score} is not defined on these examples, whose labels are {np.unique(systems[0].labels)}")
    return means


def _multiplicities(count: int, drawn: int, units: int, generator: np.random.Generator) -> np.ndarray:
    """How often each unit comes up in `drawn` draws with replacement: (count, units) float32, rows sum to `drawn`."""
    cells = generator.integers(0, units, (count, drawn), dtype=np.int32)
    cells += np.arange(count, dtype=np.int32)[:, None] * np.int32(units)
    return np.bincount(cells.ravel(), minlength=count * units).reshape(count, units).astype(np.float32)


def _p_value(draws: np.ndarray) -> float:
    count = len(draws) + 1
    shares = np.array([(1 + (draws <= 0).sum()) / count, 1 - (1 + (draws >= 0).sum()) / count])
    left, right = ndtr(ndtri(np.clip(shares, 1 / count, 1 - 1 / count)))  # keeps the last digit of recorded p-values
    return float(min(1, 2 * min(left, 1 - right)))
