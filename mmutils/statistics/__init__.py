"""Intervals, tests, calibration, and whether both modalities are used: all from predictions, without torch.

Predictions are a DataFrame of one system on one split, with the columns `id`, `group` (rows that belong together, such
as the pictures of one tweet), `label`, `p_0` .. `p_{K-1}` and, where there are several runs of the system, `seed`.
"""

from mmutils.statistics.bootstrap import (
    Comparison,
    Interval,
    bootstrap_interval,
    compare_pairs,
    holm,
    paired_difference,
    paired_scores,
    score_by_slice,
    wilson,
)
from mmutils.statistics.calibration import apply_temperature, calibration_error, reliability, temperature
from mmutils.statistics.gap import LanguageGap, gap_of, language_gap
from mmutils.statistics.modality import emap, modality_use, to_predictions
from mmutils.statistics.scores import best_threshold, chance, estimate
