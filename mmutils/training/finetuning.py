"""Fine-tuning: every start with every share of the labels and every seed; the best classifier; a submission file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from mmutils.batches import Batches
from mmutils.batches.augment import Augment
from mmutils.evaluation.export import export_classifier
from mmutils.evaluation.modalities import joint_logits
from mmutils.statistics.scores import scores
from mmutils.training import checkpoint
from mmutils.training.loop import TrainConfig
from mmutils.training.starts import Start
from mmutils.training.supervised import Trainings, fused_classifier


def finetune(
    starts: Mapping[str, Mapping[int, Start]],
    tables: Mapping[str, pd.DataFrame],
    shares: Sequence[float],
    trainings: Trainings,
    config: TrainConfig,
    classes: int,
    *,
    fusion: str,
    batch_size: int,
    balanced: bool = False,
) -> None:
    """Train a classifier from each start, on each share of the labels, with each of the trainings' seeds.

    A system is called "<start>, <share> % of labels". Of classifiers of picture and text on the largest share, the
    logits of every text with every picture of test are kept (`joint_logits`). Pictures of image encoders that learn are
    augmented as `Augment.text_safe` does.

    Args:
        shares: of the labels of train, in (0, 1]; a smaller one is trained for more epochs, up to 4 times as many.
        balanced: whether all classes weigh the same in the loss, however many examples they have.
    """
    for (name, by_seed), share, seed in product(starts.items(), shares, trainings.seeds):
        start = by_seed[seed]
        batches = finetuning_batches(tables, start, share, seed, batch_size)
        both = len(start.encoders) == 2 and share == max(shares)
        keep = partial(joint_logits, batches=batches["test"]) if both else None
        build = partial(fused_classifier, start.trained, fusion, classes, bool(start.features["train"]))
        longer = replace(config, epochs=round(config.epochs * min(4, 1 / share)))
        labels = {"labels": len(batches["train"].ids), "val_labels": len(batches.get("selection", batches["val"]).ids)}
        description = {**start.description, "share": share, **labels}
        options = {"keep": keep, "class_weights": class_weights(batches["train"], classes) if balanced else None}
        system = f"{name}, {100 * share:.3g} % of labels"
        trainings.train(system, build, batches, longer, seeds=[seed], **options, **description)


def class_weights(batches: Batches, classes: int) -> Tensor:
    """Weights (K,) with which every class counts the same in the loss, 1 on average over the examples."""
    counts = torch.bincount(batches.labels, minlength=classes).clamp(min=1)
    return len(batches.labels) / (classes * counts)


def share_of_labels(examples: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """That share of each class, at least one example, drawn with the seed, in the old order and with the old index."""
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: give a share of the labels above 0 and at most 1")
    rows = examples.sample(frac=1, random_state=seed)  # a class's first rows in this order are drawn
    counts = rows["label"].map((rows["label"].value_counts() * share).round().clip(lower=1))
    return examples.loc[sorted(rows.index[rows.groupby("label").cumcount() < counts])]


def finetuning_batches(
    tables: dict[str, pd.DataFrame], start: Start, share: float, seed: int, size: int
) -> dict[str, Batches]:
    """Batches of train, val and test, with a share of train's labels, and smaller batches where few are left.

    A batch of train has at most a quarter of its rows, so that an epoch has some steps, but not fewer than 16. The
    batches of `selection`, the same share of val, are those whose labels choose the epoch.
    """
    many = 64 if "image_size" in start.inputs else 512  # of large pictures 512 at once do not fit into 16 GB

    def part(split: str, most: int, **options) -> Batches:
        rows = share_of_labels(tables[split], share, seed)
        features = {key: values[rows.index] for key, values in start.features[split].items()}
        return Batches(rows, min(most, max(16, len(rows) // 4)), extra=features, **options, **start.inputs)

    drawn = {"shuffle": True, "by_length": "tokenizer" in start.inputs, "seed": seed}
    if "image_size" in start.inputs:
        drawn["augment"] = Augment.text_safe(start.inputs["image_size"])
    parts = {"train": part("train", size, **drawn), "selection": part("val", many)}
    for split in ("val", "test"):
        parts[split] = Batches(tables[split], many, extra=start.features[split], **start.inputs)
    return parts


def export_best(
    out: str | Path, record: dict, predictions: pd.DataFrame, system: str, start: dict, join: str, texts: Iterable[str]
) -> Path:
    """Export the system's classifier of the seed best in AUROC on val as <out>/model (see `export_classifier`).

    start: what it was trained from, a `Start` by seed.
    """
    rows = predictions[predictions["system"] == system]
    val = rows[rows["split"] == "val"]
    seed = max(val["seed"].unique(), key=lambda seed: scores(val[val["seed"] == seed])["auroc"])
    weights = checkpoint.read(checkpoint.place(Path(out, "checkpoints"), system, seed) / checkpoint.NAME)["method"]
    rows, encoders = rows[rows["seed"] == seed], start[seed].encoders
    return export_classifier(Path(out, "model"), record, rows, weights, encoders, join, texts)


def submission(predictions: pd.DataFrame, file: str | Path) -> pd.DataFrame:
    """Write and return a system's answers, means over its seeds: `id,proba,label` as the Hateful Memes challenge wants.

    Of three classes or more: `id`, the probability of each, and `label`, the number of the likeliest.
    """
    rows = predictions.groupby("id", sort=False)[list(predictions.filter(regex=r"^p_\d+$"))].mean().reset_index()
    if rows.shape[1] == 3:  # two classes
        rows = rows[["id", "p_1"]].rename(columns={"p_1": "proba"})
        rows["label"] = (rows["proba"] > 0.5).astype(int)
    else:
        rows["label"] = rows.drop(columns="id").to_numpy().argmax(axis=1)
    rows.to_csv(file, index=False, float_format="%.6f")
    return rows
