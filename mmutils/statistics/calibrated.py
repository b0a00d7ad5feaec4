"""What calibration error is already good: that of a perfectly calibrated model with the same probabilities."""

import numpy as np
import pandas as pd

from mmutils.statistics.calibration import BINS, binned
from mmutils.statistics.panel import Panel


def calibrated_error(predictions: pd.DataFrame | Panel, draws: int = 200) -> float:
    """The mean calibration error in [0, 1] where predictions are right as often as they say, by simulation.

    It is not 0, as bins hold few examples. The same predictions give the same value. ValueError: as `panel`.
    """
    confidence, _, place = binned(predictions)  # (S, N)
    generator, errors = np.random.default_rng(0), []
    for _ in range(draws):
        gaps = (generator.random(confidence.shape) < confidence) - confidence
        sums = [np.bincount(bins, gap, minlength=BINS) for bins, gap in zip(place, gaps, strict=True)]
        errors.append(np.abs(sums).sum(axis=1).mean() / confidence.shape[1])
    return float(np.mean(errors))
