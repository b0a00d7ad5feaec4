"""What a training or a set of cached features depends on, as digests that can be compared.

All that a result depends on has to be in here: a checkpoint or cache file taken for another gives wrong numbers.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterable
from types import CodeType

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mmutils.runs import fingerprints

LIBRARIES = ("torch", "timm", "transformers", "tokenizers")  # a new version may compute other features
CODE = ("mmutils/models", "mmutils/batches", "mmutils/data/tools/pictures.py")  # and so may a change here
IGNORED = ("training", "frozen", "source", "max_length", "pad", "name_or_path", "transformers_version", "architectures")


def digest(*parts: bytes) -> str:
    """32 hex digits for the parts one after the other."""
    return hashlib.blake2b(b"".join(parts), digest_size=16).hexdigest()


@functools.cache
def versions() -> dict[str, str]:
    """What computes features: installed versions of the libraries, and a digest of this package's code, as imported."""
    files = fingerprints.IMPORTED
    paths = [path for part in CODE for path in sorted(files.texts) if path.is_relative_to(files.root / part)]
    code = [(str(path.relative_to(files.root)), fingerprints.significant(files.texts[path])) for path in paths]
    return {name: importlib.metadata.version(name) for name in LIBRARIES} | {"code": digest(repr(code).encode())}


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
    """How pictures become views: the settings of a dataclass or of an object; what a function does and encloses."""
    if augment is None or dataclasses.is_dataclass(augment):
        return repr(augment)
    if isinstance(augment, functools.partial):
        return f"{of_views(augment.func)} {augment.args} {sorted(augment.keywords.items())}"
    if inspect.ismethod(augment):
        return f"{of_views(augment.__self__)} {of_views(augment.__func__)}"
    name = getattr(augment, "__qualname__", type(augment).__qualname__)
    values = sorted(getattr(augment, "__dict__", {}).items())
    if inspect.isfunction(augment):
        inside = [cell.cell_contents for cell in augment.__closure__ or () if cell.cell_contents is not augment]
        inside = [of_views(value) if inspect.isfunction(value) else repr(value) for value in inside]
        values += [_instructions(augment.__code__), augment.__defaults__, augment.__kwdefaults__, inside]
    return f"{name} {values}"


def _instructions(code: CodeType) -> list:
    """What a function's code does, wherever it stands: there may be no source, or several functions in a line of it."""
    constants = [_instructions(part) if inspect.iscode(part) else part for part in code.co_consts]
    return [code.co_code.hex(), code.co_names, constants]
