"""Fusion: features of a picture and of its text become one vector (B, dim).

Every fusion is called with what the two encoders give, `fusion(image, text)`, and `head(classes)` makes the layer for
the logits. Features of pictures and of texts differ in scale and mean, so both are standardised first.
"""

import copy
import math
from collections.abc import Sequence
from itertools import chain, pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmutils.models.encoder import Encoded, Encoder, Standardise, masked_mean


class Fusion(nn.Module):
    """What all fusions share. `options`: what the class is called with to build it again, beside the encoders' dims."""

    def __init__(self, image_dim: int, text_dim: int, dim: int, options: dict):
        super().__init__()
        self.image, self.text = Standardise(image_dim), Standardise(text_dim)
        self.dim, self.options = dim, options

    def head(self, classes: int) -> nn.Module:
        """A new head from fused features to logits (B, K)."""
        return nn.Linear(self.dim, classes)


class Concatenation(Fusion):
    """Both side by side through an MLP (Ngiam et al. 2011, https://icml.cc/2011/papers/399_icmlpaper.pdf).

    hide: share of the examples of which one randomly chosen modality is replaced by its mean in training (ModDrop,
    Neverova et al. 2015, https://arxiv.org/abs/1501.00102).
    """

    def __init__(self, image_dim: int, text_dim: int, hidden=(512, 128, 32), dropout: float = 0.3, hide: float = 0.0):
        super().__init__(image_dim, text_dim, hidden[-1], {"hidden": list(hidden), "dropout": dropout})
        self.layers, self.hide = _multilayer((image_dim + text_dim, *hidden), dropout), hide

    def forward(self, image: Encoded, text: Encoded) -> Tensor:
        v, t = self.image(image.features), self.text(text.features)
        if self.training and self.hide:
            draw = torch.rand(len(v), 1, device=v.device)
            v, t = v * (draw >= self.hide / 2), t * (draw < 1 - self.hide / 2)
        return self.layers(torch.cat([v, t], dim=-1))


class Gated(Fusion):
    """Gated multimodal unit (Arevalo et al. 2017, https://arxiv.org/abs/1702.01992).

    h = z * tanh(W_v v) + (1 - z) * tanh(W_t t) with z = sigmoid(W_z [v, t]), one gate per example and dimension.
    """

    def __init__(self, image_dim: int, text_dim: int, dim: int = 128, dropout: float = 0.3):
        super().__init__(image_dim, text_dim, dim, {"dim": dim, "dropout": dropout})
        self.image = nn.Sequential(self.image, nn.Dropout(dropout))
        self.text = nn.Sequential(self.text, nn.Dropout(dropout))
        self.image_value, self.text_value = nn.Linear(image_dim, dim, bias=False), nn.Linear(text_dim, dim, bias=False)
        self.gate = nn.Linear(image_dim + text_dim, dim, bias=False)

    def forward(self, image: Encoded, text: Encoded) -> Tensor:
        v, t = self.image(image.features), self.text(text.features)
        z = torch.sigmoid(self.gate(torch.cat([v, t], dim=-1)))  # (B, dim)
        return z * torch.tanh(self.image_value(v)) + (1 - z) * torch.tanh(self.text_value(t))


class CrossAttention(Fusion):
    """Patches attend to words and words to patches, as in ViLBERT (2019, https://arxiv.org/abs/1908.02265)."""

    def __init__(self, image_dim: int, text_dim: int, dim: int = 128, heads: int = 4, dropout: float = 0.3):
        super().__init__(image_dim, text_dim, 2 * dim, {"dim": dim, "heads": heads, "dropout": dropout})
        self.image_token, self.text_token = nn.Linear(image_dim, dim), nn.Linear(text_dim, dim)
        self.to_text = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.to_image = nn.MultiheadAttention(dim, heads, dropout, batch_first=True)
        self.image_norm, self.text_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: Encoded, text: Encoded) -> Tensor:
        (v, v_mask), (t, t_mask) = _tokens_and_mask(image), _tokens_and_mask(text)  # (B, T, D), (B, T)
        v, t = self.image_token(self.image(v, v_mask)), self.text_token(self.text(t, t_mask))  # (B, T, dim)
        read, _ = self.to_text(v, t, t, key_padding_mask=~t_mask, need_weights=False)
        seen, _ = self.to_image(t, v, v, key_padding_mask=~v_mask, need_weights=False)
        v, t = self.image_norm(v + read), self.text_norm(t + seen)
        return self.dropout(torch.cat([masked_mean(v, v_mask), masked_mean(t, t_mask)], dim=-1))


class Compare(Fusion):
    """[u, v, |u - v|, u * v] of both in one space through an MLP (InferSent, 2017, https://arxiv.org/abs/1705.02364)."""

    def __init__(self, image_dim: int, text_dim: int, dim: int = 128, dropout: float = 0.3):
        super().__init__(image_dim, text_dim, dim, {"dim": dim, "dropout": dropout})
        self.image = nn.Sequential(self.image, nn.Linear(image_dim, dim), nn.Dropout(dropout))
        self.text = nn.Sequential(self.text, nn.Linear(text_dim, dim), nn.Dropout(dropout))
        self.layers = _multilayer((4 * dim, dim), dropout)

    def forward(self, image: Encoded, text: Encoded) -> Tensor:
        u, v = self.image(image.features), self.text(text.features)  # (B, dim)
        return self.layers(torch.cat([u, v, (u - v).abs(), u * v], dim=-1))


class Late(Fusion):
    """The mean of two classifiers' probabilities (sum rule, Kittler et al. 1998, https://doi.org/10.1109/34.667881)."""

    def __init__(self, image_dim: int, text_dim: int):
        super().__init__(image_dim, text_dim, image_dim + text_dim, {})

    def forward(self, image: Encoded, text: Encoded) -> Tensor:
        return torch.cat([self.image(image.features), self.text(text.features)], dim=-1)

    def head(self, classes: int) -> nn.Module:
        return MeanOfProbabilities(self.image.dim, self.text.dim, classes)


class MeanOfProbabilities(nn.Module):
    """Logits (B, K) whose softmax is the mean of two classifiers' probabilities: log((p + q) / 2)."""

    def __init__(self, image_dim: int, text_dim: int, classes: int):
        super().__init__()
        self.image, self.text = nn.Linear(image_dim, classes), nn.Linear(text_dim, classes)

    def forward(self, features: Tensor) -> Tensor:
        image, text = features.split([self.image.in_features, self.text.in_features], dim=-1)
        p, q = F.log_softmax(self.image(image), dim=-1), F.log_softmax(self.text(text), dim=-1)
        return torch.logaddexp(p, q) - math.log(2)


FUSIONS = {"concatenation": Concatenation, "gated": Gated, "cross_attention": CrossAttention}
FUSIONS |= {"compare": Compare, "late": Late}


def fusion_class(name: str) -> type[Fusion]:
    """The fusion of that name, as "gated"; ValueError that lists them for an unknown one."""
    if name not in FUSIONS:
        raise ValueError(f"there is no fusion {name!r}; there are {', '.join(FUSIONS)}")
    return FUSIONS[name]


class FusedEncoder(Encoder):
    """An image encoder, a text encoder and their fusion as one: from a batch to fused features (B, fusion.dim).

    features_only: hide the tokens from the fusion, as where the features alone of a frozen encoder are cached.
    """

    def __init__(self, image: Encoder, text: Encoder, fusion: Fusion, features_only: bool = False):
        super().__init__()
        self.image, self.text, self.fusion, self.dim = image, text, fusion, fusion.dim
        self.features_only = features_only

    def below(self, layers: int) -> list[str]:
        sides = {"image": self.image, "text": self.text}
        return [f"{side}.{name}" for side, encoder in sides.items() for name in encoder.below(layers)]

    def encode(self, batch: dict) -> Encoded:
        image, text = self.image.encode(batch), self.text.encode(batch)
        if self.features_only:
            image, text = Encoded(image.features), Encoded(text.features)
        return Encoded(self.fusion(image, text))

    def head(self, classes: int) -> nn.Module:
        return self.fusion.head(classes)


def fused_encoder(encoders: Sequence[Encoder], fusion: str, features_only: bool = False) -> Encoder:
    """A copy of one encoder, or of an image and a text encoder, fused; with a frozen one by their features only.

    fusion: a name in FUSIONS, with its default widths; ValueError for another. Copies share what does not learn.
    """
    resting = {id(p): p for encoder in encoders for p in encoder.parameters() if not p.requires_grad}
    parts = [part for encoder in encoders for part in encoder.modules() if hasattr(part, "tokenizer")]
    resting |= {id(part.tokenizer): part.tokenizer for part in parts}  # a large one takes most of a second to copy
    image, *texts = (copy.deepcopy(encoder, dict(resting)) for encoder in encoders)
    if not texts:
        return image
    [text] = texts
    features_only = features_only or image.frozen or text.frozen
    return FusedEncoder(image, text, fusion_class(fusion)(image.dim, text.dim), features_only)


def _multilayer(widths: Sequence[int], dropout: float) -> nn.Sequential:
    layers = [(nn.Linear(*pair), nn.ReLU(), nn.Dropout(dropout)) for pair in pairwise(widths)]
    return nn.Sequential(*chain.from_iterable(layers))


def _tokens_and_mask(encoded: Encoded) -> tuple[Tensor, Tensor]:
    """Tokens (B, T, D) and mask (B, T); the features as one token where there are no tokens."""
    features, tokens, mask = encoded
    if tokens is None:
        tokens, mask = features.unsqueeze(1), None
    return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device) if mask is None else mask
