"""Standardisation: every feature gets mean 0 and variance 1, by statistics that are estimated during training.

It is the batch norm without scale and shift before the linear probe of He et al. 2022
(https://arxiv.org/abs/2111.06377), but with the plain mean of all rows seen so far, in training and evaluation alike: a
batch of one works, and the statistics settle even where the encoder still learns.
"""

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """(x - mean) / standard deviation of all rows seen in training, in float32; the statistics get no gradient."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("square", torch.ones(dim))  # mean of the squares
        self.register_buffer("rows", torch.zeros(()))  # seen so far

    def total(self, sums: Tensor) -> Tensor:
        """Sums over the whole batch; `training.distributed` replaces it where each process has a part of the batch."""
        return sums

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Standardised values (B, D) or (B, T, D); mask (B, T) says which tokens are real and count."""
        values = values.float()
        if self.training:
            rows = values.detach().flatten(0, -2)  # (rows, D)
            real = torch.ones_like(rows[:, :1]) if mask is None else mask.flatten().float().unsqueeze(-1)  # (rows, 1)
            sums = [(real * rows).sum(dim=0), (real * rows.square()).sum(dim=0), real.sum().expand(self.dim)]
            mean, square, count = self.total(torch.stack(sums))  # (D,) each
            self.rows += count[0]
            weight = count / self.rows  # of this batch among all rows so far
            self.mean.lerp_(mean / count, weight)
            self.square.lerp_(square / count, weight)
        return (values - self.mean) / ((self.square - self.mean.square()).clamp(min=0) + 1e-5).sqrt()
