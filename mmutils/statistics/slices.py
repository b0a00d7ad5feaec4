"""Scores of parts of a split (a class, an event, a language), and what one gets without looking at the examples."""

import numpy as np
import pandas as pd

from mmutils.statistics.bootstrap import bootstrap_interval, estimate
from mmutils.statistics.panel import panel

SMALL = 30  # groups of a slice; with fewer, read its score with care


def score_by_slice(
    predictions: pd.DataFrame, column: str | pd.Series, score: str = "accuracy", *, resamples: int = 10_000
) -> pd.DataFrame:
    """Table of one score with interval for each slice of the examples, largest slice first.

    Args:
        column: a column of predictions, or slices by id. Accuracy by "label" is each class's recall.

    Returns:
        Columns slice, examples, groups, score, low, high, small (fewer than SMALL groups). A slice of one group has no
        interval, one of one class no auroc: NaN.

    Raises:
        ValueError: no such column, ids without a slice, or as `bootstrap_interval`.
    """
    rows = []
    for name, part in predictions.groupby(_slices(predictions, column).to_numpy(), sort=True):
        examples, groups = part["id"].nunique(), part["group"].nunique()
        value = low = high = float("nan")
        if score != "auroc" or len(part["label"].unique()) > 1:
            value = estimate(part, score)
            if groups > 1:
                interval = bootstrap_interval(part, score, resamples=resamples)
                low, high = interval.low, interval.high
        rows.append([name, examples, groups, value, low, high, groups < SMALL])
    table = pd.DataFrame(rows, columns=["slice", "examples", "groups", "score", "low", "high", "small"])
    return table.sort_values("examples", ascending=False, kind="stable", ignore_index=True)


def _slices(predictions: pd.DataFrame, column: str | pd.Series) -> pd.Series:
    if isinstance(column, str):
        if column not in predictions:
            raise ValueError(f"no column {column!r} to slice by; there are {list(predictions.columns)}")
        return predictions[column]
    names = predictions["id"].map(column)
    if names.isna().any():
        missing = predictions["id"][names.isna()].unique()
        raise ValueError(f"there is no slice for {len(missing)} ids, such as {missing[0]!r}")
    return names


def chance(predictions: pd.DataFrame) -> dict[str, float]:
    """Accuracy, f1_macro and auroc of always saying the most frequent class of this split.

    With a largest class of share p among the K classes that occur: accuracy p, f1_macro 2 p / (1 + p) / K; auroc .5.
    """
    system = panel(predictions)
    shares = np.bincount(system.labels) / len(system.labels)
    largest, classes = float(shares.max()), int((shares > 0).sum())
    return {"accuracy": largest, "f1_macro": 2 * largest / (1 + largest) / classes, "auroc": 0.5}
