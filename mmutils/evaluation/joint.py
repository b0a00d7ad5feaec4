"""Logits of every text with every picture, from which `mmutils.statistics` tells whether both are used."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmutils import statistics
from mmutils.batches import Batches
from mmutils.models.classifier import Classifier
from mmutils.models.encoders import Encoded
from mmutils.models.features import joined_tokens, to_cpu


def picked(examples: int, most: int) -> list[int]:
    """Rows that stand for all: every one, or `most` evenly spaced ones."""
    return np.linspace(0, examples - 1, min(most, examples)).round().astype(int).tolist()


@torch.inference_mode()
def joint_logits(classifier: Classifier, batches: Batches, most: int = 120) -> np.ndarray:
    """Logits (N, N, K) float32 of text i with picture j, for the rows that `picked` gives; evaluation mode.

    The classifier's encoder is a FusedEncoder: each side is encoded once per example, the fusion sees all pairs. The
    diagonal holds the logits of `predict`. ValueError for an encoder without two sides.
    """
    images, texts = encoded_sides(classifier, batches, picked(len(batches.examples), most))
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
    rows = examples.iloc[picked(len(examples), most)].reset_index(drop=True)
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
