"""Noise on what one side of a fused classifier says: how fast its score falls shows how much it leans on that side."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmutils import statistics
from mmutils.batches import Batches
from mmutils.evaluation.joint import encoded_sides
from mmutils.models.classifier import Classifier
from mmutils.models.encoders import Encoded

# Standard deviations; independent in each dimension, so that small noise averages out.
LEVELS = (0.0, 2.0, 4.0, 8.0, 16.0)
ROWS = 64  # examples at a time


@torch.inference_mode()
def noisy_logits(
    classifier: Classifier, batches: Batches, levels: tuple[float, ...] = LEVELS, seed: int = 0
) -> dict[tuple[str, float], np.ndarray]:
    """Logits (N, K) float32 by side ("picture" or "text") and level, the other side untouched; evaluation mode.

    Level s adds Gaussian noise of s standard deviations, those of each dimension over the examples, to the side's
    features and tokens before they are fused. ValueError for an encoder without two sides.
    """
    clean = encoded_sides(classifier, batches)
    found = {}
    for number, side in enumerate(("picture", "text")):
        generator = torch.Generator().manual_seed(seed)
        for level in levels:
            sides = list(clean)
            sides[number] = _noisy(clean[number], level, generator)
            found[side, level] = _fused(classifier, *sides)
    return found


def noise_scores(
    classifiers: list[Classifier], batches: Batches, examples: pd.DataFrame, score: str, levels=LEVELS
) -> list[dict]:
    """Rows for the record: side, level, and the score with its interval over examples and the classifiers' seeds."""
    known = [noisy_logits(classifier, batches, levels, seed) for seed, classifier in enumerate(classifiers)]
    rows = []
    for side, level in known[0]:
        predictions = statistics.to_predictions(examples, np.stack([logits[side, level] for logits in known]))
        found = statistics.bootstrap_interval(predictions, score, resamples=2000)
        rows.append({"side": side, "level": level, "score": found.estimate, "low": found.low, "high": found.high})
    return rows


def _noisy(given: Encoded, level: float, generator: torch.Generator) -> Encoded:
    def add(values: Tensor, spread: Tensor) -> Tensor:
        return values + level * spread * torch.randn(values.shape, generator=generator).to(values)

    features = add(given.features, given.features.std(dim=0))
    if given.tokens is None:
        return Encoded(features)
    tokens = add(given.tokens, given.tokens[given.mask].std(dim=0))
    return Encoded(features, tokens * given.mask.unsqueeze(-1), given.mask)


def _fused(classifier: Classifier, image: Encoded, text: Encoded) -> np.ndarray:
    """Logits (N, K) of picture and text, some rows at a time."""
    logits = []
    for start in range(0, len(text.features), ROWS):
        rows = slice(start, start + ROWS)
        parts = (Encoded(*(None if part is None else part[rows] for part in side)) for side in (image, text))
        logits.append(classifier.head(classifier.encoder.fusion(*parts).float()).cpu())
    return torch.cat(logits).numpy()
