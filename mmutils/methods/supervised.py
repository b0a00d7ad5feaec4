"""Supervised training: cross-entropy of a classifier's logits with the labels."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmutils.methods import Method


class Supervised(Method):
    """Train a classifier, a module from a batch to logits (B, K) with an `encoder`; class_weights (K,): of the loss."""

    def __init__(self, classifier: nn.Module, class_weights: Tensor | None = None):
        super().__init__()
        self.classifier = classifier
        self.register_buffer("class_weights", class_weights, persistent=False)

    def loss(self, batch: dict, progress: float) -> Tensor:
        """Cross-entropy in nats, log K at chance. Every example needs a label."""
        return F.cross_entropy(self.classifier(batch), batch["label"], self.class_weights)

    def encoders(self) -> dict[str, nn.Module]:
        return {"encoder": self.classifier.encoder}
