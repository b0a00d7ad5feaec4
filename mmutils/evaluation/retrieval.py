"""Retrieval: does a picture find its text among all texts, and a text its picture?"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor, nn

from mmutils.batches import Batches
from mmutils.evaluation.probes import normalised
from mmutils.models.features import embeddings, text_inputs
from mmutils.models.text import TextEncoder


def retrieval(image_embeddings, text_embeddings, groups=None) -> dict[str, float]:
    """Recall at 1, 5 and 10 and median rank, by cosine, from images (N, E) to texts (N, E) and back; rows are pairs.

    Ties count as lost: were all embeddings equal, every rank would be the last.

    Args:
        groups: (N,); rows of one group are interchangeable, so that of several equal texts any one counts.

    Returns:
        `image_to_text_r1`, ..., `image_to_text_median_rank`, the same for `text_to_image`; `candidates` is N.
    """
    images, texts = normalised(image_embeddings), normalised(text_embeddings)
    groups = np.arange(len(images)) if groups is None else pd.factorize(np.asarray(groups))[0]
    if images.shape != texts.shape or len(groups) != len(images):
        raise ValueError(
            f"row i of images {images.shape}, of texts {texts.shape} and of the {len(groups)} groups must be one pair"
        )
    result = {"candidates": len(images)}
    for name, queries, answers in (("image_to_text", images, texts), ("text_to_image", texts, images)):
        ranks = _ranks(queries, answers, groups)
        result |= {f"{name}_r{k}": float((ranks <= k).mean()) for k in (1, 5, 10)}
        result[f"{name}_median_rank"] = float(np.median(ranks))
    return result


def _ranks(queries: np.ndarray, answers: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Rank (N,), from 1, of the best right answer: one more than the number of wrong answers at least as similar."""
    ranks = []
    for start in range(0, len(queries), 512):
        similarity = queries[start : start + 512] @ answers.T  # (C, N)
        right = groups[start : start + 512, None] == groups
        best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
        ranks.append(1 + ((similarity >= best - 1e-9) & ~right).sum(axis=1))  # equal rows may differ in the last bit
    return np.concatenate(ranks)


def nearest_pictures(
    clip: nn.Module, text: TextEncoder, queries: Sequence[str], examples: pd.DataFrame, pictures: Tensor
) -> dict[str, pd.DataFrame]:
    """The 6 examples whose pictures are nearest to each query, nearest first.

    Args:
        clip: a trained CLIP.
        text: its text encoder.
        queries: any texts.
        examples: N of them, and pictures: their embeddings (N, E).
    """
    rows = examples.iloc[[0] * len(queries)].assign(text=queries, id=queries).reset_index(drop=True)
    similarity = embeddings(clip.embed_text, Batches(rows, 64, **text_inputs(text, rows))) @ pictures.T  # (Q, N)
    nearest = similarity.topk(min(6, len(examples)), dim=1).indices.tolist()
    return {query: examples.iloc[found] for query, found in zip(queries, nearest, strict=True)}


def nearest_in_train(encoder: nn.Module, batches: Mapping[str, Batches], queries: int, count: int) -> pd.DataFrame:
    """Some examples of test, each followed by the examples of train with the nearest features, by cosine.

    Args:
        batches: of train and test.
        queries: number of examples of test; count: of train for each.
    """
    train, test = (normalised(embeddings(encoder, batches[split])) for split in ("train", "test"))
    examples = batches["test"].examples
    rows = examples.sample(min(queries, len(examples)), random_state=0)
    nearest = np.argsort(-test[rows.index] @ train.T, axis=1, kind="stable")[:, :count]
    parts = [pd.concat([rows.iloc[[i]], batches["train"].examples.iloc[nearest[i]]]) for i in range(len(rows))]
    return pd.concat(parts)
