"""Are both modalities used, and do they interact? From `joint`, the logits of every text i with every picture j.

- EMAP: Hessel & Lee, Does My Multimodal Model Learn Cross-modal Interactions?, 2020: https://arxiv.org/abs/2010.06572
- perceptual score: Gat, Schwartz & Schwing, Perceptual Score: What Data Modalities Does Your Model Perceive?, 2021:
  https://arxiv.org/abs/2110.14375
"""

import numpy as np
import pandas as pd
from scipy.special import softmax

from mmutils.statistics.bootstrap import bootstrap_interval, paired_difference

SHUFFLES = 10  # of each seed's examples


def emap(joint: np.ndarray) -> np.ndarray:
    """Empirical multimodally-additive projection: (N, N, K) -> (N, K), the best additive approximation of the logits.

    Entry i is mean_j joint[i, j] + mean_j joint[j, i] - mean_jk joint[j, k]. It equals the diagonal where
    joint[i, j] = f(text i) + g(picture j).
    """
    joint = np.asarray(joint, np.float64)
    text, picture = joint.mean(axis=1), joint.mean(axis=0)  # (N, K)
    return text + picture - text.mean(axis=0)


def modality_use(
    joint: np.ndarray, examples: pd.DataFrame, score: str = "accuracy", *, resamples: int = 10_000
) -> pd.DataFrame:
    """What is left of a model without interaction, or without one modality.

    Args:
        joint: (S, N, N, K), for each seed the logits of text i with picture j.
        examples: N rows with id, group, label.

    Returns:
        Rows "full"; "additive" (EMAP); "picture shuffled", "text shuffled" (the perceptual score is minus their
        change); "picture averaged out", "text averaged out" (mean of the logits over the other modality, as if it were
        missing). Columns model, score, low, high, and change, change_low, change_high, p_value against "full".
    """
    if joint.ndim != 4 or joint.shape[1:3] != (len(examples),) * 2:
        raise ValueError(f"joint logits of {len(examples)} examples must be (S, N, N, K), got {joint.shape}")
    own, permute = np.arange(len(examples)), np.random.default_rng(0).permutation
    logits = {
        "full": joint[:, own, own],
        "additive": np.stack([emap(pairs) for pairs in joint]),
        "picture shuffled": np.stack([pairs[own, permute(own)] for pairs in joint for _ in range(SHUFFLES)]),
        "text shuffled": np.stack([pairs[permute(own), own] for pairs in joint for _ in range(SHUFFLES)]),
        "picture averaged out": joint.mean(axis=2),
        "text averaged out": joint.mean(axis=1),
    }
    models = {name: to_predictions(examples, values) for name, values in logits.items()}
    rows = []
    for name, model in models.items():
        value = bootstrap_interval(model, score, resamples=resamples)
        change = paired_difference(model, models["full"], score, resamples=resamples)
        changes = (change.estimate, change.low, change.high, change.p_value)
        rows.append((name, value.estimate, value.low, value.high, *changes))
    columns = ["model", "score", "low", "high", "change", "change_low", "change_high", "p_value"]
    return pd.DataFrame(rows, columns=columns)


def to_predictions(examples: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
    """Predictions from logits (S, N, K), for seeds 0..S-1, of N examples with columns id, group, label."""
    logits = np.asarray(logits, np.float64)
    seeds, count, classes = logits.shape
    rows = pd.concat([examples[["id", "group", "label"]]] * seeds, ignore_index=True)
    rows.insert(0, "seed", np.repeat(np.arange(seeds), count))
    probabilities = softmax(logits, axis=2).reshape(-1, classes)
    return rows.assign(**{f"p_{k}": probabilities[:, k] for k in range(classes)})
