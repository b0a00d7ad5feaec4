"""Several paired comparisons as one family of tests, with Holm's correction.

Holm, A Simple Sequentially Rejective Multiple Test Procedure, 1979: https://www.jstor.org/stable/4615733
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from mmutils.statistics.bootstrap import Interval, bootstrap_interval, paired_difference

Key = TypeVar("Key", bound=Hashable)
SIGNIFICANT = 0.05


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


def compare_pairs(
    pairs: Mapping[Key, tuple[pd.DataFrame, pd.DataFrame]], score: str = "f1_macro", **options
) -> dict[Key, Comparison]:
    """The paired difference of each pair of predictions, with Holm's correction over all of them.

    Args:
        pairs: predictions of two systems on the same examples, by any name.
        options: as in `paired_difference`.
    """
    differences = {key: paired_difference(*pair, score, **options) for key, pair in pairs.items()}
    corrected = holm([difference.p_value for difference in differences.values()])
    return {key: Comparison(differences[key], float(p)) for key, p in zip(differences, corrected, strict=True)}


def paired_scores(
    first: pd.DataFrame, second: pd.DataFrame, scores: Sequence[str], names: tuple[str, str]
) -> list[dict]:
    """Two systems by several scores: a row for each score, with the difference, and both systems by their names.

    Returns:
        Rows with score, estimate, low, high and p_value of the difference, and <name>_estimate, _low and _high.
    """
    rows = []
    for score in scores:
        difference = paired_difference(first, second, score)
        intervals = {"": difference}
        for name, predictions in zip(names, (first, second), strict=True):
            intervals[f"{name}_"] = bootstrap_interval(predictions, score)
        ends = {f"{name}{end}": getattr(i, end) for name, i in intervals.items() for end in ("estimate", "low", "high")}
        rows.append({"score": score, "p_value": difference.p_value, **ends})
    return rows


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values: reject those below .05, and the chance of any false rejection is below .05.

    Raises:
        ValueError: NaN, or outside [0, 1].
    """
    values = np.asarray(p_values, np.float64)  # (M,)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"p-values must be numbers in [0, 1], got {p_values}")
    return multipletests(values, method="holm")[1] if len(values) else values
