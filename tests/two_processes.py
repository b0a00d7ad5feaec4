"""Trains a tiny network by one method, alone or as one of several processes; test_distributed.py starts them."""

import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmutils.batches import Batches
from mmutils.methods.cass import CASS
from mmutils.methods.clip import CLIP, duplicate_keys
from mmutils.methods.dino import DINO
from mmutils.methods.supervised import Supervised
from mmutils.models.classifier import Classifier
from mmutils.models.encoder import Encoded, Encoder
from mmutils.models.fusion import Concatenation, FusedEncoder
from mmutils.training import distributed
from mmutils.training.loop import TrainConfig, fit


class Tiny(Encoder):
    """Two layers on pictures of 3 x 4 x 4 or on words."""

    def __init__(self, key: str):
        super().__init__()
        self.key, self.dim = key, 16
        norm = nn.LayerNorm(16, bias=False)  # in front of a batch norm a bias learns from rounding errors alone
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(32), nn.GELU(), nn.Linear(32, 16), norm)
        self.layers(torch.zeros(2, 48 if key == "image" else 8))  # the lazy layer gets its size

    def encode(self, batch: dict) -> Encoded:
        return Encoded(self.layers(batch[self.key]))


class Made(Batches):
    """Examples with made pictures: one of each, or `views` noisy ones of two sizes."""

    views = 0

    def _batch(self, rows: Tensor, generator: torch.Generator) -> dict:
        batch = super()._batch(rows, generator)
        picture = batch.pop("picture")
        noise = [torch.randn(picture.shape, generator=generator) for _ in range(self.views)]
        return batch | {"image": [picture + 0.1 * part for part in noise] if noise else picture}


def batches(count: int = 37, size: int = 16) -> Made:
    """37 examples in batches of 16, 16 and 5, some with the same words, some with the same picture."""
    generator = torch.Generator().manual_seed(1)
    picture, words = torch.randn(count, 3, 4, 4, generator=generator), torch.randn(count, 8, generator=generator)
    rows = [{"id": str(i), "label": i % 3, "text": str(i // 2), "image": str(i // 3)} for i in range(count)]
    examples = pd.DataFrame(rows)
    extra = {"picture": picture, "words": words} | duplicate_keys(examples)
    return Made(examples, size, extra=extra, shuffle=True)


def fused() -> Encoder:
    image, words = Tiny("image"), Tiny("words")
    return FusedEncoder(image, words, Concatenation(16, 16, (12,), dropout=0.0))


METHODS = {
    "supervised": lambda: Supervised(Classifier(Tiny("image"), 3)),
    "fused": lambda: Supervised(Classifier(fused(), 3)),
    "clip": lambda: CLIP(Tiny("image"), Tiny("words"), 8),
    "dino": lambda: DINO(Tiny("image"), 24, 16, 8, clip=1.0, momentum=0.9),
    "contrastive": lambda: CASS(Tiny("image"), Tiny("image"), 8, cure="contrastive"),
    "variance": lambda: CASS(Tiny("image"), Tiny("image"), 8, 16, cure="variance"),  # with batch norm
    "stop_gradient": lambda: CASS(Tiny("image"), Tiny("image"), 8, 16, cure="stop_gradient"),
    "batch_norm": lambda: Supervised(Classifier(with_batch_norm(), 3)),
}


def with_batch_norm() -> Encoder:
    encoder = Tiny("image")
    encoder.layers[-1] = nn.BatchNorm1d(16)
    return encoder


def train(name: str, checkpoint: str | None = None) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of three epochs and the weights at the end."""
    torch.manual_seed(0)
    method, examples = METHODS[name](), batches()
    method.minimum_batch = 4
    examples.views = 3 if name == "dino" else 0
    history = fit(method, examples, TrainConfig(3, learning_rate=3e-3, clip=1.0, precision="no"), checkpoint=checkpoint)
    return [row["loss"] for row in history], method.state_dict()


def main(names: list[str], file: str) -> None:
    """All methods in turn; a ValueError is kept as text.

    The first process writes the losses, the weights and whether all others ended with the same ones.
    """
    found = {}
    for name in names:
        try:
            losses, weights = train(name)
        except ValueError as error:
            found[name] = str(error)
            continue
        flat = torch.cat([value.flatten().double() for value in weights.values()])
        parts = [torch.empty_like(flat) for _ in range(distributed.processes())]
        dist.all_gather(parts, flat)
        found[name] = losses, weights, all(torch.equal(part, flat) for part in parts)
    if distributed.is_main():
        torch.save(found, file)
    distributed.leave()
