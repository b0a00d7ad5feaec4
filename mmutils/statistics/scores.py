"""Scores of predictions: accuracy, AUROC, precision, recall and F1; from all predictions of a split at once."""

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, roc_auc_score


def probability_columns(predictions: pd.DataFrame) -> list[str]:
    """Names p_0 .. p_{K-1} of the probability columns; ValueError when they are missing or have a gap."""
    found = [name for name in predictions.columns if name.startswith("p_") and name[2:].isdecimal()]
    wanted = [f"p_{k}" for k in range(len(found))]
    if len(found) < 2 or sorted(found) != sorted(wanted):
        raise ValueError(f"predictions need columns p_0 .. p_K-1, two or more; given: {list(predictions.columns)}")
    return wanted


def scores(predictions: pd.DataFrame) -> dict[str, float]:
    """Scores in [0, 1] from all predictions of one split: accuracy, auroc; precision, recall, f1, macro and weighted.

    Macro is the mean over the classes that occur among labels or predictions; a class never predicted has precision 0.
    auroc is that of p_1 for two classes, else the mean of one class against the rest, over the classes that have both
    kinds of rows; nan when none has. ValueError: no rows, unknown labels (-1), decisions in place of probabilities.
    """
    probabilities = predictions[probability_columns(predictions)].to_numpy()  # (N, K)
    labels = predictions["label"].to_numpy()  # (N,)
    _check(labels, probabilities)
    chosen = probabilities.argmax(axis=1)
    result = {"accuracy": float(accuracy_score(labels, chosen))}
    for average in ("macro", "weighted"):
        values = precision_recall_fscore_support(labels, chosen, average=average, zero_division=0)
        names = (f"precision_{average}", f"recall_{average}", f"f1_{average}")
        result |= dict(zip(names, map(float, values[:3]), strict=True))
    return result | {"auroc": _auroc(labels, probabilities.astype(np.float64))}


def _check(labels: np.ndarray, probabilities: np.ndarray) -> None:
    classes = probabilities.shape[1]
    if not len(labels):
        raise ValueError("no predictions to score: the split is empty")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels must lie in 0..{classes - 1}, given {labels.min()}..{labels.max()}; "
            "-1 means unknown: leave such rows out"
        )
    if probabilities.dtype.kind in "biu":
        raise ValueError("the probabilities are integers: decisions; AUROC needs the softmax, not the argmax")
    if not np.isfinite(probabilities.astype(np.float64)).all():
        raise ValueError("probabilities hold nan or infinity: the classifier diverged; lower the learning rate")
    if (probabilities < 0).any() or np.abs(probabilities.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("each row of p_0 .. p_K-1 must be at least 0 and sum to 1; apply a softmax to the logits")


def _auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    truths = {k: labels == k for k in classes}
    areas = [roc_auc_score(truth, probabilities[:, k]) for k, truth in truths.items() if 0 < truth.sum() < len(truth)]
    return float(np.mean(areas)) if areas else float("nan")
