"""What a training starts from: encoders by their names, alone or fused, and the features of frozen ones."""

import copy
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from mmutils.batches import Batches
from mmutils.models import fusion
from mmutils.models.encoder import Encoder, FusedEncoder
from mmutils.models.features import features, untrained
from mmutils.models.image import ImageEncoder
from mmutils.models.saving import load_encoder
from mmutils.models.text import TextEncoder


def network_names(*encoders: Encoder) -> list[str]:
    """For the record: each network inside by its name, with its pixels, as "resnet50, 224 px"."""
    inside = [module for encoder in encoders for module in encoder.modules()]
    images = [f"{module.name}, {module.size} px" for module in inside if isinstance(module, ImageEncoder)]
    return images + [module.name for module in inside if isinstance(module, TextEncoder)]


def initial_encoder(
    given: str, folder: str | Path, size: int | None = None, examples: pd.DataFrame | None = None
) -> Encoder:
    """The encoder that a text names, from which a training starts.

    "run:name": saved by the run of that name in `folder`. "random:run:name": the same network with new random weights,
    and batch norms that have seen the `examples`. With a slash, as "intfloat/multilingual-e5-small", a Hugging Face
    model; else a timm model, at `size` pixels; both with their pretrained weights.
    """
    if given.count(":"):
        *random, run, name = given.split(":")
        if random not in ([], ["random"]):
            raise ValueError(f"{given!r}: give run:name, random:run:name, or the name of a model")
        encoder = load_encoder(Path(folder) / run, name, trained=not random)
        if not random or examples is None:
            return encoder
        distinct = examples.drop_duplicates("image")
        return untrained(encoder, Batches(distinct, 64, **batch_inputs(encoder)))
    return TextEncoder(given) if "/" in given else ImageEncoder(given, pretrained=True, size=size)


def batch_inputs(*encoders: Encoder) -> dict:
    """What Batches must be given for these encoders together: image_size, tokenizer, max_length, as far as needed."""
    inside = [module for encoder in encoders for module in encoder.modules()]
    sizes = [module.size for module in inside if isinstance(module, ImageEncoder)]
    texts = [module for module in inside if isinstance(module, TextEncoder)]
    tokens = {"tokenizer": texts[0].tokenizer, "max_length": texts[0].max_length} if texts else {}
    return ({"image_size": max(sizes)} if sizes else {}) | tokens


def fused_encoder(encoders: Sequence[Encoder], join: str) -> Encoder:
    """One encoder from one, or from an image and a text encoder by the fusion of that name; a copy. ValueError else.

    The fusion of two frozen ones sees features only, as `frozen_features` gives them.
    """
    given = [copy.deepcopy(encoder) for encoder in encoders]
    if len(given) == 1:
        return given[0]
    if len(given) != 2:
        raise ValueError(f"{len(given)} encoders: give one, or an image and a text encoder")
    frozen = all(encoder.frozen for encoder in given)
    return FusedEncoder(*given, fusion.fusion_class(join)(given[0].dim, given[1].dim), features_only=frozen)


def frozen_features(encoder: Encoder, examples: pd.DataFrame) -> Tensor:
    """Features (N, D) of the examples, each different picture, text or pair encoded once and kept on disk."""
    given = batch_inputs(encoder)
    seen = [column for column, key in (("image", "image_size"), ("text", "tokenizer")) if key in given]
    distinct = examples.drop_duplicates(seen)
    found = features(encoder, Batches(distinct, 64, **given))["features"]
    row_of = {key: row for row, key in enumerate(distinct[seen].itertuples(index=False, name=None))}
    return found[[row_of[key] for key in examples[seen].itertuples(index=False, name=None)]]
