"""Features of frozen encoders, computed once and kept on disk.

Cache files are keyed by content: the encoder's weights and settings, the tokens and pixels that went in, and the
versions of the libraries.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from tqdm.auto import tqdm

from mmutils.batches import Batches
from mmutils.models.encoder import CachedEncoder, Encoded, Encoder
from mmutils.models.image import ImageEncoder
from mmutils.models.text import TextEncoder
from mmutils.runs import identity
from mmutils.runs.files import cache_dir, cached_file

LARGE = 2**30  # bytes; more tokens than this are kept in float16
Extras = dict[str, dict[str, Tensor]]  # split -> what Batches takes as `extra`


def features(encoder: nn.Module, batches: Batches, tokens: bool = False) -> dict[str, Tensor]:
    """Features (N, D) of all examples in the order of the rows, from disk if they were computed before.

    With tokens also `tokens` (N, T, D), float16 above 1 GiB, and `mask` (N, T): 0 and False beyond a text's end.
    """
    if batches.augment or batches.shuffle or batches.drop_last:
        raise ValueError("features need every row once, as it is: Batches without augment, shuffle and drop_last")
    inputs = {key: value for key, value in batches.identity().items() if key in ("pictures", "tokens", "features")}
    computed = [tokens, [identity.settings(part) for part in encoder.modules()], identity.versions(), device().type]
    key = identity.digest(repr([computed, inputs, weights_digest(encoder)]).encode())
    make = lambda draft: save_file(compute(encoder, batches, tokens), draft)  # noqa: E731
    return load_file(cached_file(cache_dir() / "features" / key, ".safetensors", make))


def weights_digest(encoder: nn.Module) -> str:
    """Digest of parameters and buffers."""
    return identity.of_tensors([*encoder.named_parameters(), *encoder.named_buffers()])


def compute(encoder: nn.Module, batches: Batches, tokens: bool) -> dict[str, Tensor]:
    """The features, computed on this process's device; afterwards the encoder is where and as it was."""
    training, place = encoder.training, next((p.device for p in encoder.parameters()), torch.device("cpu"))
    encoder.eval().to(device())
    parts, order = [], []
    try:
        with batches.on(encoder), torch.inference_mode():  # not around .to(device): weights must stay trainable
            for rows, batch in tqdm(batches.longest_first(), "features", total=len(batches), delay=2, unit="batch"):
                encoded = encoder.encode(batch)
                encoded = encoded if tokens else Encoded(encoded.features)
                parts.append(encoded.map(lambda part: part.float().cpu()))
                order.append(rows)
    finally:
        encoder.train(training).to(place)
    if tokens and parts[0].tokens is None:
        raise ValueError("this encoder gives no tokens, only features")
    return {key: value for key, value in join_batches(parts, order)._asdict().items() if value is not None}


def join_batches(parts: Sequence[Encoded], rows: Sequence[Tensor] | None = None) -> Encoded:
    """One Encoded from batches of different lengths T; rows: their examples' row numbers, by default in order."""
    sizes = [len(part.features) for part in parts]
    rows = rows or torch.arange(sum(sizes)).split(sizes)
    features = torch.cat([part.features for part in parts])[torch.cat(rows).argsort()]  # (N, D)
    if parts[0].tokens is None:
        return Encoded(features)
    shape = len(features), max(part.tokens.shape[1] for part in parts), parts[0].tokens.shape[2]
    tokens = torch.zeros(shape, dtype=torch.float32 if 4 * math.prod(shape) <= LARGE else torch.float16)  # (N, T, D)
    mask = torch.zeros(shape[:2], dtype=torch.bool)
    for part, place in zip(parts, rows, strict=True):
        length = part.tokens.shape[1]
        real = torch.ones(part.tokens.shape[:2], dtype=torch.bool) if part.mask is None else part.mask.bool()
        tokens[place, :length] = torch.where(real.unsqueeze(-1), part.tokens, 0).to(tokens.dtype)
        mask[place, :length] = real
    return Encoded(features, tokens, mask)


def cached_features(encoder: Encoder, tables: Mapping[str, pd.DataFrame], key: str, tokens: bool = False) -> Extras:
    """Features of each split's examples under the `key` that `CachedEncoder(key, encoder.dim)` reads them by.

    tokens: whether to keep patches or words too, as `<key>_tokens` and `<key>_mask`; attention between them needs it.
    """
    extras = {}
    for split, table in tables.items():
        parts = features(encoder, Batches(table, 64, **batch_inputs(encoder)), tokens)
        extras[split] = {f"{key}_{name}".removesuffix("_features"): part for name, part in parts.items()}
    return extras


def with_last_layers(encoder: Encoder, tables: Mapping[str, pd.DataFrame], layers: int) -> tuple[Encoder, Extras]:
    """An encoder whose last `layers` layers learn, all with -1, and by split what Batches takes as `extra` for it.

    With 0 layers it reads the features of the whole encoder, computed once, as "text". Else there is no extra, and
    `batch_inputs` says what it reads; the layers below are computed for the tables' texts. ValueError for more layers
    than the encoder has.
    """
    if not layers:
        return CachedEncoder("text", encoder.dim), cached_features(encoder, tables, "text")
    learning = copy.deepcopy(encoder).requires_grad_(True)
    learning.frozen = False
    keep_lower_layers(learning.train_last(layers), tables)
    return learning, {split: {} for split in tables}


def keep_lower_layers(encoder: Encoder, tables: Mapping[str, pd.DataFrame]) -> None:
    """Of a text encoder whose last layers learn, compute those below once for all texts of the tables."""
    if isinstance(encoder, TextEncoder) and encoder.last_layers > 0:
        texts = pd.concat(tables.values()).drop_duplicates("text")
        batches = Batches(texts, 64, **batch_inputs(encoder.to(device())))
        with batches.on(encoder):
            made = tqdm(batches.longest_first(), "lower layers", total=len(batches), delay=2, unit="batch")
            encoder.keep_lower(batch for _, batch in made)
        encoder.cpu()


def frozen_features(encoder: Encoder, examples: pd.DataFrame) -> Tensor:
    """Features (N, D) of the examples; each different picture, text or pair is encoded once."""
    inputs = batch_inputs(encoder)
    columns = [column for column, key in (("image", "image_size"), ("text", "tokenizer")) if key in inputs]
    values = features(encoder, Batches(examples.drop_duplicates(columns), 64, **inputs))["features"]
    return values[examples.groupby(columns, sort=False).ngroup().tolist()]


def text_inputs(text: TextEncoder, examples: pd.DataFrame, extra: dict | None = None) -> dict:
    """What Batches needs for `cached_text_encoder`: the tokenizer, or the frozen encoder's features, beside `extra`."""
    if text.frozen:
        return {"extra": (extra or {}) | cached_features(text, {"all": examples}, "text")["all"]}
    return batch_inputs(text) | {"extra": extra or {}}


def batch_inputs(*encoders: Encoder) -> dict:
    """What Batches needs for these encoders: image_size, pad, tokenizer and max_length, as far as they read it."""
    modules = [module for encoder in encoders for module in encoder.modules()]
    images = [module for module in modules if isinstance(module, ImageEncoder)]
    text = next((module for module in modules if isinstance(module, TextEncoder)), None)
    sizes, pad = [image.size for image in images], any(image.pad for image in images)
    inputs = {"image_size": max(sizes), "pad": pad} if images else {}
    return inputs | ({"tokenizer": text.tokenizer, "max_length": text.max_length} if text else {})


@torch.inference_mode()
def embeddings(embed: Callable[[dict], Tensor], batches: Batches) -> Tensor:
    """Of all examples (N, E), in order, on the CPU; embed: an encoder, or a method of it as `clip.embed_image`."""
    with batches.on(getattr(embed, "__self__", embed)):
        return torch.cat([embed(batch).cpu() for batch in batches.epoch()])


def untrained(encoder: nn.Module, batches: Batches) -> nn.Module:
    """A copy of the encoder, in evaluation mode, with the batch-norm statistics of one pass over `batches`."""
    encoder = copy.deepcopy(encoder).to(device())
    with batches.on(encoder):
        update_bn(batches.epoch(), encoder)  # the plain mean over all batches
    return encoder.cpu().eval()


def device() -> torch.device:
    """This process's own device: the GPU of its number if there are GPUs, else the CPU."""
    return PartialState().device  # nothing else of accelerate, whose variables and files could change a training
