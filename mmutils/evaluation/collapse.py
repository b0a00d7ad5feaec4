"""Collapse of self-supervised training: encoders that give every picture the same features.

The loss does not show it, so it is measured on the features: their spread and their effective rank (RankMe, Garrido et
al. 2023, https://arxiv.org/abs/2210.02885).
"""

import math
from collections import defaultdict

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 512  # examples whose features `Watch` keeps


def spread(features: Tensor) -> float:
    """sqrt(D) times the mean standard deviation of L2-normalised features (N, D): 1 for even directions, 0 for one."""
    directions = F.normalize(features.float(), dim=-1)  # (N, D)
    return directions.std(dim=0, unbiased=False).mean().item() * math.sqrt(features.shape[-1])


def effective_rank(features: Tensor) -> float:
    """exp(entropy of shares of singular values) of L2-normalised features (N, D), 1 to min(N, D); nan if not finite."""
    if not torch.isfinite(features).all():
        return math.nan
    values = torch.linalg.svdvals(F.normalize(features.cpu().double(), dim=-1))
    shares = values / values.sum().clamp(min=1e-12)
    return torch.special.entr(shares).sum().exp().item()


class Watch:
    """Collects numbers of an epoch's steps and the features of its last `ROWS` examples."""

    def __init__(self):
        self.numbers, self.features = defaultdict(list), {}

    def add(self, **numbers: Tensor | float) -> None:
        """One value per name and step (scalars), averaged over the steps when read."""
        for name, number in numbers.items():
            self.numbers[name].append(torch.as_tensor(number).detach())

    def keep(self, **features: Tensor) -> None:
        """Features (B, D) of this step by name."""
        for name, rows in features.items():
            rows = rows.detach().float()
            self.features[name] = torch.cat([self.features.get(name, rows[:0]), rows])[-ROWS:]

    def read(self) -> dict[str, float]:
        """Mean of each number, `spread_<name>` and `effective_rank_<name>` of features; then it is empty again."""
        means = {name: torch.stack(values).float().mean().item() for name, values in self.numbers.items()}
        for name, features in self.features.items():
            means |= {f"spread_{name}": spread(features), f"effective_rank_{name}": effective_rank(features)}
        self.numbers.clear()
        self.features.clear()
        return means
