"""Encoders: modules from a batch to features (B, D), for pictures (timm), text (Hugging Face), both, or cached ones.

An encoder takes the whole batch and picks what it needs, so image, text and fused encoders can stand in for each other.
`encode(batch)` gives the tokens beside the features, for fusion by attention. A frozen encoder needs no gradient and
stays in evaluation mode, so that neither weights nor batch-norm statistics move.
"""

from typing import NamedTuple

from torch import Tensor, nn


class Encoded(NamedTuple):
    """Features (B, D); tokens (B, T, D) or None; mask (B, T) bool, True for real tokens, None when all are."""

    features: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None


class Encoder(nn.Module):
    """What all encoders share. Subclasses set `dim` and define `encode`."""

    dim: int
    frozen = False

    def encode(self, batch: dict) -> Encoded:
        """Features and tokens of a batch."""
        raise NotImplementedError

    def forward(self, batch: dict) -> Tensor:
        """Features (B, D)."""
        return self.encode(batch).features

    def freeze(self) -> "Encoder":
        """Stop learning for good: no gradients, evaluation mode also under train()."""
        self.frozen = True
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Encoder":
        return super().train(mode and not self.frozen)


def entry(batch: dict, key: str, advice: str):
    """batch[key], or a ValueError that says what to do."""
    if key not in batch:
        raise ValueError(f"the batch has no {key!r}, only {', '.join(batch)}: {advice}")
    return batch[key]


class CachedEncoder(Encoder):
    """Features computed before: batch[key] (B, D), and "<key>_tokens", "<key>_mask" where the batch has them."""

    def __init__(self, key: str, dim: int):
        super().__init__()
        self.key, self.dim = key, dim

    def encode(self, batch: dict) -> Encoded:
        features = entry(batch, self.key, "give Batches these features as extra")
        if features.shape[-1] != self.dim:
            raise ValueError(f"batch[{self.key!r}] has {features.shape[-1]} dimensions, the encoder {self.dim}")
        if f"{self.key}_tokens" not in batch:
            return Encoded(features.float())
        return Encoded(features.float(), batch[f"{self.key}_tokens"].float(), batch[f"{self.key}_mask"].bool())


class FusedEncoder(Encoder):
    """An image encoder, a text encoder and a fusion of both (mmutils.fusion) as one encoder.

    features_only: the fusion sees no tokens, as when it was trained on cached features without them.
    """

    def __init__(self, image: Encoder, text: Encoder, fusion: nn.Module, features_only: bool = False):
        super().__init__()
        self.image, self.text, self.fusion, self.dim = image, text, fusion, fusion.dim
        self.features_only = features_only

    def encode(self, batch: dict) -> Encoded:
        sides = [side.encode(batch) for side in (self.image, self.text)]
        return Encoded(self.fusion(*(Encoded(side.features) if self.features_only else side for side in sides)))

    def head(self, classes: int) -> nn.Module:
        """The fusion's own head from fused features to logits (B, K)."""
        return self.fusion.head(classes)
