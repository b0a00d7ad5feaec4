"""The contract of encoders: modules from a batch to features (B, D).

An encoder takes the whole batch and reads what it needs from it, so encoders of pictures, of texts and of both are
interchangeable. `encode` also gives tokens, the patches of a picture or the words of a text, for fusion by attention.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Encoded(NamedTuple):
    """What an encoder says of a batch; without tokens where it has none."""

    features: Tensor  # (B, D)
    tokens: Tensor | None = None  # (B, T, D)
    mask: Tensor | None = None  # (B, T) bool, True for real tokens; None: all are

    def map(self, change: Callable[[Tensor], Tensor]) -> "Encoded":
        """The same with every tensor changed."""
        return Encoded(*(part if part is None else change(part) for part in self))


class Encoder(nn.Module):
    """What all encoders share. Subclasses set `dim`, the number of features D, and define `encode`."""

    dim: int
    frozen = False
    last_layers = -1  # that learn; -1: all

    def encode(self, batch: dict) -> Encoded:
        """Features and tokens of a batch."""
        raise NotImplementedError

    def forward(self, batch: dict) -> Tensor:
        """Features (B, D)."""
        return self.encode(batch).features

    def freeze(self) -> "Encoder":
        """Stop learning for good: no gradients, and evaluation mode also under train(), so that batch norms stay."""
        self.frozen = True
        return self.requires_grad_(False).eval()

    def below(self, layers: int) -> list[str]:
        """Names of the parameters below the last `layers` layers; ValueError where there are not so many."""
        raise ValueError(f"a {type(self).__name__} learns whole or not at all, not its last {layers} layers")

    def train_last(self, layers: int) -> "Encoder":
        """Let only the last `layers` layers learn, and what comes after; those below stay as if frozen. -1: all."""
        for name in self.below(layers) if layers >= 0 else ():
            self.get_parameter(name).requires_grad_(False)
        self.last_layers = layers
        return self.train(self.training)

    def train(self, mode: bool = True) -> "Encoder":
        super().train(mode and not self.frozen)
        if self.last_layers >= 0:
            for module in list(self.modules())[1:]:
                learning = [parameter.requires_grad for parameter in module.parameters()]
                module.train(module.training and (any(learning) or not learning))
        return self


class Standardise(nn.Module):
    """(x - mean) / standard deviation of all rows seen in training, in float32; the statistics get no gradient.

    It is the batch norm without scale and shift before the linear probe of He et al. 2022
    (https://arxiv.org/abs/2111.06377), but with the plain mean of all rows seen so far, in training and evaluation
    alike: a batch of one works, and the statistics settle even where the encoder still learns.
    """

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


class CachedEncoder(Encoder):
    """Features computed before: batch[key] (B, D), with batch["<key>_tokens"] and batch["<key>_mask"] if there.

    standardised: those of pretrained text models point nearly all the same way, and learning needs them apart.
    """

    def __init__(self, key: str, dim: int, standardised: bool = False):
        super().__init__()
        self.key, self.dim = key, dim
        self.standardise = Standardise(dim) if standardised else nn.Identity()

    def encode(self, batch: dict) -> Encoded:
        features = entry(batch, self.key, "give Batches these features as extra").float()
        if features.shape[-1] != self.dim:
            raise ValueError(f"batch[{self.key!r}] has {features.shape[-1]} dimensions, the encoder {self.dim}")
        if f"{self.key}_tokens" not in batch:
            return Encoded(self.standardise(features))
        return Encoded(features, batch[f"{self.key}_tokens"].float(), batch[f"{self.key}_mask"].bool())


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean (B, D) of the real tokens of (B, T, D) by their mask (B, T); 0 where there are none."""
    weight = mask.to(tokens.dtype).unsqueeze(-1)  # (B, T, 1)
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def check_layers(layers: int, total: int, name: str) -> int:
    """How many of the total layers lie below the last `layers`; ValueError where there are not so many."""
    if not 0 < layers < total:
        advice = f"let its last 1 to {total - 1} learn, 0 or -1 (all), not {layers}"
        raise ValueError(f"{name!r} has {total} layers: {advice}")
    return total - layers


def entry(batch: dict, key: str, advice: str):
    """batch[key], or a ValueError that says what to do."""
    if key not in batch:
        raise ValueError(f"the batch has no {key!r}, only {', '.join(batch)}: {advice}")
    return batch[key]
