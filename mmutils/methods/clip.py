"""CLIP: the picture and the text of one example agree, those of two examples do not.

Radford et al. 2021, https://arxiv.org/abs/2103.00020. The negatives are the other examples of the batch, so a large
batch is part of the method. Two examples with the same text or the same picture are not negatives of each other.
"""

import math

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmutils.methods import Method


class CLIP(Method):
    """Contrastive pretraining of an image and a text encoder.

    Args:
        image, text: encoders, from a batch to features (B, D).
        dim: E of the shared embedding.
        temperature: initial value of the learned temperature. Its inverse, the scale, stays in [1, 100].
    """

    def __init__(self, image: nn.Module, text: nn.Module, dim: int = 256, temperature: float = 0.07):
        super().__init__()
        self.image, self.text = image, text
        self.image_projection = nn.Linear(image.dim, dim, bias=False)
        self.text_projection = nn.Linear(text.dim, dim, bias=False)
        for projection in (self.image_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))

    def embed_image(self, batch: dict) -> Tensor:
        """L2-normalised embeddings (B, E) of the pictures."""
        return F.normalize(self.image_projection(self.image(batch).float()), dim=-1)

    def embed_text(self, batch: dict) -> Tensor:
        """L2-normalised embeddings (B, E) of the texts."""
        return F.normalize(self.text_projection(self.text(batch).float()), dim=-1)

    def loss(self, batch: dict, progress: float) -> Tensor:
        """`contrastive_loss` of the batch in nats. ValueError for fewer than `minimum_batch` examples."""
        self.check_batch(len(batch["id"]), "the other examples of a batch are its negatives")
        image, text = self.embed_image(batch), self.embed_text(batch)  # (B, E) each
        same = duplicates(batch).to(image.device)  # (B, B)
        self.watch.keep("image", image)
        self.watch.keep("text", text)
        self.watch.add(loss_chance=chance(same), scale=self.log_scale.exp())
        return contrastive_loss(image, text, self.log_scale.exp(), same)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Keep the scale in [1, 100]."""
        self.log_scale.clamp_(0, math.log(100))

    def encoders(self) -> dict[str, nn.Module]:
        return {"image": self.image, "text": self.text}


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor | float, same: Tensor | None = None) -> Tensor:
    """Symmetric cross-entropy in nats: which of the B texts belongs to an image, and which image to a text.

    log B when all cosines are equal and no pair is left out; towards 0 when each row is nearest to its partner.

    Args:
        image, text: (B, E), L2-normalised; row i of one belongs to row i of the other.
        scale: factor on the cosines, 1 / temperature.
        same: (B, B) bool, True where two examples are not negatives of each other. The diagonal is ignored.
    """
    logits = scale * image @ text.T  # (B, B), a row per image
    if same is not None:
        logits = logits.masked_fill(_without_diagonal(same), -math.inf)
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def chance(same: Tensor) -> Tensor:
    """`contrastive_loss` when all cosines are equal: the mean of log(answers left), log B without duplicates."""
    return (~_without_diagonal(same)).sum(dim=1).float().log().mean()


def _without_diagonal(same: Tensor) -> Tensor:
    """The (B, B) bool matrix with False on the diagonal: an example is always its own partner."""
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)


def duplicates(batch: dict) -> Tensor:
    """(B, B) bool: True where two examples of the batch have the same text or the same picture.

    Texts are compared by `text_key` where the batch has it, else by their tokens; pictures by `image_key` only, since
    augmentation changes their pixels. `duplicate_keys` makes both keys.
    """
    keys = [batch[name] for name in ("text_key", "image_key") if name in batch]  # (B,) each
    if "input_ids" in batch and "text_key" not in batch:
        keys.append(batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -1))  # (B, T), padding is -1
    same = torch.eye(len(batch["id"]), dtype=torch.bool)
    for key in keys:
        rows = key.reshape(len(key), -1)
        same = same.to(key.device) | (rows[:, None] == rows[None]).all(dim=-1)
    return same


def duplicate_keys(examples: pd.DataFrame) -> dict[str, Tensor]:
    """`text_key` and `image_key` (N,) int64 for Batches(extra=...): equal where text or picture file is the same."""
    text = examples["text"].str.strip().str.casefold()
    columns = {"text_key": text, "image_key": examples["image"].astype(str)}
    return {name: torch.from_numpy(pd.factorize(column)[0]).long() for name, column in columns.items()}
