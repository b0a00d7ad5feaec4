"""What a training or a set of cached features depends on, as digests that can be compared.

All that a result depends on has to be in here: a checkpoint or cache file taken for another gives wrong numbers.
"""

import dataclasses
import hashlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mmutils.runs import fingerprints

LIBRARIES = ("torch", "timm", "transformers", "tokenizers")  # a new version may compute other features
IGNORED = ("training", "frozen", "source", "max_length", "pad", "name_or_path", "transformers_version", "architectures")


def digest(*parts: bytes) -> str:
    """32 hex digits for the parts one after the other."""
    return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


def versions() -> dict[str, str]:
    """Installed versions of the libraries that compute features."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def of_tensors(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Digest of named tensors: names, types, shapes, contents."""
    total = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors:
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()


def settings(module: nn.Module) -> tuple:
    """What a module computes beside its tensors: class, plain attributes, a Hugging Face model's configuration."""
    values = {key: value for key, value in vars(module).items() if isinstance(value, str | int | float | tuple)}
    if hasattr(getattr(module, "config", None), "to_dict"):
        values |= module.config.to_dict()
    named = [(key, value) for key, value in values.items() if key not in IGNORED and not key.startswith("_")]
    return type(module).__name__, sorted(named)


def of_network(module: nn.Module) -> dict[str, str]:
    """A module as it is now: what it computes, its weights, which of them learn, and its code in this package."""
    learning = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    return {
        "network": digest(repr([settings(part) for part in module.modules()]).encode()),
        "initial weights": of_tensors([*module.named_parameters(), *module.named_buffers()]),
        "trainable weights": digest(repr(learning).encode()),
        "code": of_code({type(part).__module__ for part in module.modules()}),
    }


def of_code(modules: Iterable[str]) -> str:
    """Digest of what counts in the source of these modules, as imported, as far as they belong to this package."""
    own = sorted(name for name in modules if name.split(".")[0] == fingerprints.PACKAGE)
    texts = (fingerprints.IMPORTED.text(sys.modules[name].__file__) or "" for name in own)
    return digest(*(fingerprints.significant(text).encode() for text in texts))


def of_examples(examples: pd.DataFrame) -> str:
    """Digest of the ids, texts and labels of a table of examples."""
    columns = [column for column in ("id", "text", "label") if column in examples]
    return digest(pd.util.hash_pandas_object(examples[columns], index=False).to_numpy().tobytes())


def of_arrays(arrays: Iterable[np.ndarray]) -> str:
    """Digest of arrays of one type, and of their lengths."""
    return digest(*(part for array in arrays for part in (array.tobytes(), b"|%d|" % len(array))))


def of_views(augment: Callable | None) -> str:
    """How pictures become views: the settings of a dataclass or of an object, the name of a function."""
    if augment is None or dataclasses.is_dataclass(augment):
        return repr(augment)
    name = getattr(augment, "__qualname__", type(augment).__qualname__)
    return f"{name} {sorted(getattr(augment, '__dict__', {}).items())}"
