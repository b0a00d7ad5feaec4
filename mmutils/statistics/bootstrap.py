"""Bootstrap intervals and paired differences for any score, over examples and seeds at once.

Groups of examples and, independently, seeds are drawn with replacement (Owen, The Pigeonhole Bootstrap, 2007:
https://doi.org/10.1214/07-AOAS122), S - 1 of S seeds, which makes the variance between few seeds unbiased. It has S - 1
degrees of freedom, so draws are stretched by the ratio of Student's to the normal quantile (Satterthwaite 1946:
https://doi.org/10.2307/3002019). Intervals are about the expected score of newly trained models on new examples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtri
from scipy.stats import t as student

from mmutils.statistics.panel import Panel, panel, panels
from mmutils.statistics.scores import estimate, weighted_score

LEVEL = 0.95
SIGNIFICANT = 0.05
SMALL = 30  # groups of a slice; with fewer, read its score with care
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


def bootstrap_interval(predictions: pd.DataFrame, score: str = "f1_macro", *, resamples: int = 10_000) -> Interval:
    """Interval of a score: the mean over seeds, resampled over groups and seeds at once.

    ValueError: bad predictions (see `panel`), a bad score (see `weighted_score`), or one group only.
    """
    return Draws([panel(predictions)], score, resamples).interval(lambda means: means[..., 0])


def paired_difference(
    a: pd.DataFrame, b: pd.DataFrame, score: str = "f1_macro", *, resamples: int = 10_000
) -> Interval:
    """Score of a minus score of b on the same drawn examples, with interval and two-sided p-value.

    Equal seeds of a and b are drawn together, others independently. The p-value inverts the interval: p < .05 exactly
    when it leaves 0 out (but for the one added to numerator and denominator), and equal systems have p = 1.
    (Koehn, Statistical Significance Tests for Machine Translation Evaluation, 2004: https://aclanthology.org/W04-3250/)
    ValueError: as `bootstrap_interval`; ids, labels, groups or classes that differ between a and b.
    """
    draws = Draws(panels([a, b]), score, resamples)
    return draws.interval(lambda means: means[..., 0] - means[..., 1], test=True)


class Comparison(NamedTuple):
    """Score of one system minus score of another, and the p-value corrected for all comparisons of its family."""

    difference: Interval
    p_holm: float

    @property
    def verdict(self) -> str:
        """Whether the first system is "better" or "worse" than the second, or the test "inconclusive"."""
        if self.p_holm >= SIGNIFICANT:
            return "inconclusive"
        return "better" if self.difference.estimate > 0 else "worse"


def compare_pairs(pairs: Mapping, score: str = "f1_macro", *, resamples: int = 10_000) -> dict:
    """A Comparison for each pair of predictions, by their keys, corrected by Holm over all of them.

    pairs: key -> (predictions of the first system, of the second). ValueError: as `paired_difference`.
    """
    differences = {key: paired_difference(*pair, score, resamples=resamples) for key, pair in pairs.items()}
    corrected = holm([difference.p_value for difference in differences.values()])
    return {key: Comparison(differences[key], float(p)) for key, p in zip(differences, corrected, strict=True)}


def paired_scores(first: pd.DataFrame, second: pd.DataFrame, scores: Sequence[str], names: Sequence[str]) -> list[dict]:
    """Two systems by several scores: a row each, with the difference, its p-value, and both systems by their names.

    Returns:
        Rows with score, p_value (not corrected), estimate, low, high of first minus second, and <name>_estimate,
        <name>_low, <name>_high of each system. ValueError: as `paired_difference`.
    """
    rows = []
    for score in scores:
        intervals = {"": paired_difference(first, second, score)}
        for name, predictions in zip(names, (first, second), strict=True):
            intervals[f"{name}_"] = bootstrap_interval(predictions, score)
        ends = {f"{name}{end}": getattr(i, end) for name, i in intervals.items() for end in ("estimate", "low", "high")}
        rows.append({"score": score, "p_value": intervals[""].p_value, **ends})
    return rows


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values (M,): reject those below .05, and the chance of any false rejection is below .05.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979: https://www.jstor.org/stable/4615733
    """
    values = np.asarray(p_values, np.float64)  # (M,)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values must be numbers in [0, 1], got {p_values}")
    order, adjusted = values.argsort(), np.empty_like(values)
    adjusted[order] = np.maximum.accumulate(np.arange(len(values), 0, -1) * values[order]).clip(max=1)
    return adjusted


def wilson(share: float | np.ndarray, count: int | np.ndarray) -> tuple:
    """Low and high end of the 95 % interval of a share of `count` independent examples.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927:
    https://doi.org/10.2307/2276774
    """
    z = ndtri((1 + LEVEL) / 2) ** 2 / count
    half = np.sqrt(z * (share * (1 - share) + z / 4))
    return (share + z / 2 - half) / (1 + z), (share + z / 2 + half) / (1 + z)


def score_by_slice(predictions: pd.DataFrame, slices: pd.Series, *, resamples: int = 10_000) -> pd.DataFrame:
    """Accuracy with its interval for each slice of the examples; largest slice first.

    Args:
        slices: the slice of each example; its index is the id. ValueError for an id without one.

    Returns:
        Columns slice, examples, groups, score, low, high (NaN for a slice of one group), small (under SMALL groups).
    """
    names = predictions["id"].map(slices)
    if names.isna().any():
        missing = predictions["id"][names.isna()].unique()
        raise ValueError(f"there is no slice for {len(missing)} ids, such as {missing[0]!r}")
    rows = []
    for name, part in predictions.groupby(names.to_numpy(), sort=True):
        groups, low, high = part["group"].nunique(), float("nan"), float("nan")
        if groups > 1:
            interval = bootstrap_interval(part, "accuracy", resamples=resamples)
            low, high = interval.low, interval.high
        rows.append([name, part["id"].nunique(), groups, estimate(part, "accuracy"), low, high, groups < SMALL])
    table = pd.DataFrame(rows, columns=["slice", "examples", "groups", "score", "low", "high", "small"])
    return table.sort_values("examples", ascending=False, kind="stable", ignore_index=True)


class Draws:
    """Mean scores of M systems under the same R resamples: `means` (M,), `draws` (R, M); `of_seeds` of seeds alone."""

    def __init__(self, systems: list[Panel], score: str, resamples: int):
        if resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {resamples}")
        self.systems, self.groups = systems, len(systems[0].group_names)
        if self.groups < 2:
            raise ValueError("all examples belong to one group: there is nothing to resample")
        functions = self.functions = [weighted_score(system, score) for system in systems]
        full = [function(np.ones((1, self.groups))) for function in functions]  # M times (1, S)
        self.means, self.largest = np.array([values.mean() for values in full]), 2 if score == "brier" else 1
        generator, chunk, both, alone = np.random.default_rng(0), max(1, _CELLS // self.groups), [], []
        for start in range(0, resamples, chunk):
            count = min(chunk, resamples - start)
            weights = np.asfortranarray(_multiplicities(count, self.groups, self.groups, generator))  # (R, G)
            drawn = {  # systems with the same seeds share their draw
                seeds: _multiplicities(count, max(1, len(seeds) - 1), len(seeds), generator)  # (R, S)
                for seeds in dict.fromkeys(system.seeds for system in systems)
            }
            counts = [drawn[system.seeds] for system in systems]
            both.append(_seed_means([function(weights) for function in functions], counts))
            alone.append(_seed_means(full, counts))
        draws, self.of_seeds = np.concatenate(both), np.concatenate(alone)
        self.draws = draws[~np.isnan(draws).any(axis=1)]
        if not len(self.draws):
            raise ValueError(f"{score} is not defined in any of {resamples} resamples: too few groups of a class")

    def interval(self, statistic: Callable[[np.ndarray], np.ndarray], test: bool = False) -> Interval:
        """Interval, with `test` a p-value too, of a statistic of the means: an array function (..., M) -> (...)."""
        counts = [len(system.seeds) for system in self.systems]
        several = min((count for count in counts if count > 1), default=1)
        between, total = (_variance(statistic(draws)) for draws in (self.of_seeds, self.draws))
        freedom = (several - 1) * (total / between) ** 2 if several > 1 and between > 0 else np.inf
        stretch = student.ppf(0.975, freedom) / ndtri(0.975)  # 1 where seeds do not matter
        means = np.clip(self.means + stretch * (self.draws - self.means), 0, self.largest)
        draws, p_value = statistic(means), None
        low, high = np.quantile(draws, (0.025, 0.975), method="nearest")  # a LEVEL interval
        if test:
            count = len(draws) + 1
            tail = (1 + min((draws <= 0).sum(), (draws >= 0).sum())) / count
            p_value = float(min(1, 2 * student.cdf(stretch * ndtri(tail), freedom)))
        return Interval(float(statistic(self.means)), float(low), float(high), self.groups, min(counts), p_value)


def _seed_means(scores: Sequence[np.ndarray], counts: Sequence[np.ndarray]) -> np.ndarray:
    """Means (R, M) over drawn seeds; M times scores (R, S) and how often each seed was drawn (R, S)."""
    means = [(values * drawn).sum(axis=1) / drawn.sum(axis=1) for values, drawn in zip(scores, counts, strict=True)]
    return np.stack(means, axis=1)


def _variance(values: np.ndarray) -> float:
    """Of the finite ones: a share of a gap is infinite where a draw has no gap."""
    finite = values[np.isfinite(values)]
    return finite.var() if len(finite) else 0.0


def _multiplicities(count: int, drawn: int, units: int, generator: np.random.Generator) -> np.ndarray:
    """How often each unit comes up in `drawn` draws with replacement: (count, units) float32, rows sum to `drawn`."""
    cells = generator.integers(0, units, (count, drawn), dtype=np.int32)
    cells += np.arange(count, dtype=np.int32)[:, None] * np.int32(units)
    return np.bincount(cells.ravel(), minlength=count * units).reshape(count, units).astype(np.float32)
