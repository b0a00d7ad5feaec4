"""What `fit` costs beside the network: python tests/benchmarks/fit_overhead.py

Against the bare forward, backward and optimizer step on tensors that are ready. Both train a ResNet-18 on pictures of
64 pixels in batches of 64 in float32; the bare loop has its tensors ready, fit draws, augments and moves its own,
sets schedules, clips gradients and watches the loss. Asked for: fit at most 5 % slower. Pairs scatter by more,
so the share of drawing and augmenting is printed too.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from compare import compare, seconds
from PIL import Image
from torch import nn

from mmutils.batches import Batches
from mmutils.batches.augment import Augment
from mmutils.methods import Method
from mmutils.training.loop import TrainConfig, fit


class Plain(Method):
    """Cross-entropy on a timm network."""

    def __init__(self):
        super().__init__()
        self.network = timm.create_model("resnet18", num_classes=7)

    def loss(self, batch: dict, progress: float) -> torch.Tensor:
        return nn.functional.cross_entropy(self.network(batch["image"]), batch["label"])

    def encoders(self) -> dict[str, nn.Module]:
        return {"network": self.network}


def main(steps: int = 6, repeats: int = 5) -> None:
    torch.set_num_threads(2)
    count = 64 * steps
    with tempfile.TemporaryDirectory() as folder:
        for number in range(8):
            noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(Path(folder) / f"{number}.png")
        paths = [str(Path(folder) / f"{number % 8}.png") for number in range(count)]
        ids = [str(number) for number in range(count)]
        examples = pd.DataFrame({"id": ids, "group": ids, "image": paths, "text": "", "label": np.arange(count) % 7})
        batches = Batches(examples, 64, image_size=64, augment=Augment(64), shuffle=True)
        ready = list(batches.epoch())
        method, bare = Plain(), Plain()
        optimizer = torch.optim.AdamW(bare.parameters(), 1e-3, fused=True)  # as fit uses

        def bare_loop() -> None:
            for batch in ready:
                optimizer.zero_grad()
                bare.loss(batch, 0.0).backward()
                optimizer.step()

        def fit_once() -> list[dict]:
            return fit(method, batches, TrainConfig(1))

        ratio = compare(f"ResNet-18, {steps} steps", bare_loop, fit_once, repeats)
        share = seconds(lambda: list(batches.epoch())) / seconds(fit_once)
        print(
            f"fit takes {100 * (1 / ratio - 1):+.1f} % against the bare loop, {100 * share:.1f} % of it for its batches"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
