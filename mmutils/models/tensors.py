"""Weights on disk as safetensors, with checksums of themselves and of the files that belong to them.

A flipped bit in a weight, a tokenizer or a description gives other results without an error. So the checksums are
compared when a file is read.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmutils.runs import identity
from mmutils.runs.files import checksum, whole_file


def save_tensors(state: dict[str, Tensor], file: Path, beside: Iterable[Path] = ()) -> None:
    """Write a state dict whole or not at all. beside: files in the same folder or below that belong to it."""
    state = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    sums = {path.relative_to(file.parent).as_posix(): checksum(path) for path in beside}
    metadata = {"format": "pt", "digest": identity.of_tensors(sorted(state.items())), "beside": json.dumps(sums)}
    with whole_file(file) as draft:
        save_file(state, draft, metadata)


def load_tensors(file: Path) -> dict[str, Tensor]:
    """The state dict that `save_tensors` wrote; one from elsewhere, without a digest, is not checked.

    FileNotFoundError; ValueError where it, or a file that belongs to it, is damaged.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no {file}")
    try:
        with safe_open(file, "pt") as content:
            metadata = content.metadata() or {}
        state = load_file(file)
    except SafetensorError as error:
        raise _damaged(file, str(error)) from error
    if "digest" in metadata and metadata["digest"] != identity.of_tensors(sorted(state.items())):
        raise _damaged(file, "its weights are not those that were written")
    for name, expected in json.loads(metadata.get("beside", "{}")).items():
        path = file.parent / name
        if not path.is_file() or checksum(path) != expected:
            raise _damaged(path, f"it is not the file that was written with {file.name}")
    return state


def _damaged(file: Path, problem: str) -> ValueError:
    return ValueError(f"{file} is damaged ({problem}): copy it again, or run again what made it")
