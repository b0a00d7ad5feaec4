"""Features of encoders that do not learn, computed once for whole tables of examples."""

from collections.abc import Mapping

import pandas as pd
from torch import Tensor

from mmutils.batches import Batches
from mmutils.models.encoder import CachedEncoder, Encoder
from mmutils.models.features import features
from mmutils.models.starts import batch_inputs
from mmutils.models.text import TextEncoder

Extras = dict[str, dict[str, Tensor]]  # split -> what Batches takes as `extra`


def cached_features(encoder: Encoder, tables: Mapping[str, pd.DataFrame], key: str, tokens: bool = False) -> Extras:
    """Features of each table's examples under `key`; with tokens also `<key>_tokens` and `<key>_mask`.

    Args:
        encoder: frozen, an image or a text encoder.
        tables: examples by split.
        key: the name that `CachedEncoder(key, encoder.dim)` reads them by.
        tokens: whether to keep patches or words too, as attention between them needs.
    """
    extras = {}
    for split, table in tables.items():
        parts = features(encoder, Batches(table, 64, **batch_inputs(encoder)), tokens=tokens)
        extras[split] = {f"{key}_{name}".removesuffix("_features"): part for name, part in parts.items()}
    return extras


def cached_below(
    encoder: TextEncoder, tables: Mapping[str, pd.DataFrame], layers: int, key: str = "text"
) -> tuple[Encoder, Extras]:
    """A text encoder whose last `layers` layers are to be trained, and the cached output of all that lies below them.

    Args:
        layers: 0 for a frozen encoder.

    Returns:
        What a training starts from (copy it for each training), and what Batches must be given as `extra`.
    """
    if not layers:
        return CachedEncoder(key, encoder.dim), cached_features(encoder, tables, key)
    lower, upper = encoder.split(layers, key)
    extras = cached_features(lower, tables, key, tokens=True)
    return upper, {split: {name: extra[name] for name in extra if name != key} for split, extra in extras.items()}
