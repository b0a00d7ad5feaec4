"""Logits of every text with every picture, from which `mmutils.statistics` tells whether both are used."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmutils import statistics
from mmutils.batches import Batches
from mmutils.models.classifier import Classifier
from mmutils.models.encoder import Encoded
from mmutils.models.features import joined_tokens, to_cpu


def evenly_spaced(examples: int, most: int) -> list[int]:
    """Rows that stand for all: every one, or `most` evenly spaced ones."""
    return np.linspace(0, examples - 1, min(most, examples)).round().astype(int).tolist()


@torch.inference_mode()
def joint_logits(classifier: Classifier, batches: Batches, most: int = 120) -> np.ndarray:
    """Logits (N, N, K) float32 of text i with picture j, for the rows that `picked` gives; evaluation mode.

    The classifier's encoder is a FusedEncoder: each side is encoded once per example, the fusion sees all pairs. The
    diagonal holds the logits of `predict`. ValueError for an encoder without two sides.
    """
    images, texts = encoded_sides(classifier, batches, evenly_spaced(len(batches.examples), most))
    logits = []
    for row in range(len(texts.features)):
        text = _repeated(texts, row, len(images.features))
        logits.append(classifier.head(classifier.encoder.fusion(images, text).float()).cpu())  # (N, K)
    return torch.stack(logits).numpy()


@torch.inference_mode()
def encoded_sides(classifier: Classifier, batches: Batches, rows: list[int] | None = None) -> tuple[Encoded, Encoded]:
    """What picture and text encoder say of those rows (default: all), on the classifier's device; evaluation mode.

    ValueError for an encoder without two sides.
    """
    encoder = classifier.encoder
    if not hasattr(encoder, "fusion"):
        raise ValueError(f"a {type(encoder).__name__} has no separate sides: its fusion cannot be fed anything else")
    classifier.eval()
    sides = (encoder.image, encoder.text)
    with batches.on(classifier):
        device = batches.device
        seen = [[to_cpu(side.encode(batch), True) for side in sides] for batch in batches.epoch()]
    wanted = torch.tensor(rows if rows is not None else range(len(batches.examples)))
    images, texts = (_rows([pair[side] for pair in seen], wanted, device) for side in (0, 1))
    return images, texts


def modality_use(joint: list[np.ndarray], examples: pd.DataFrame, score: str, most: int = 120) -> list[dict]:
    """Rows of `statistics.modality_use` for the record: several seeds' `joint_logits` of all these examples."""
    rows = examples.iloc[evenly_spaced(len(examples), most)].reset_index(drop=True)
    return statistics.modality_use(np.stack(joint), rows, score, resamples=2000).to_dict("records")


def _repeated(texts: Encoded, row: int, times: int) -> Encoded:
    """One text as a batch of itself, without its padding."""
    features = texts.features[row].expand(times, -1)
    if texts.tokens is None:
        return Encoded(features)
    tokens = texts.tokens[row][texts.mask[row]].expand(times, -1, -1)  # (times, real tokens, D)
    return Encoded(features, tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool))


def _rows(parts: list[Encoded], rows: Tensor, device: torch.device) -> Encoded:
    """Those rows of consecutive batches, on the device."""
    features = torch.cat([part.features for part in parts])[rows].to(device)
    if parts[0].tokens is None:
        return Encoded(features)
    found = joined_tokens([part.tokens for part in parts], [part.mask for part in parts])
    return Encoded(features, found["tokens"][rows].float().to(device), found["mask"][rows].to(device))


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
