"""Supervised training: cross-entropy of a classifier's logits with the labels."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmutils.methods import Method


class Supervised(Method):
    """Train a classifier.

    label_smoothing: share of the target given to all classes alike (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567).
    class_weights: K numbers that weigh the examples of each class, for unbalanced data.
    """

    def __init__(
        self, classifier: nn.Module, label_smoothing: float = 0.0, class_weights: Sequence[float] | Tensor | None = None
    ):
        super().__init__()
        self.classifier, self.label_smoothing = classifier, label_smoothing
        given = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", given)

    def loss(self, batch: dict, progress: float) -> Tensor:
        """Cross-entropy in nats, log K at chance. Every example needs a label."""
        logits = self.classifier(batch)  # (B, K)
        return F.cross_entropy(logits, batch["label"], self.class_weights, label_smoothing=self.label_smoothing)

    def encoders(self) -> dict[str, nn.Module]:
        return {"encoder": self.classifier.encoder}
