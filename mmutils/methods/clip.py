"""CLIP: the picture and the text of one example agree, those of two examples do not.

Radford et al. 2021, https://arxiv.org/abs/2103.00020. The negatives of an example are the others of its batch, so a
large batch is part of the method; but not those with the same text or the same picture. Large ones fit into memory in
chunks that are encoded anew in the backward pass, as in Gao et al. 2021 (https://arxiv.org/abs/2101.06983).
"""

import math

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmutils.methods import Method


class CLIP(Method):
    """Contrastive pretraining of an image and a text encoder, with a learned scale, 1 / temperature, in [1, 100].

    Args:
        dim: E of the shared embedding.
        chunk: examples whose activations are in memory at once, 0 for all. The loss and its gradient are the same, but
            batch norms take their statistics from a chunk, and count it twice.
    """

    def __init__(self, image: nn.Module, text: nn.Module, dim: int = 256, chunk: int = 0):
        super().__init__()
        self.image, self.text, self.chunk = image, text, chunk
        self.image_projection, self.text_projection = (nn.Linear(side.dim, dim, bias=False) for side in (image, text))
        for projection in (self.image_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def embed_image(self, batch: dict) -> Tensor:
        """L2-normalised embeddings (B, E) of the pictures."""
        return F.normalize(self.image_projection(self._features(self.image, batch)), dim=-1)

    def embed_text(self, batch: dict) -> Tensor:
        """L2-normalised embeddings (B, E) of the texts."""
        return F.normalize(self.text_projection(self._features(self.text, batch)), dim=-1)

    def _features(self, encoder: nn.Module, batch: dict) -> Tensor:
        """Features (B, D) float32; in training those of one chunk after the other, without keeping activations."""
        count = len(batch["id"])
        if not (self.training and 0 < self.chunk < count):
            return encoder(batch).float()
        parts = [{key: batch[key][i : i + self.chunk] for key in batch} for i in range(0, count, self.chunk)]
        return torch.cat([checkpoint(encoder, part, use_reentrant=False).float() for part in parts])

    def loss(self, batch: dict, progress: float) -> Tensor:
        self.check_batch(len(batch["id"]))
        image, text = self.embed_image(batch), self.embed_text(batch)  # (B, E) each
        same = duplicates(batch).to(image.device)  # (B, B)
        self.watch.keep(image=image, text=text)
        self.watch.add(loss_chance=chance(same), scale=self.log_scale.exp())
        return contrastive_loss(image, text, self.log_scale.exp(), same)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        self.log_scale.clamp_(0, math.log(100))

    def encoders(self) -> dict[str, nn.Module]:
        return {"image": self.image, "text": self.text}


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor | float, same: Tensor | None = None) -> Tensor:
    """Symmetric cross-entropy in nats: which of the B texts belongs to an image, and which image to a text.

    `chance` when all cosines are equal; towards 0 when each row is nearest to its partner.

    Args:
        image, text: (B, E), L2-normalised; row i of one belongs to row i of the other. scale: 1 / temperature.
        same: (B, B) bool, True where two examples are not negatives of each other. The diagonal is ignored.
    """
    logits = scale * image @ text.T  # (B, B), a row per image
    if same is not None:
        logits = logits.masked_fill(same & ~torch.eye(len(same), dtype=torch.bool, device=same.device), -math.inf)
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def chance(same: Tensor) -> Tensor:
    """`contrastive_loss` when all cosines are equal: the mean of log(answers left), log B without duplicates."""
    return (1 + (~same).sum(dim=1)).float().log().mean()


def duplicates(batch: dict) -> Tensor:
    """(B, B) bool: True on the diagonal and where two examples have the same text or picture, by `duplicate_keys`.

    Without `text_key` texts are compared by their tokens; pictures only by `image_key`, since views change pixels.
    """
    keys = [batch[name][:, None] for name in ("text_key", "image_key") if name in batch]  # (B, 1) each
    if "input_ids" in batch and "text_key" not in batch:
        keys.append(batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -1))  # (B, T), padding is -1
    same = torch.eye(len(batch["id"]), dtype=torch.bool)
    for key in keys:
        same = same.to(key.device) | (key[:, None] == key).all(dim=-1)
    return same


def duplicate_keys(examples: pd.DataFrame) -> dict[str, Tensor]:
    """`text_key` and `image_key` (N,) int64 for Batches(extra=...): equal where text or picture file is the same."""
    columns = {"text_key": examples["text"].str.strip().str.casefold(), "image_key": examples["image"].astype(str)}
    return {name: torch.from_numpy(pd.factorize(column)[0]).long() for name, column in columns.items()}
