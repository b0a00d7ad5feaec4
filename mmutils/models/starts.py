"""What a training starts from: encoders by their names, alone or fused, and the features of frozen ones."""

import copy
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from mmutils.batches import Batches
from mmutils.models.encoder import Encoder, FusedEncoder
from mmutils.models.features import features, untrained
from mmutils.models.fusion import fusion_class
from mmutils.models.image import ImageEncoder
from mmutils.models.saving import load_encoder
from mmutils.models.text import TextEncoder


def initial_encoder(
    start: str, folder: str | Path, size: int | None = None, examples: pd.DataFrame | None = None
) -> Encoder:
    """The encoder that a training starts from.

    Args:
        start: "run:name", saved by that run; "random:run:name", the same network with new random weights; or the name
            of a pretrained model, of Hugging Face if it has a slash, as "intfloat/multilingual-e5-small", else of timm.
        folder: where the runs' folders are.
        size: pixels of a timm model's input.
        examples: for random weights, pictures and texts by which the batch norms' statistics are estimated.
    """
    if ":" not in start:
        return TextEncoder(start) if "/" in start else ImageEncoder(start, pretrained=True, size=size)
    *random, run, name = start.split(":")
    if random not in ([], ["random"]):
        raise ValueError(f"{start!r}: give run:name, random:run:name, or the name of a model")
    encoder = load_encoder(Path(folder) / run, name, trained=not random)
    if not random or examples is None:
        return encoder
    return untrained(encoder, Batches(examples.drop_duplicates("image"), 64, **batch_inputs(encoder)))


def fused_encoder(encoders: Sequence[Encoder], fusion: str) -> Encoder:
    """A copy of one encoder, or of an image and a text encoder with the fusion of that name.

    The fusion of two frozen ones sees features only, as `frozen_features` gives them.
    """
    if len(encoders) not in (1, 2):
        raise ValueError(f"{len(encoders)} encoders: give one, or an image and a text encoder")
    first, *others = (copy.deepcopy(encoder) for encoder in encoders)
    if not others:
        return first
    image, text = first, others[0]
    fuse = fusion_class(fusion)(image.dim, text.dim)
    return FusedEncoder(image, text, fuse, features_only=image.frozen and text.frozen)


def frozen_features(encoder: Encoder, examples: pd.DataFrame) -> Tensor:
    """Features (N, D) of the examples, each different picture, text or pair encoded once and kept on disk."""
    inputs = batch_inputs(encoder)
    columns = [column for column, key in (("image", "image_size"), ("text", "tokenizer")) if key in inputs]
    distinct = examples.drop_duplicates(columns)
    values = features(encoder, Batches(distinct, 64, **inputs))["features"]
    row_of = {key: row for row, key in enumerate(distinct[columns].itertuples(index=False, name=None))}
    return values[[row_of[key] for key in examples[columns].itertuples(index=False, name=None)]]


def batch_inputs(*encoders: Encoder) -> dict:
    """What Batches needs for these encoders together: image_size, tokenizer and max_length, as far as they read it."""
    images, texts = _networks(encoders)
    inputs = {"image_size": max(image.size for image in images)} if images else {}
    return inputs | ({"tokenizer": texts[0].tokenizer, "max_length": texts[0].max_length} if texts else {})


def network_names(*encoders: Encoder) -> list[str]:
    """For the record: each network inside by its name, as "resnet50, 224 px"."""
    images, texts = _networks(encoders)
    return [f"{image.name}, {image.size} px" for image in images] + [text.name for text in texts]


def _networks(encoders: Sequence[Encoder]) -> tuple[list[ImageEncoder], list[TextEncoder]]:
    """The image and the text encoders inside."""
    inside = [module for encoder in encoders for module in encoder.modules()]
    return tuple([module for module in inside if isinstance(module, kind)] for kind in (ImageEncoder, TextEncoder))
