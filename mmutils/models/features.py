"""Features of frozen encoders, computed once and kept on disk.

Heads, fusions, languages and seeds can then be compared in seconds. Cache files are keyed by content: the encoder's
weights and settings, the tokens and pixels that went in, and the versions of the libraries.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from mmutils.batches import Batches
from mmutils.models.encoder import Encoded
from mmutils.runs import identity
from mmutils.runs.files import cache_dir, cached_file

LARGE = 2**30  # bytes; more tokens than this are kept in float16


def features(encoder: nn.Module, batches: Batches, tokens: bool = False) -> dict[str, Tensor]:
    """`features` (N, D) float32 of all examples in the order of the rows; with tokens also `tokens` and `mask` (N, T).

    `tokens` is (N, T, D), float32, or float16 above 1 GiB; places beyond a text's end are 0 and False in the mask.
    Computed in evaluation mode on this process's device; from disk if computed before. ValueError for batches that are
    augmented, shuffled or not complete, and where tokens are asked of an encoder that has none.
    """
    if batches.augment or batches.shuffle or batches.drop_last:
        raise ValueError("features need every row once, as it is: Batches without augment, shuffle and drop_last")
    stem = cache_dir() / "features" / fingerprint(encoder, batches, tokens)
    return load_file(
        cached_file(stem, ".safetensors", lambda draft: save_file(compute(encoder, batches, tokens), draft))
    )


def fingerprint(encoder: nn.Module, batches: Batches, tokens: bool) -> str:
    """Digest of what the features depend on: encoder, pictures, tokens, libraries, kind of device."""
    inputs = {key: batches.identity()[key] for key in ("pictures", "tokens", "features")}
    computed = [tokens, [identity.settings(part) for part in encoder.modules()], identity.versions(), device().type]
    return identity.digest(repr([computed, inputs, weights_digest(encoder)]).encode())


def weights_digest(encoder: nn.Module) -> str:
    """Digest of parameters and buffers. A frozen encoder keeps it as long as no tensor is replaced or written to."""
    tensors = [*encoder.named_parameters(), *encoder.named_buffers()]
    state = [(id(tensor), tensor.data_ptr(), tensor._version) for _, tensor in tensors]
    known = vars(encoder).get("_weights_digest")
    if known is None or known[0] != state or any(parameter.requires_grad for parameter in encoder.parameters()):
        known = state, identity.of_tensors(tensors)
        vars(encoder)["_weights_digest"] = known
    return known[1]


def compute(encoder: nn.Module, batches: Batches, tokens: bool) -> dict[str, Tensor]:
    """The features, with encoder and batches on this process's device meanwhile."""
    before = encoder.training, batches.device, next((p.device for p in encoder.parameters()), torch.device("cpu"))
    encoder.eval().to(device())
    batches.device = device()
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


@torch.inference_mode()
def embeddings(embed: Callable[[dict], Tensor], batches: Batches) -> Tensor:
    """What a module or its method, as `clip.embed_image`, makes of all examples (N, E), in order, on the CPU."""
    with batches.on(getattr(embed, "__self__", embed)):
        return torch.cat([embed(batch).cpu() for batch in batches.epoch()])


def untrained(encoder: nn.Module, batches: Batches) -> nn.Module:
    """A copy of the encoder as it is, with the batch-norm statistics of one pass over `batches`."""
    start = copy.deepcopy(encoder)
    norms = [module for module in start.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    if norms:
        compute_in_training(start, batches)
    return start.eval()


@torch.no_grad()
def compute_in_training(encoder: nn.Module, batches: Batches) -> None:
    """One pass in training mode without learning, on this process's device."""
    encoder.train().to(device())
    with batches.on(encoder):
        for batch in batches.epoch():
            encoder(batch)
    encoder.cpu()


def device() -> torch.device:
    """This process's own device: the GPU of its number if there are GPUs, else the CPU.

    Of accelerate only this is used, so that neither ACCELERATE_* variables nor `accelerate config` change a training.
    """
    return PartialState().device
