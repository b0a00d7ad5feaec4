"""Are both modalities used, and do they interact? From the logits of every text with every picture.

- EMAP: Hessel & Lee, Does My Multimodal Model Learn Cross-modal Interactions?, 2020: https://arxiv.org/abs/2010.06572
- perceptual score: Gat, Schwartz & Schwing, Perceptual Score: What Data Modalities Does Your Model Perceive?, 2021:
  https://arxiv.org/abs/2110.14375

Everything starts from `joint` (N, N, K): joint[i, j] are the logits of text i with picture j of the same split, so that
its diagonal is the model itself. From it come the best additive approximation (what is left of the model when text and
picture cannot interact), the model with one modality shuffled over the examples, and the model with one modality
averaged out. On cached features N^2 passes through a small head take seconds; take a part of a large split.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import softmax

from mmutils.statistics.bootstrap import bootstrap_interval, estimate, paired_difference


def emap(joint: np.ndarray | Iterable[np.ndarray]) -> np.ndarray:
    """Empirical multimodally-additive projection: (N, N, K) -> (N, K), the best additive approximation of the logits.

    Entry i is mean_j joint[i, j] + mean_j joint[j, i] - mean_jk joint[j, k]. It equals the diagonal where
    joint[i, j] = f(text i) + g(picture j). Where (N, N, K) does not fit in memory give an iterable of blocks (n, N, K)
    of consecutive texts. ValueError: not square, or NaN.
    """
    blocks = [joint] if isinstance(joint, np.ndarray) else joint
    texts, pictures = [], 0.0
    for block in blocks:
        block = np.asarray(block, np.float64)
        if block.ndim != 3 or not np.isfinite(block).all():
            raise ValueError(f"joint logits must be finite and (texts, pictures, classes), got shape {block.shape}")
        texts.append(block.mean(axis=1))  # (n, K)
        pictures = pictures + block.sum(axis=0)  # (N, K)
    text = np.concatenate(texts)  # (N, K)
    if text.shape != pictures.shape:
        raise ValueError(f"joint logits must hold each of N texts with N pictures: {len(text)} and {len(pictures)}")
    return text + pictures / len(text) - text.mean(axis=0)


@dataclass(frozen=True)
class PerceptualScore:
    """What a model loses when one modality is taken from another example."""

    full: float  # the score
    permuted: float  # mean over permutations
    standard_deviation: float  # over permutations
    drop: float  # full - permuted: the perceptual score
    relative: float  # drop / full
    p_value: float  # share of permutations that reach the full score, with one added: is the modality used at all?


def perceptual_score(
    joint: np.ndarray, labels, modality: str, score="accuracy", *, permutations: int = 100, seed: int = 0
) -> PerceptualScore:
    """Loss of score when one modality is permuted over the examples; 0 for a model that ignores the modality.

    joint (N, N, K) logits of text i with picture j; labels (N,); modality "image" takes joint[i, permutation[i]],
    "text" joint[permutation[i], i]. score: as in `bootstrap_interval`, more is better. For the accuracy the mean over
    all permutations is the mean over all pairs of whether joint[i, j] is right about example i.
    ValueError: unknown modality, wrong shapes, fewer than one permutation.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    joint, labels = _square(joint), np.asarray(labels)
    examples = pd.DataFrame({"id": np.arange(len(joint)).astype(str), "group": "", "label": labels})
    full = estimate(to_predictions(examples, _diagonal(joint)), score)
    order = np.random.default_rng(seed)
    values = np.array(
        [estimate(to_predictions(examples, _permuted(joint, modality, order)), score) for _ in range(permutations)]
    )
    p_value = (1 + (values >= full - 1e-12).sum()) / (1 + permutations)
    permuted, drop = float(values.mean()), float(full - values.mean())
    relative = drop / full if full else float("nan")
    return PerceptualScore(full, permuted, float(values.std()), drop, relative, float(p_value))


def modality_use(
    joint: np.ndarray, examples: pd.DataFrame, score="accuracy", *, permutations: int = 10, **options
) -> pd.DataFrame:
    """What is left of a model without interaction, or without one modality: a table with intervals.

    joint (N, N, K), or (S, N, N, K) for seeds: logits of text i with picture j; examples: N rows with id, group, label;
    options: as in `bootstrap_interval`. Rows: "full"; "additive" (EMAP); "picture shuffled", "text shuffled" (the
    perceptual score is minus their change); "picture averaged out", "text averaged out" (mean of the logits over the
    other modality, so the model with that modality missing). Columns: model, score, low, high, and change, change_low,
    change_high, p_value of the paired difference from "full". ValueError: as `perceptual_score` and
    `bootstrap_interval`.
    """
    joint = np.asarray(joint)
    seeds = [_square(one) for one in (joint[None] if joint.ndim == 3 else joint)]
    order = np.random.default_rng(options.get("seed", 0))
    shuffled = {
        name: [_permuted(one, name, order) for one in seeds for _ in range(permutations)] for name in ("image", "text")
    }
    logits = {
        "full": np.stack([_diagonal(one) for one in seeds]),
        "additive": np.stack([emap(one) for one in seeds]),
        "picture shuffled": np.stack(shuffled["image"]),
        "text shuffled": np.stack(shuffled["text"]),
        "picture averaged out": np.stack([one.mean(axis=1) for one in seeds]),
        "text averaged out": np.stack([one.mean(axis=0) for one in seeds]),
    }
    models = {name: to_predictions(examples, values) for name, values in logits.items()}
    rows = []
    for name, model in models.items():
        own = bootstrap_interval(model, score, **options)
        change = paired_difference(model, models["full"], score, **options)
        rows.append([name, own.estimate, own.low, own.high, change.estimate, change.low, change.high, change.p_value])
    columns = ["model", "score", "low", "high", "change", "change_low", "change_high", "p_value"]
    return pd.DataFrame(rows, columns=columns)


def to_predictions(examples: pd.DataFrame, logits: np.ndarray) -> pd.DataFrame:
    """Predictions from logits (N, K), or (S, N, K) for seeds 0..S-1, of N examples with columns id, group, label.

    ValueError: another number of rows.
    """
    logits = np.asarray(logits, np.float64)
    logits = logits[None] if logits.ndim == 2 else logits  # (S, N, K)
    if logits.ndim != 3 or logits.shape[1] != len(examples):
        raise ValueError(f"{len(examples)} examples need logits (N, K) or (S, N, K), got {logits.shape}")
    seeds, count, classes = logits.shape
    rows = pd.concat([examples[["id", "group", "label"]]] * seeds, ignore_index=True)
    rows.insert(0, "seed", np.repeat(np.arange(seeds), count))
    probabilities = softmax(logits, axis=2).reshape(-1, classes)
    return rows.assign(**{f"p_{number}": probabilities[:, number] for number in range(classes)})


def _square(joint: np.ndarray) -> np.ndarray:
    joint = np.asarray(joint)
    if joint.ndim != 3 or joint.shape[0] != joint.shape[1]:
        raise ValueError(f"joint logits must be (N, N, K), got {joint.shape}")
    return joint


def _diagonal(joint: np.ndarray) -> np.ndarray:
    return joint[np.arange(len(joint)), np.arange(len(joint))]  # (N, K)


def _permuted(joint: np.ndarray, modality: str, order: np.random.Generator) -> np.ndarray:
    own, other = np.arange(len(joint)), order.permutation(len(joint))
    if modality == "image":
        return joint[own, other]  # (N, K)
    if modality == "text":
        return joint[other, own]
    raise ValueError(f"unknown modality {modality!r}: give 'text' or 'image'")
