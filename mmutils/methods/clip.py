"""CLIP: the picture and the text of one example agree, those of two examples do not.

Radford et al. 2021, https://arxiv.org/abs/2103.00020. Each side is encoded, projected without bias and L2-normalised;
a batch of B examples then is B questions "which of the B texts belongs to this picture?" and B the other way round.
Two examples with the same text or the same picture are no wrong answers for each other: such pairs are left out.
The negatives are the other examples of the batch, so a large batch is part of the method.
"""

import math

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmutils.evaluation.collapse import Watch, check_batch
from mmutils.methods import Method


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor | float, same: Tensor | None = None) -> Tensor:
    """Symmetric cross-entropy in nats of B images and texts that belong together row by row.

    image, text: (B, E), L2-normalised. scale: factor on the cosines, 1 / temperature.
    same: (B, B) bool, symmetric; True where two examples are no negatives of each other (the diagonal is ignored).
    log B when all cosines are equal and nothing is left out; towards 0 when each row is nearest to its partner.
    """
    logits = scale * image @ text.T  # (B, B), a row per image
    if same is not None:
        logits = logits.masked_fill(without_diagonal(same), -math.inf)
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def without_diagonal(same: Tensor) -> Tensor:
    """The (B, B) bool matrix with False on the diagonal: an example is always its own partner."""
    return same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)


def chance(same: Tensor) -> Tensor:
    """What `contrastive_loss` is when all cosines are equal: mean of log(answers left), log B without duplicates."""
    return (~without_diagonal(same)).sum(dim=1).float().log().mean()


def equal_rows(values: Tensor) -> Tensor:
    """(B, B) bool from (B,) or (B, T): True where two rows are equal in every place."""
    rows = values.reshape(len(values), -1)
    return (rows[:, None] == rows[None]).all(dim=-1)


def duplicates(batch: dict) -> Tensor:
    """(B, B) bool: True where two examples of the batch have the same text or the same picture.

    Texts are compared by `text_key` (B,) int64 where the batch has it, else by their tokens. Pictures are compared by
    `image_key` only: after augmentation the same picture has other pixels. `duplicate_keys` makes both.
    """
    same = torch.eye(len(batch["id"]), dtype=torch.bool)
    if "text_key" in batch:
        same = same.to(batch["text_key"].device) | equal_rows(batch["text_key"])
    elif "input_ids" in batch:
        tokens = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -1)  # padding equals padding only
        same = same.to(tokens.device) | equal_rows(tokens)
    if "image_key" in batch:
        same = same.to(batch["image_key"].device) | equal_rows(batch["image_key"])
    return same


def duplicate_keys(examples: pd.DataFrame) -> dict[str, Tensor]:
    """`text_key` and `image_key` (N,) int64 for Batches(extra=...): equal where text or picture file is the same."""
    text = examples["text"].str.strip().str.casefold()
    columns = {"text_key": text, "image_key": examples["image"].astype(str)}
    return {name: torch.from_numpy(pd.factorize(column)[0]).long() for name, column in columns.items()}


class CLIP(Method):
    """Contrastive pretraining of an image and a text encoder.

    image, text: encoders (batch to features). dim: E of the shared embedding. temperature: where the learned
    temperature starts; its inverse, the scale, is kept in [1, 100] after each step. minimum_batch: a smaller batch is a
    ValueError, as there would be hardly a negative (with one example the loss is 0 whatever the encoders do).
    """

    def __init__(self, image: nn.Module, text: nn.Module, dim: int = 256, temperature: float = 0.07, minimum_batch=8):
        super().__init__()
        self.image, self.text = image, text
        self.image_projection = nn.Linear(image.dim, dim, bias=False)
        self.text_projection = nn.Linear(text.dim, dim, bias=False)
        for projection in (self.image_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)))
        self.minimum_batch = minimum_batch
        self.watch = Watch()

    def embed_image(self, batch: dict) -> Tensor:
        """L2-normalised embeddings (B, E) of the pictures."""
        return F.normalize(self.image_projection(self.image(batch).float()), dim=-1)

    def embed_text(self, batch: dict) -> Tensor:
        """L2-normalised embeddings (B, E) of the texts."""
        return F.normalize(self.text_projection(self.text(batch).float()), dim=-1)

    def loss(self, batch: dict, progress: float) -> Tensor:
        """`contrastive_loss` of the batch in nats. ValueError when the batch is smaller than minimum_batch."""
        check_batch(len(batch["id"]), self.minimum_batch, "CLIP", "the other examples of a batch are its negatives")
        image, text = self.embed_image(batch), self.embed_text(batch)  # (B, E) each
        same = duplicates(batch).to(image.device)
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

    def monitor(self) -> dict[str, float]:
        return self.watch.read()
