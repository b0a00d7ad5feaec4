"""Scores of predictions by scikit-learn: accuracy, AUROC, precision, recall and F1."""

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, roc_auc_score

from mmutils.statistics.panel import check_probabilities, panel, probability_columns


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
    for average in ("macro", "weighted"):
        values = precision_recall_fscore_support(labels, chosen, average=average, zero_division=0)
        names = (f"precision_{average}", f"recall_{average}", f"f1_{average}")
        result |= dict(zip(names, map(float, values[:3]), strict=True))
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    truths = {k: labels == k for k in classes if 0 < (labels == k).sum() < len(labels)}
    areas = [roc_auc_score(truth, probabilities[:, k].astype(np.float64)) for k, truth in truths.items()]
    return result | {"auroc": float(np.mean(areas)) if areas else float("nan")}


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
