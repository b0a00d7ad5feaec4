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

    A rank, from 1, is one more than the number of wrong answers that are at least as similar as the best right one.
    groups (N,): rows of one are interchangeable, so that of several equal texts any one counts.
    Returns `image_to_text_r1`, ..., `image_to_text_median_rank`, the same for `text_to_image`; `candidates` is N.
    """
    images, texts = normalised(image_embeddings), normalised(text_embeddings)
    groups = np.arange(len(images)) if groups is None else pd.factorize(np.asarray(groups))[0]
    if images.shape != texts.shape or len(groups) != len(images):
        shapes = f"images {images.shape}, of texts {texts.shape} and of the {len(groups)} groups"
        raise ValueError(f"row i of {shapes} must be one pair")
    result = {"candidates": len(images)}
    for name, queries, answers in (("image_to_text", images, texts), ("text_to_image", texts, images)):
        ranks = np.empty(len(queries), dtype=int)
        for start in range(0, len(queries), 512):
            part = slice(start, start + 512)
            similarity, right = queries[part] @ answers.T, groups[part, None] == groups  # (C, N) each
            best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
            ranks[part] = 1 + ((similarity >= best - 1e-9) & ~right).sum(axis=1)  # equal rows may differ in a last bit
        result |= {f"{name}_r{k}": float((ranks <= k).mean()) for k in (1, 5, 10)}
        result[f"{name}_median_rank"] = float(np.median(ranks))
    return result


def nearest_pictures(
    clip: nn.Module, text: TextEncoder, queries: Sequence[str], examples: pd.DataFrame, pictures: Tensor
) -> dict[str, pd.DataFrame]:
    """The 6 examples whose pictures, with embeddings (N, E) of a trained CLIP, are nearest to each query's text."""
    rows = examples.iloc[[0] * len(queries)].assign(text=queries, id=queries).reset_index(drop=True)
    similarity = embeddings(clip.embed_text, Batches(rows, 64, **text_inputs(text, rows))) @ pictures.T  # (Q, N)
    nearest = similarity.topk(min(6, len(examples)), dim=1).indices.tolist()
    return {query: examples.iloc[rows] for query, rows in zip(queries, nearest, strict=True)}


def nearest_in_train(encoder: nn.Module, batches: Mapping[str, Batches], queries: int, count: int) -> pd.DataFrame:
    """`queries` examples of test, each followed by the `count` examples of train that are nearest by cosine."""
    train, test = (normalised(embeddings(encoder, batches[split])) for split in ("train", "test"))
    examples = batches["test"].examples
    rows = examples.sample(min(queries, len(examples)), random_state=0)
    nearest = np.argsort(-test[rows.index] @ train.T, axis=1, kind="stable")[:, :count]
    parts = [pd.concat([rows.iloc[[i]], batches["train"].examples.iloc[nearest[i]]]) for i in range(len(rows))]
    return pd.concat(parts)
