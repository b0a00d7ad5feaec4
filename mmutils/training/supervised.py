"""Repeat one supervised training over several seeds, and choose between systems on val.

One number from one run says little: initialisation and order alone move scores by several points (Bouthillier et al.
2021, https://arxiv.org/abs/2103.03098). So every system is trained once per seed, and every prediction is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from mmutils.batches import Batches
from mmutils.data import require_labels
from mmutils.evaluation.predictions import predict
from mmutils.methods.supervised import Supervised
from mmutils.models.classifier import Classifier
from mmutils.statistics.scores import scores
from mmutils.training.checkpoint import place
from mmutils.training.loop import TrainConfig, fit


def train_seeds(
    system: str,
    build: Callable[[], Classifier],
    batches: Mapping[str, Batches],
    config: TrainConfig,
    seeds: Sequence[int],
    select: str = "f1_macro",
    checkpoint: Path | None = None,
    after: Callable[[str, int, Classifier], None] | None = None,
) -> tuple[list[dict], pd.DataFrame]:
    """Train `build()` once per seed on batches["train"]; return history rows and predictions on val and test.

    The epoch with the best `select` score on val is kept, or on `selection`, a part of val, where that is among the
    batches; test is read once per seed, after that choice. Both results carry the columns `system` and `seed`, as
    `runs.save` wants them. With `checkpoint`, a folder, a stopped repetition goes on where it was. `after` is called
    with system, seed and the trained classifier.
    ValueError for examples without a label, before anything is trained.
    """
    require_labels({split: rows.examples for split, rows in batches.items()})
    selection = batches.get("selection", batches["val"])
    history, predictions = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        method = Supervised(build())
        batches["train"].seed = seed
        rows = fit(
            method,
            batches["train"],
            replace(config, seed=seed),
            evaluate=lambda method: scores(predict(method.classifier, selection)),
            select=select,
            checkpoint=place(checkpoint, system, seed),
            evaluated_on={"val": selection},
        )
        history += [{"system": system, "seed": seed, **row} for row in rows]
        for split in ("val", "test"):
            frame = predict(method.classifier, batches[split])
            predictions.append(frame.assign(system=system, seed=seed, split=split))
        if after:
            after(system, seed, method.classifier)
    return history, pd.concat(predictions, ignore_index=True)


def best_on_val(predictions: pd.DataFrame, score: str = "f1_macro") -> str:
    """Return the system whose mean `score` over the seeds is best on val. Test is not looked at."""
    val = predictions[predictions["split"] == "val"]
    if val.empty:
        raise ValueError("best_on_val: the predictions have no rows of split 'val' to choose on")
    means = {
        system: sum(scores(rows)[score] for _, rows in table.groupby("seed")) / table["seed"].nunique()
        for system, table in val.groupby("system", sort=False)
    }
    return max(means, key=means.get)


def mean_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Mean ± standard deviation over the seeds, percent: a row for each system and split, a column for each score."""
    names = ["accuracy", "f1_macro", "f1_weighted", "auroc"]
    rows = [
        {"system": system, "split": split, **scores(table)}
        for (system, split, _), table in predictions.groupby(["system", "split", "seed"], sort=False)
    ]
    groups = (100 * pd.DataFrame(rows).set_index(["system", "split"])[names]).groupby(level=[0, 1], sort=False)
    return groups.mean().map("{:.1f}".format) + " ± " + groups.std().fillna(0).map("{:.1f}".format)


def describe_systems(predictions: pd.DataFrame, chosen: str, **entries) -> list[dict]:
    """What the record says of each system in the predictions: the entries, the same for all or a dict by system.

    `model`, the readable name, is the system's own where it is not given; `method` is "supervised".
    """
    named = {"method": "supervised", **entries}
    return [
        {"system": name, "model": name, "chosen": name == chosen}
        | {key: value[name] if isinstance(value, dict) else value for key, value in named.items()}
        for name in predictions["system"].unique()
    ]
