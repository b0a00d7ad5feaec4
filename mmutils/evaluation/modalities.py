"""Does a classifier use both modalities? Its logits of every text with every picture, and with noise on one side."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmutils import statistics
from mmutils.batches import Batches
from mmutils.models.classifier import Classifier
from mmutils.models.encoder import Encoded
from mmutils.models.features import join_batches

LEVELS = (0.0, 2.0, 4.0, 8.0, 16.0)  # standard deviations; independent in each dimension, so small noise averages out
ROWS = 64  # examples that are fused at a time


def evenly_spaced(examples: int, most: int) -> list[int]:
    """Rows that stand for all: every one, or `most` evenly spaced ones."""
    return np.linspace(0, examples - 1, min(most, examples)).round().astype(int).tolist()


@torch.inference_mode()
def joint_logits(classifier: Classifier, batches: Batches, most: int = 120) -> np.ndarray:
    """Logits (N, N, K) float32 of text i with picture j, for the rows that `evenly_spaced` gives.

    The diagonal holds the logits of `predict`. The classifier is left in evaluation mode. ValueError for an encoder
    that is no FusedEncoder.
    """
    rows = evenly_spaced(len(batches.examples), most)
    images, texts = (side.map(lambda part: part[rows]) for side in _encoded_sides(classifier, batches))
    logits = []
    for row in range(len(rows)):
        text = Encoded(texts.features[row].expand(len(rows), -1))
        if texts.tokens is not None:  # one text as a batch of itself, without its padding
            text = text._replace(tokens=texts.tokens[row][texts.mask[row]].expand(len(rows), -1, -1))
        logits.append(classifier.head(classifier.encoder.fusion(images, text).float()).cpu())  # (N, K)
    return torch.stack(logits).numpy()


def modality_use(joint: list[np.ndarray], examples: pd.DataFrame, score: str, most: int = 120) -> list[dict]:
    """Rows of `statistics.modality_use` for the record: several seeds' `joint_logits` of all these examples."""
    rows = examples.iloc[evenly_spaced(len(examples), most)].reset_index(drop=True)
    return statistics.modality_use(np.stack(joint), rows, score, resamples=2000).to_dict("records")


@torch.inference_mode()
def noisy_logits(classifier: Classifier, batches: Batches, seed: int = 0) -> dict[tuple[str, float], np.ndarray]:
    """Logits (N, K) float32 by side ("picture" or "text") and level in LEVELS, the other side untouched.

    Level s adds Gaussian noise of s standard deviations of each dimension to the side's features and tokens.
    """
    clean, logits = _encoded_sides(classifier, batches), {}
    for number, side in enumerate(("picture", "text")):
        generator = torch.Generator().manual_seed(seed)
        for level in LEVELS:
            sides, parts = list(clean), []
            sides[number] = _noisy(clean[number], level, generator)
            for start in range(0, len(batches.examples), ROWS):
                own = slice(start, start + ROWS)
                image, text = (encoded.map(lambda part, own=own: part[own]) for encoded in sides)
                parts.append(classifier.head(classifier.encoder.fusion(image, text).float()).cpu())
            logits[side, level] = torch.cat(parts).numpy()
    return logits


def noise_scores(classifiers: list[Classifier], batches: Batches, examples: pd.DataFrame, score: str) -> list[dict]:
    """Rows for the record: side, level, and the score with its interval over examples and the classifiers' seeds."""
    by_seed = [noisy_logits(classifier, batches, seed) for seed, classifier in enumerate(classifiers)]
    rows = []
    for side, level in by_seed[0]:
        predictions = statistics.to_predictions(examples, np.stack([logits[side, level] for logits in by_seed]))
        interval = statistics.bootstrap_interval(predictions, score, resamples=2000)
        estimate = {"score": interval.estimate, "low": interval.low, "high": interval.high}
        rows.append({"side": side, "level": level} | estimate)
    return rows


def _encoded_sides(classifier: Classifier, batches: Batches) -> list[Encoded]:
    """What picture and text encoder give for all examples, on the classifier's device, in evaluation mode."""
    encoder = classifier.encoder
    if not hasattr(encoder, "fusion"):
        raise ValueError(f"a {type(encoder).__name__} has no separate sides: its fusion cannot be fed anything else")
    classifier.eval()
    with batches.on(classifier):
        device = batches.device
        parts = [[side.encode(b).map(Tensor.cpu) for side in (encoder.image, encoder.text)] for b in batches.epoch()]
    joined = (join_batches(side) for side in zip(*parts, strict=True))
    return [side.map(lambda part: (part if part.dtype == torch.bool else part.float()).to(device)) for side in joined]


def _noisy(side: Encoded, level: float, generator: torch.Generator) -> Encoded:
    def add(values: Tensor, deviation: Tensor) -> Tensor:
        return values + level * deviation * torch.randn(values.shape, generator=generator).to(values)

    noisy = Encoded(add(side.features, side.features.std(dim=0)))
    if side.tokens is not None:
        tokens = add(side.tokens, side.tokens[side.mask].std(dim=0))
        noisy = noisy._replace(tokens=tokens * side.mask.unsqueeze(-1), mask=side.mask)
    return noisy
