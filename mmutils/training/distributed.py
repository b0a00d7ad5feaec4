"""Several processes train one model, each on its own device; the only file that talks to torch.distributed.

Every process makes every batch. Its encoders see a part of the rows; their features are gathered, with gradient, and
heads and losses are computed by all on the whole batch, so a method needs no code for it.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from mmutils.models.encoder import Standardise


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
    """Destroy the process group."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def same_start(method: nn.Module) -> None:
    """Give all processes the first one's weights."""
    for tensor in [*method.parameters(), *method.buffers()] if processes() > 1 else ():
        dist.broadcast(tensor.data, 0)


def share_statistics(encoders: list[nn.Module], device: torch.device) -> None:
    """Let batch norms (on GPUs only) and standardisation see the statistics of the whole batch, as in one process."""
    for encoder in encoders if processes() > 1 else ():
        for module in encoder.modules():
            if isinstance(module, Standardise):
                module.total = total
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in encoder.modules()):
            if device.type != "cuda":
                problem = f"{type(encoder).__name__}: {processes()} processes on a CPU cannot share a batch norm"
                raise ValueError(f"{problem}: train in one process or on GPUs, or take a network without, as a ViT")
            convert_sync_batchnorm(encoder)  # timm's keeps the activation that its own batch norms hold


def split(encode: Callable[[dict], Tensor]) -> Callable[[dict], Tensor]:
    """`encode`, from a batch to features (B, D), on this process's part of the rows; the parts are then gathered."""

    def encode_part(batch: dict) -> Tensor:
        rows, count = len(batch["id"]), processes()
        if rows < count:
            problem = f"a batch of {rows} rows cannot be split over {count} processes"
            raise ValueError(f"{problem}: take a larger batch_size, drop_last=True or fewer processes")
        counts = [rows // count + (number < rows % count) for number in range(count)]
        own = slice(sum(counts[: rank()]), sum(counts[: rank() + 1]))
        part = {name: values[own] for name, values in batch.items()}
        if isinstance(batch.get("image"), list | tuple):
            part["image"] = [view[own] for view in batch["image"]]
        return _Gather.apply(encode(part), counts)

    return encode_part if processes() > 1 else encode


class _Gather(torch.autograd.Function):
    """The rows (N_r, ...) of all processes in their order; backward sums the gradients of all processes."""

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


def average_gradients(method: nn.Module) -> None:
    """Replace every gradient by its mean over the processes, in one message."""
    gradients = [parameter.grad for parameter in method.parameters() if parameter.grad is not None]
    if processes() > 1 and gradients:
        vector_to_parameters(total(parameters_to_vector(gradients)) / processes(), gradients)


def total(values: Tensor) -> Tensor:
    """Sum of the values over the processes, without gradient."""
    summed = values.detach().clone()
    dist.all_reduce(summed)
    return summed
