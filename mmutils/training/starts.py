"""What fine-tuning starts from: encoders by their names, sizes from the data, cached features of frozen ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmutils.data.tools.pictures import open_picture
from mmutils.models.encoder import CachedEncoder, Encoder
from mmutils.models.features import batch_inputs, frozen_features, keep_lower_layers
from mmutils.models.fusion import fusion_class
from mmutils.models.saving import initial_encoder, network_names
from mmutils.models.text import TextEncoder

SIDES = (112, 224)  # the least and most pixels that are chosen from the data


@dataclass(frozen=True)
class Start:
    """One encoder, or an image and a text encoder, from which classifiers are trained."""

    encoders: list[Encoder]  # the real ones
    trained: list[Encoder]  # what takes part in a training: the real ones, or for frozen ones their cached features
    features: dict[str, dict[str, Tensor]]  # by split what Batches takes as `extra`, of frozen encoders
    inputs: dict  # what Batches is given besides, for encoders that learn
    description: dict  # for the record


def load_starts(
    starts: Mapping,
    baselines: Mapping,
    tables: Mapping,
    folder: str | Path,
    seeds: Sequence[int],
    fusion: str,
    *,
    size: int = 0,
    pad: bool = False,
    image_layers: int = 0,
    text_layers: int = 0,
) -> dict[str, dict[int, Start]]:
    """Load each encoder once, and compute the features of frozen ones; by name and seed.

    Args:
        starts: name -> one encoder, or an image and a text encoder, as `initial_encoder` takes them. In their names
            "{seed}" stands for the seed: "clip:image-{seed}" gives each training a pretraining of its own.
        baselines: start -> the start that it is compared with.
        folder: where the runs lie from which encoders are taken.
        size: pixels, for image models by their name; 0 for `picture_size`. Their texts may have `text_length` tokens.
        image_layers, text_layers: the last layers that learn; 0 for none, on features computed once, -1 for all.
    """
    _check_starts(starts, baselines, fusion)
    encoders, cached = {}, {}
    absent = {split: rows["image"].isna().sum() for split, rows in tables.items()}
    lacking = [f"{count:,} of {split}" for split, count in absent.items() if count]
    options = {"size": size or picture_size(tables["train"]), "pad": pad}
    for name in dict.fromkeys(_of_seed(name, seed) for seed in seeds for name in chain(*starts.values())):
        torch.manual_seed(0)
        encoders[name] = encoder = initial_encoder(name, folder, **options)
        if isinstance(encoder, TextEncoder) and ":" not in name:
            encoder.max_length = text_length(encoder, tables["train"]["text"])
        if lacking and "image_size" in batch_inputs(encoder):
            problem = f"{name!r} reads pictures, which {', '.join(lacking)} do not have"
            raise ValueError(f"{problem}: give options={{'missing': 'drop'}}, or starts of a text encoder alone")
        layers = {kind: n for kind, n in (("image", image_layers), ("text", text_layers)) if kind in _kinds(encoder)}
        if len(set(layers.values())) > 1:
            raise ValueError(f"{name!r} reads both: give the same image_layers and text_layers, not {layers}")
        [count] = set(layers.values())
        if count:
            keep_lower_layers(encoder.train_last(count), tables)
        else:
            cached[name] = {split: frozen_features(encoder.freeze(), table) for split, table in tables.items()}
    loaded = {}
    for start, names in starts.items():
        description = _described(names, [encoders[_of_seed(name, seeds[0])] for name in names], seeds)
        description |= {"start": start, "baseline": baselines.get(start)}
        loaded[start] = {}
        for seed in seeds:
            own = {name: encoders[_of_seed(name, seed)] for name in names}
            trained = [CachedEncoder(name, encoder.dim) if encoder.frozen else encoder for name, encoder in own.items()]
            frozen = [name for name, encoder in own.items() if encoder.frozen]
            features = {split: {name: cached[_of_seed(name, seed)][split] for name in frozen} for split in tables}
            inputs = batch_inputs(*(encoder for encoder in own.values() if not encoder.frozen))
            loaded[start][seed] = Start([*own.values()], trained, features, inputs, description)
    return loaded


def _check_starts(starts: Mapping, baselines: Mapping, fusion: str) -> None:
    fusion_class(fusion)  # ValueError for an unknown name
    for name, names in starts.items():
        if not isinstance(names, list | tuple) or len(names) not in (1, 2):
            raise ValueError(f"starts: {name!r} is {names!r}; give a list of one encoder, or an image and a text one")
    for name, baseline in baselines.items():
        if name not in starts or baseline not in starts:
            raise ValueError(f"baselines: {name!r}: {baseline!r}; both must be starts: {', '.join(starts)}")


def _of_seed(name: str, seed: int) -> str:
    return name.replace("{seed}", str(seed))


def _kinds(*encoders: Encoder) -> list[str]:
    """What the encoders read together: "image", "text" or both."""
    inputs = batch_inputs(*encoders)
    return [kind for kind, key in (("image", "image_size"), ("text", "tokenizer")) if key in inputs]


def _described(names: Sequence[str], encoders: Sequence[Encoder], seeds: Sequence[int]) -> dict:
    """What the record says of a start; `pretrainings`: of how many seeds."""
    layers = {" and ".join(_kinds(encoder)): 0 if encoder.frozen else encoder.last_layers for encoder in encoders}
    amounts = {kind: "all" if count < 0 else f"last {count}" for kind, count in layers.items() if count}
    trained = ["head", *(f"{amount} layers of {kind}" for kind, amount in amounts.items())]
    sources = [
        encoder.source.removesuffix(f"-{seeds[0]}" if "{seed}" in name else "")
        for name, encoder in zip(names, encoders, strict=True)
    ]
    return {
        "inputs": "+".join(_kinds(*encoders)),
        "model": " and ".join(name.replace("-{seed}", "") for name in names),
        "weights": "; ".join(sources),
        "networks": network_names(*encoders),
        "trained": "everything" if set(layers.values()) == {-1} else ", ".join(trained),
        "pretrainings": len(seeds) if "{seed}" in "".join(names) else 1,
    }


def picture_size(examples: pd.DataFrame) -> int:
    """Pixels for these pictures: the longer side of the median one of 200, within SIDES."""
    paths = examples["image"].dropna().unique()
    few = paths[:: max(1, -(-len(paths) // 200))]
    longer = [min(SIDES[1], max(open_picture(path, (SIDES[1], SIDES[1])).size)) for path in few]
    return max(SIDES[0], int(np.median(longer))) if longer else SIDES[1]


def text_length(encoder: TextEncoder, texts: pd.Series) -> int:
    """Tokens of which 98 % of the texts have no more, at least the encoder's own default, at most what it can read."""
    lengths = [len(ids) for ids in encoder.tokenizer(list(texts), verbose=False)["input_ids"]]
    most = min(encoder.tokenizer.model_max_length, getattr(encoder.model.config, "max_position_embeddings", 512))
    return min(most, max(encoder.max_length, int(np.percentile(lengths, 98))))
