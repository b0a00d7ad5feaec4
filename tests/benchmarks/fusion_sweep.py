"""A sweep over fusions from cached features against end to end: python tests/benchmarks/fusion_sweep.py [examples]

The sweep of the study: 2 languages x 4 fusions x 5 seeds on the built-in pictures and names, both encoders frozen.
From the cache, it is timed whole, the encoders' one pass included. End to end, where each training runs both encoders
on every batch, one epoch is timed and multiplied by the 40 trainings. Asked for: 50 times as fast.
"""

import os
import sys
import tempfile

import pandas as pd
import torch
from compare import seconds

from mmutils import data
from mmutils.batches import Batches
from mmutils.methods.supervised import Supervised
from mmutils.models import fusion
from mmutils.models.classifier import Classifier
from mmutils.models.encoder import CachedEncoder
from mmutils.models.features import features
from mmutils.models.image import ImageEncoder
from mmutils.models.text import TextEncoder
from mmutils.training.loop import TrainConfig, fit

FUSIONS = ("concatenation", "gated", "cross_attention", "late")
SEEDS, EPOCHS = range(5), 12


def train(image, text, name: str, batches: Batches, seed: int, epochs: int) -> None:
    torch.manual_seed(seed)
    fused = fusion.FusedEncoder(image, text, fusion.fusion_class(name)(image.dim, text.dim))
    fit(Supervised(Classifier(fused, 7)), batches, TrainConfig(epochs, seed=seed))


def cached_sweep(image: ImageEncoder, text: TextEncoder, tables: dict[str, pd.DataFrame]) -> None:
    for table in tables.values():
        seen = features(image, Batches(table, 64, image_size=image.size), tokens=True)
        read = features(text, Batches(table, 64, tokenizer=text.tokenizer), tokens=True)
        extra = {"picture": seen["features"], "picture_tokens": seen["tokens"], "picture_mask": seen["mask"]}
        extra |= {"text": read["features"], "text_tokens": read["tokens"], "text_mask": read["mask"]}
        batches = Batches(table, 32, extra=extra, shuffle=True)
        for name in FUSIONS:
            for seed in SEEDS:
                train(CachedEncoder("picture", image.dim), CachedEncoder("text", text.dim), name, batches, seed, EPOCHS)


def main(examples: int = 320) -> None:
    with tempfile.TemporaryDirectory() as folder:
        image = ImageEncoder("tf_efficientnet_lite0", pretrained=True, frozen=True)
        text = TextEncoder("intfloat/multilingual-e5-small", frozen=True)
        topics = data.dataset("emoji_topics")
        tables = {name: data.subset(topics.examples(None, "train", language=name), examples) for name in ("en", "hi")}
        batches = Batches(tables["en"], 32, image_size=image.size, tokenizer=text.tokenizer, shuffle=True)
        epoch = seconds(lambda: train(image, text, "concatenation", batches, 0, epochs=1))
        os.environ["MMUTILS_CACHE"] = folder  # empty: the encoders' pass is part of what is timed
        ours = seconds(lambda: cached_sweep(image, text, tables))
    whole = epoch * EPOCHS * len(tables) * len(FUSIONS) * len(SEEDS)
    print(
        f"{examples} examples, {EPOCHS} epochs, 40 trainings: end to end {whole:.0f} s ({epoch:.1f} s an epoch), ",
        end="",
    )
    print(f"from cached features {ours:.1f} s with the encoders' pass: {whole / ours:.0f} times as fast")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
