"""Several processes train one model, each on its own device; the only file that talks to torch.distributed.

    accelerate launch --num_processes 2 -m mmutils.reproduce.launch CLIP/CLIP.ipynb -p epochs 3

Every process makes every batch. The encoders, which are nearly all of the work, see only their process's part of the
rows; their features are gathered, with gradient, and everything behind them (heads, negatives, centers, losses) is
computed by all alike on the whole batch. So a method needs no code of its own, and the losses and weights are those of
one process up to rounding, also where a batch cannot be split evenly. What is drawn inside an encoder, such as dropout,
is drawn for each part by itself. In a single process every function here gives back what it was given.
"""

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn

from mmutils.models.standardise import Standardise


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that writes, records and shows."""
    return rank() == 0


def leave() -> None:
    """Take leave of the other processes, when all is done."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def total(values: Tensor) -> Tensor:
    """Sum of the values over the processes, without gradient."""
    if processes() == 1:
        return values
    summed = values.detach().clone()
    dist.all_reduce(summed)
    return summed


def gather(rows: Tensor, counts: list[int]) -> Tensor:
    """The rows (N_r, ...) of all processes, those of the first one first; a gradient finds its way back to each.

    counts: how many rows each process has.
    """
    return _Gather.apply(rows, counts) if processes() > 1 else rows


class _Gather(torch.autograd.Function):
    """Backward sums what all processes want of a row; with `average_gradients` that is the gradient of their mean."""

    @staticmethod
    def forward(ctx, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        padded = rows.new_zeros(max(counts), *rows.shape[1:])  # all_gather wants the same shape everywhere
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return total(gradient.contiguous()).split(ctx.counts)[rank()], None


def split(encode):
    """`encode` (a batch, or a tensor of rows, to features) on this process's part of the rows, and then gathered."""

    def encode_part(batch):
        rows, count = _count(batch), processes()
        if rows < count:
            raise ValueError(
                f"a batch of {rows} rows cannot be split over {count} processes: take a larger batch_size, "
                "drop_last=True or fewer processes"
            )
        counts = [rows // count + (number < rows % count) for number in range(count)]
        start = sum(counts[: rank()])
        return gather(encode(_part(batch, slice(start, start + counts[rank()]))), counts)

    return encode_part if processes() > 1 else encode


def _count(batch) -> int:
    """Rows of a tensor, or of the first tensor or list in a batch."""
    if isinstance(batch, dict):
        return _count(next(iter(batch.values())))
    return _count(batch[0]) if isinstance(batch, list | tuple) and isinstance(batch[0], Tensor) else len(batch)


def _part(value, rows: slice):
    """Those rows of a batch, a list of views, a tensor or a list."""
    if isinstance(value, dict):
        return {name: _part(entry, rows) for name, entry in value.items()}
    if isinstance(value, list | tuple) and isinstance(value[0], Tensor):
        return [_part(view, rows) for view in value]
    return value[rows]


def same_start(method: nn.Module) -> None:
    """Give all processes the first one's weights."""
    for tensor in [*method.parameters(), *method.buffers()] if processes() > 1 else ():
        dist.broadcast(tensor.data, 0)


def average_gradients(method: nn.Module) -> None:
    """Replace every gradient by its mean over the processes, in one message."""
    gradients = [parameter.grad for parameter in method.parameters() if parameter.grad is not None]
    if processes() == 1 or not gradients:
        return
    mean = total(torch.cat([gradient.flatten() for gradient in gradients])) / processes()
    for gradient, part in zip(gradients, mean.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def share_statistics(encoders: list[nn.Module], device: torch.device) -> None:
    """Let what the encoders estimate of a batch be of all its parts, as in one process: batch norms, standardisation.

    torch's SyncBatchNorm does so on GPUs only; timm's conversion keeps the activation that its own batch norms hold.
    ValueError for an encoder with batch norms that learn on a CPU.
    """
    for encoder in encoders if processes() > 1 else ():
        for module in encoder.modules():
            if isinstance(module, Standardise):
                module.total = total
        norms = [m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
        if norms and device.type != "cuda":
            raise ValueError(
                f"a {type(encoder).__name__} has batch norms, whose statistics cannot be shared by {processes()} "
                "processes on a CPU: train it in one process or on GPUs, or take a network without them, as a ViT"
            )
        if norms:
            convert_sync_batchnorm(encoder)
