"""Intervals, tests, calibration, and whether both modalities are used: all from predictions, with numpy and scipy.

Predictions are a DataFrame of one system on one split, with the columns `id`, `group` (rows that belong together, such
as the pictures of one tweet), `label`, `p_0` .. `p_{K-1}` and, where there are several runs of the system, `seed`.
"""

from mmutils.statistics.bootstrap import Interval, bootstrap_interval, estimate, paired_difference
from mmutils.statistics.calibration import apply_temperature, calibration_error, reliability, temperature
from mmutils.statistics.comparisons import Comparison, compare_pairs, holm, paired_scores
from mmutils.statistics.gap import LanguageGap, language_gap
from mmutils.statistics.modality import emap, modality_use, to_predictions
from mmutils.statistics.slices import chance, score_by_slice

__all__ = [
    "Comparison",
    "Interval",
    "LanguageGap",
    "apply_temperature",
    "bootstrap_interval",
    "calibration_error",
    "chance",
    "compare_pairs",
    "emap",
    "estimate",
    "holm",
    "language_gap",
    "modality_use",
    "paired_difference",
    "paired_scores",
    "reliability",
    "score_by_slice",
    "temperature",
    "to_predictions",
]
