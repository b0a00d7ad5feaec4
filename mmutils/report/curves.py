"""What another threshold than 0.5 would bring: ROC and precision-recall curves."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

from mmutils.report import plots


def threshold_curves(predictions: pd.DataFrame, classes: Sequence[str]) -> Figure:
    """ROC and precision-recall curves of one system, all seeds together; of two classes those of the second."""
    figure, (roc, precision) = plots.new_figure(7.2, 3.4, ncols=2)
    for number in range(len(classes) == 2, len(classes)):
        truth, score = predictions["label"] == number, predictions[f"p_{number}"]
        RocCurveDisplay.from_predictions(truth, score, name=classes[number], ax=roc)
        PrecisionRecallDisplay.from_predictions(truth, score, name=classes[number], ax=precision)
    labels = (("false positive rate", "true positive rate", "lower right"), ("recall", "precision", "lower left"))
    for axis, (xlabel, ylabel, place) in zip((roc, precision), labels, strict=True):
        axis.set(xlim=(0, 1.01), ylim=(0, 1.01), xlabel=xlabel, ylabel=ylabel)
        axis.legend(fontsize="small", loc=place)
    return figure
