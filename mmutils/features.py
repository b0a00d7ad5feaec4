"""Features of frozen encoders, computed once and kept on disk.

Heads, fusions, languages and seeds can then be compared in seconds. A file belongs to one content: the encoder's
weights and settings, and the texts' tokens and pictures' files that went in. Anything else makes another file.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from mmutils.batches import Batches
from mmutils.encoders import Encoded
from mmutils.files import cache_dir

LARGE = 2**30  # bytes; more tokens than this are kept in float16


def features(encoder: nn.Module, batches: Batches, tokens: bool = False) -> dict[str, Tensor]:
    """`features` (N, D) float32 of all examples in the order of the rows; with tokens also `tokens` and `mask` (N, T).

    `tokens` is (N, T, D), float32, or float16 above 1 GiB; places beyond a text's end are 0 and False in the mask.
    Computed in evaluation mode on the GPU if there is one; from disk if computed before. ValueError for batches that
    are augmented, shuffled or not complete, and where tokens are asked of an encoder that has none.
    """
    if batches.augment or batches.shuffle or len(batches) * batches.batch_size < len(batches.examples):
        raise ValueError("features need every row once, as it is: Batches without augment, shuffle and drop_last")
    file = cache_dir() / "features" / f"{fingerprint(encoder, batches, tokens)}.safetensors"
    if not file.exists():
        save(compute(encoder, batches, tokens), file)
    return load_file(file)


def fingerprint(encoder: nn.Module, batches: Batches, tokens: bool) -> str:
    """Hash of what the features depend on. Pictures by path, size and time of change, everything else by content."""
    digest = hashlib.sha256(repr([tokens, *map(settings, encoder.modules())]).encode())
    digest.update(weights_digest(encoder) + tensors_digest(sorted(batches.extra.items())))
    if batches.pictures is not None:
        digest.update(repr(batches.pictures.shape).encode())
        digest.update(repr([picture(path) for path in batches.examples["image"]]).encode())
    for ids in batches.tokens or []:
        digest.update(ids.tobytes() + b"|")
    return digest.hexdigest()[:32]


def weights_digest(encoder: nn.Module) -> bytes:
    """Digest of parameters and buffers. A frozen encoder keeps it as long as no tensor is replaced or written to."""
    tensors = [*encoder.named_parameters(), *encoder.named_buffers()]
    state = [(id(tensor), tensor.data_ptr(), tensor._version) for _, tensor in tensors]
    known = vars(encoder).get("_weights_digest")
    if known is None or known[0] != state or any(parameter.requires_grad for parameter in encoder.parameters()):
        known = state, tensors_digest(tensors)
        vars(encoder)["_weights_digest"] = known
    return known[1]


def tensors_digest(tensors: Iterable[tuple[str, Tensor]]) -> bytes:
    """Digest of named tensors: names, types, shapes, contents."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.digest()


def settings(module: nn.Module) -> tuple:
    """What a module computes beside its tensors: class, plain attributes, a Hugging Face model's configuration."""
    plain = {key: value for key, value in vars(module).items() if isinstance(value, str | int | float | tuple)}
    config = getattr(module, "config", None)
    config = config.to_dict() if hasattr(config, "to_dict") else {}
    ignored = ("training", "frozen", "source", "max_length", "transformers_version", "architectures")
    known = {key: value for key, value in (plain | config).items() if key not in ignored and not key.startswith("_")}
    return type(module).__name__, sorted(known.items())


def picture(path: str) -> tuple[str, int, int]:
    """What identifies a picture file: path, bytes, nanoseconds of its last change."""
    status = os.stat(path)
    return path, status.st_size, status.st_mtime_ns


def compute(encoder: nn.Module, batches: Batches, tokens: bool) -> dict[str, Tensor]:
    """The features, with encoder and batches on the GPU meanwhile if there is one."""
    before = encoder.training, batches.device, next((p.device for p in encoder.parameters()), torch.device("cpu"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder.eval().to(device)
    batches.device = device
    try:
        bar = tqdm(batches.by_length(), "features", total=len(batches), delay=2, unit="batch")
        with torch.inference_mode():  # not around .to(device): parameters moved inside could not be trained any more
            rows, encoded = zip(*((rows, to_cpu(encoder.encode(batch), tokens)) for rows, batch in bar), strict=True)
    finally:
        encoder.train(before[0]).to(before[2])
        batches.device = before[1]
    found = {"features": torch.cat([part.features for part in encoded])[torch.cat(rows).argsort()]}
    if tokens:
        found |= joined_tokens([part.tokens for part in encoded], [part.mask for part in encoded], rows)
    return found


def to_cpu(encoded: Encoded, tokens: bool) -> Encoded:
    """The parts that are kept, float32 on the CPU."""
    if not tokens:
        return Encoded(encoded.features.float().cpu())
    return Encoded(*(part if part is None else part.float().cpu() for part in encoded))


def joined_tokens(
    tokens: list[Tensor | None], masks: list[Tensor | None], rows: Sequence[Tensor] | None = None
) -> dict[str, Tensor]:
    """Tokens (N, T, D) and mask (N, T) from batches of different lengths T; rows: where each batch's rows belong."""
    if tokens[0] is None:
        raise ValueError("this encoder gives no tokens, only features")
    shape = sum(map(len, tokens)), max(part.shape[1] for part in tokens), tokens[0].shape[2]
    kind = torch.float32 if 4 * shape[0] * shape[1] * shape[2] <= LARGE else torch.float16
    joined, mask = torch.zeros(shape, dtype=kind), torch.zeros(shape[:2], dtype=torch.bool)
    rows = rows or torch.arange(shape[0]).split([len(part) for part in tokens])
    for part, real, place in zip(tokens, masks, rows, strict=True):
        length = part.shape[1]
        real = torch.ones(part.shape[:2], dtype=torch.bool) if real is None else real.bool()
        joined[place, :length] = torch.where(real.unsqueeze(-1), part, 0).to(kind)
        mask[place, :length] = real
    return {"tokens": joined, "mask": mask}


def save(tensors: dict[str, Tensor], file: Path) -> None:
    """Write the file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as temporary:
        pass
    save_file(tensors, temporary.name)
    os.replace(temporary.name, file)
