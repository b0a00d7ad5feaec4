"""How cost grows with the work: python tests/benchmarks/growth.py draws growth.svg and prints its numbers.

With examples, from 1,000 to 100,000: decoding picture files, an epoch of augmented views, an epoch of a head on cached
features, all scores of predictions, their interval (200 resamples of AUROC). With resamples, of 2,000 examples and five
seeds. With systems, each compared with the next on 1,000 examples. Slopes are those of the logarithms, between the last
two points: 1 is linear. Asked for: about 1 or less.
"""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from compare import seconds
from PIL import Image

from mmutils import statistics
from mmutils.batches import Batches
from mmutils.batches.augment import Augment
from mmutils.batches.images import decode
from mmutils.methods.supervised import Supervised
from mmutils.models.classifier import Classifier
from mmutils.models.encoder import CachedEncoder
from mmutils.report import plots
from mmutils.statistics.scores import scores
from mmutils.training.loop import TrainConfig, fit

EXAMPLES, RESAMPLES, SYSTEMS = (1_000, 10_000, 100_000), (1_000, 3_000, 10_000, 30_000), (5, 20, 80)
SIZE = 32  # pixels
LINKS = 50_000  # names of one file; ext4 allows 65,000


def predictions(count: int, seed: int = 0) -> pd.DataFrame:
    """Those of one seed on `count` made examples, right more often than not."""
    generator, ids = np.random.default_rng(seed), [str(number) for number in range(count)]
    labels = np.arange(count) % 2
    p = 1 / (1 + np.exp(-generator.normal(labels - 0.5)))
    return pd.DataFrame({"id": ids, "group": ids, "label": labels, "p_0": 1 - p, "p_1": p, "seed": seed})


def on_examples(folder: Path) -> dict[str, Callable[[int], Callable[[], object]]]:
    """By what is done: from a number of examples to the work, which is timed alone."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for number in range(max(EXAMPLES)):
        first = number // LINKS * LINKS
        if number == first:
            Image.fromarray(noise).save(folder / f"{number}.jpg")
        else:
            os.link(folder / f"{first}.jpg", folder / f"{number}.jpg")
    paths = [str(folder / f"{number}.jpg") for number in range(max(EXAMPLES))]

    def rows(count: int) -> pd.DataFrame:
        return predictions(count).assign(image=paths[:count], text="")

    def views(count: int) -> Callable:
        batches = Batches(rows(count), 256, image_size=SIZE, augment=Augment(SIZE), shuffle=True)
        return lambda: sum(1 for _ in batches.epoch())

    def head(count: int) -> Callable:
        batches = Batches(rows(count), 256, extra={"text": torch.randn(count, 384)}, shuffle=True)
        method = Supervised(Classifier(CachedEncoder("text", 384), 2))
        return lambda: fit(method, batches, TrainConfig(1))

    return {
        "decoding": lambda count: partial(decode, paths[:count], SIZE),
        "an epoch of views": views,
        "an epoch of a head": head,
        "scores": lambda count: partial(scores, predictions(count).drop(columns="seed")),
        "interval": lambda c: partial(statistics.bootstrap_interval, predictions(c), "auroc", resamples=200),
    }


def resampled(count: int) -> Callable:
    table = pd.concat([predictions(2_000, seed) for seed in range(5)])
    return partial(statistics.bootstrap_interval, table, "auroc", resamples=count)


def compared(count: int) -> Callable:
    tables = [predictions(1_000, seed).assign(seed=0) for seed in range(count + 1)]
    pairs = {number: (tables[number], tables[number + 1]) for number in range(count)}
    return partial(statistics.compare_pairs, pairs, "auroc", resamples=2_000)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        os.environ["MMUTILS_CACHE"] = str(Path(name, "cache"))
        by_examples = on_examples(Path(name))
        lines = {("examples", kind): (EXAMPLES, work) for kind, work in by_examples.items()}
        lines |= {
            ("resamples", "interval, five seeds"): (RESAMPLES, resampled),
            ("systems", "comparisons"): (SYSTEMS, compared),
        }
        figure, axes = plots.new_figure(7, 3, ncols=3, sharey=True)
        for (axis_name, kind), (counts, work) in lines.items():
            times = [seconds(work(count)) for count in counts]
            slope = np.diff(np.log(times[-2:]))[0] / np.diff(np.log(counts[-2:]))[0]
            listed = ", ".join(f"{count:,}: {time:.2f} s" for count, time in zip(counts, times, strict=True))
            print(f"{axis_name}, {kind}: {listed}; slope {slope:.2f}", flush=True)
            axis = axes[["examples", "resamples", "systems"].index(axis_name)]
            axis.loglog(counts, times, marker="o", markersize=3, label=kind)
            axis.set(xlabel=axis_name)
            axis.set_xticks(counts, [f"{count:,}" for count in counts])
            axis.xaxis.minorticks_off()
    figure.legend(loc="outside upper left", ncols=4)
    axes[0].set(ylabel="seconds")
    axes[0].set_yticks((0.01, 0.1, 1, 10), ("0.01", "0.1", "1", "10"))
    Path(__file__).with_suffix(".svg").write_bytes(plots.svg(figure))


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
