"""Scores of parts of a split (a class, an event, a language), and what one gets without looking at the examples.

A small slice has a wide interval, which is why each row of a table has one.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from mmutils.statistics.bootstrap import Interval, bootstrap_interval, estimate
from mmutils.statistics.panel import panel


def score_by_slice(
    predictions: pd.DataFrame,
    column: str | Mapping | pd.Series,
    score: str | Callable = "accuracy",
    *,
    small: int = 30,
    **options,
) -> pd.DataFrame:
    """Table of one score with interval for each slice of the examples, largest slice first.

    column: a column of predictions, or a mapping from id to slice (a Series by id). Accuracy by "label" is each class's
    recall. options: as in `bootstrap_interval`. Columns: slice, examples, groups, score, low, high, small (fewer than
    `small` groups: read with care). A slice of one group has no interval, one of one class no auroc: NaN.
    ValueError: no such column, ids that the mapping lacks, or as `bootstrap_interval`.
    """
    rows = []
    for name, part in predictions.groupby(_slices(predictions, column).to_numpy(), sort=True):
        examples, groups = part["id"].nunique(), part["group"].nunique()
        value = low = high = float("nan")
        if score != "auroc" or len(part["label"].unique()) > 1:
            value = estimate(part, score)
            if groups > 1:
                interval = bootstrap_interval(part, score, **options)
                low, high = interval.low, interval.high
        rows.append([name, examples, groups, value, low, high, groups < small])
    table = pd.DataFrame(rows, columns=["slice", "examples", "groups", "score", "low", "high", "small"])
    return table.sort_values("examples", ascending=False, kind="stable", ignore_index=True)


def _slices(predictions: pd.DataFrame, column: str | Mapping | pd.Series) -> pd.Series:
    if isinstance(column, str):
        if column not in predictions:
            raise ValueError(f"no column {column!r} to slice by; there are {list(predictions.columns)}")
        return predictions[column]
    names = predictions["id"].map(dict(column))
    if names.isna().any():
        missing = predictions["id"][names.isna()].unique()
        raise ValueError(f"the mapping has no slice for {len(missing)} ids, such as {missing[0]!r}")
    return names


def chance(predictions: pd.DataFrame) -> dict[str, float]:
    """Scores of always saying the most frequent class of this split: accuracy, f1_macro, f1_weighted, auroc (0.5).

    With a largest class of share p among the K classes that occur: accuracy p, f1_weighted 2 p^2 / (1 + p), f1_macro
    2 p / (1 + p) / K. ValueError: bad predictions.
    """
    system = panel(predictions)
    shares = np.bincount(system.labels) / len(system.labels)
    largest, classes = float(shares.max()), int((shares > 0).sum())
    f1 = 2 * largest / (1 + largest)
    return {"accuracy": largest, "f1_macro": f1 / classes, "f1_weighted": largest * f1, "auroc": 0.5}


def within_chance(interval: Interval, level: float = 0.5) -> bool:
    """Whether an interval holds the chance level (0.5 for auroc, else from `chance`): such a score shows nothing."""
    return level in interval
