"""How sure can one be? Intervals, tests, calibration, and whether both modalities are used.

Everything works on the predictions of one system on one split: a DataFrame with the columns `id`, `group`, `label`,
`p_0` .. `p_{K-1}` and, where there are several runs of the system, `seed`. All is numpy, scipy, statsmodels and
scikit-learn; nothing here knows a network. The parts:

- `bootstrap`: `bootstrap_interval`, `paired_difference`, `estimate` for any score;
- `comparisons`: `delong` for AUROC, `mcnemar` for accuracy, `holm` for a family of tests;
- `gap`: `language_gap`, the study's main question;
- `calibration`: `calibration_error`, `brier`, `reliability`, `temperature`, `apply_temperature`;
- `modality`: `emap`, `perceptual_score`, `modality_use`, `to_predictions`;
- `slices`: `score_by_slice`, `chance`, `within_chance`.
"""

from mmutils.statistics.bootstrap import Interval, bootstrap_interval, estimate, paired_difference
from mmutils.statistics.calibration import apply_temperature, brier, calibration_error, reliability, temperature
from mmutils.statistics.comparisons import McNemar, delong, holm, mcnemar
from mmutils.statistics.gap import LanguageGap, language_gap
from mmutils.statistics.modality import PerceptualScore, emap, modality_use, perceptual_score, to_predictions
from mmutils.statistics.slices import chance, score_by_slice, within_chance

__all__ = [
    "Interval",
    "LanguageGap",
    "McNemar",
    "PerceptualScore",
    "apply_temperature",
    "bootstrap_interval",
    "brier",
    "calibration_error",
    "chance",
    "delong",
    "emap",
    "estimate",
    "holm",
    "language_gap",
    "mcnemar",
    "modality_use",
    "paired_difference",
    "perceptual_score",
    "reliability",
    "score_by_slice",
    "temperature",
    "to_predictions",
    "within_chance",
]
