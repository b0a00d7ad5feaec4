"""Fine-tuning: every start with every share of the labels and every seed; the best classifier; a submission file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from mmutils.batches import Batches
from mmutils.evaluation.export import export_classifier
from mmutils.evaluation.modalities import joint_logits
from mmutils.models.encoder import CachedEncoder, Encoder
from mmutils.models.features import batch_inputs, frozen_features
from mmutils.models.fusion import fusion_class
from mmutils.models.saving import initial_encoder, network_names
from mmutils.models.text import TextEncoder
from mmutils.statistics.scores import scores
from mmutils.training import checkpoint
from mmutils.training.loop import TrainConfig
from mmutils.training.supervised import Trainings, fused_classifier

SIDES = (112, 224)  # the least and most pixels that are chosen from the data


@dataclass(frozen=True)
class Start:
    """One encoder, or an image and a text encoder, from which classifiers are trained."""

    encoders: list[Encoder]  # the real ones
    trained: list[Encoder]  # what takes part in a training: the real ones, or for frozen ones their cached features
    features: dict[str, dict[str, Tensor]]  # by split what Batches takes as `extra`; empty for encoders that learn
    inputs: dict  # what Batches is given besides, for encoders that learn
    description: dict  # for the record


def load_starts(
    starts: Mapping, baselines: Mapping, tables: Mapping, folder: str | Path, size: int, frozen: bool, fusion: str
) -> dict[str, Start]:
    """Load each encoder once, and compute the features of frozen ones.

    Args:
        starts: name -> one encoder, or an image and a text encoder, as `initial_encoder` takes them.
        baselines: start -> the start that it is compared with.
        folder: where the runs lie from which encoders are taken.
        size: pixels, for image models by their name; 0 for `picture_size`. Their texts may have `text_length` tokens.
    """
    fusion_class(fusion)  # ValueError for an unknown name
    for name, names in starts.items():
        if not isinstance(names, list | tuple) or len(names) not in (1, 2):
            raise ValueError(f"starts: {name!r} is {names!r}; give a list of one encoder, or an image and a text one")
    for name, baseline in baselines.items():
        if name not in starts or baseline not in starts:
            raise ValueError(f"baselines: {name!r}: {baseline!r}; both must be starts: {', '.join(starts)}")
    encoders, cached, loaded = {}, {}, {}
    for name in dict.fromkeys(chain(*starts.values())):
        torch.manual_seed(0)
        encoders[name] = initial_encoder(name, folder, size or picture_size(tables["train"]), tables["train"])
        if isinstance(encoders[name], TextEncoder) and ":" not in name:
            encoders[name].max_length = text_length(encoders[name], tables["train"]["text"])
        lacking = {split: rows["image"].isna().sum() for split, rows in tables.items() if rows["image"].isna().any()}
        if lacking and "image_size" in batch_inputs(encoders[name]):
            counts = ", ".join(f"{count:,} of {split}" for split, count in lacking.items())
            raise ValueError(f"{name!r} reads pictures, which {counts} do not have: drop these, or take texts alone")
        if frozen:
            encoders[name].freeze()
            cached[name] = {split: frozen_features(encoders[name], table) for split, table in tables.items()}
    for start, names in starts.items():
        own = [encoders[name] for name in names]
        trained, inputs, features = own, batch_inputs(*own), {split: {} for split in tables}
        kinds = [kind for kind, key in (("image", "image_size"), ("text", "tokenizer")) if key in inputs]
        description = {"inputs": "+".join(kinds), "model": " and ".join(names)}
        description |= {"weights": "; ".join(encoder.source for encoder in own)}
        description |= {"start": start, "baseline": baselines.get(start)}
        description |= {"networks": network_names(*own), "trained": "head" if frozen else "everything"}
        if frozen:
            trained, inputs = [CachedEncoder(name, encoders[name].dim) for name in names], {}
            features = {split: {name: cached[name][split] for name in names} for split in tables}
        loaded[start] = Start(own, trained, features, inputs, description)
    return loaded


def picture_size(examples: pd.DataFrame) -> int:
    """Pixels for these pictures: the longer side of the median one of 200, within SIDES."""
    paths = examples["image"].dropna().unique()
    if not len(paths):
        return SIDES[1]
    longer = []
    for path in paths[:: -(-len(paths) // 200)]:
        with Image.open(path) as picture:  # reads the header alone
            longer.append(max(picture.size))
    return int(np.clip(np.median(longer), *SIDES))


def text_length(encoder: TextEncoder, texts: pd.Series) -> int:
    """Tokens of which 98 % of the texts have no more, at least the encoder's own default, at most what it can read."""
    lengths = [len(ids) for ids in encoder.tokenizer(list(texts), verbose=False)["input_ids"]]
    most = min(encoder.tokenizer.model_max_length, getattr(encoder.model.config, "max_position_embeddings", 512))
    return min(most, max(encoder.max_length, int(np.percentile(lengths, 98))))


def finetune(
    starts: Mapping[str, Start],
    tables: Mapping[str, pd.DataFrame],
    shares: Sequence[float],
    trainings: Trainings,
    config: TrainConfig,
    classes: int,
    *,
    fusion: str,
    batch_size: int,
    view: Callable | None = None,
    val_by_share: bool = True,
) -> None:
    """Train a classifier from each start, on each share of the labels, with each of the trainings' seeds.

    A system is called "<start>, <share> % of labels". Of classifiers of picture and text on the largest share, the
    logits of every text with every picture of test are kept (`joint_logits`).

    Args:
        shares: of the labels of train, in (0, 1]; a smaller one is trained for more epochs, up to 4 times as many.
        view: from pixels to an augmentation, for image encoders that learn.
        val_by_share: whether the epoch is chosen on the same share of val's labels, else on all of val.
    """
    for (name, start), share, seed in product(starts.items(), shares, trainings.seeds):
        augment = view(start.inputs["image_size"]) if view and "image_size" in start.inputs else None
        batches = finetuning_batches(tables, start, share, seed, batch_size, augment, val_by_share)
        both = len(start.encoders) == 2 and share == max(shares)
        keep = partial(joint_logits, batches=batches["test"]) if both else None
        build = partial(fused_classifier, start.trained, fusion, classes)
        longer = replace(config, epochs=round(config.epochs * min(4, 1 / share)))
        labels = {"labels": len(batches["train"].ids), "val_labels": len(batches.get("selection", batches["val"]).ids)}
        description = {**start.description, "share": share, **labels}
        system = f"{name}, {100 * share:.3g} % of labels"
        trainings.train(system, build, batches, longer, seeds=[seed], keep=keep, **description)


def share_of_labels(examples: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """That share of each class, at least one example, drawn with the seed, in the old order and with the old index."""
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: give a share of the labels above 0 and at most 1")
    rows = examples.sample(frac=1, random_state=seed)  # a class's first rows in this order are drawn
    counts = rows["label"].map((rows["label"].value_counts() * share).round().clip(lower=1))
    return examples.loc[sorted(rows.index[rows.groupby("label").cumcount() < counts])]


def finetuning_batches(
    tables: dict[str, pd.DataFrame], start: Start, share: float, seed: int, size: int, augment=None, val_by_share=True
) -> dict[str, Batches]:
    """Batches of train, val and test, with a share of train's labels, and smaller batches where few are left.

    A batch of train has at most a quarter of its rows, so that an epoch has some steps, but not fewer than 16.
    val_by_share: also `selection`, the same share of val, whose labels choose the epoch.
    """
    many = 64 if "image_size" in start.inputs else 512  # of large pictures 512 at once do not fit into 16 GB

    def part(split: str, most: int, **options) -> Batches:
        rows = share_of_labels(tables[split], share, seed)
        features = {key: values[rows.index] for key, values in start.features[split].items()}
        return Batches(rows, min(most, max(16, len(rows) // 4)), extra=features, **options, **start.inputs)

    parts = {"train": part("train", size, shuffle=True, seed=seed, augment=augment)}
    if val_by_share:
        parts["selection"] = part("val", many)
    for split in ("val", "test"):
        parts[split] = Batches(tables[split], many, extra=start.features[split], **start.inputs)
    return parts


def export_best(
    out: str | Path,
    record: dict,
    predictions: pd.DataFrame,
    system: str,
    encoders: Sequence[Encoder],
    join: str,
    texts: Iterable[str],
) -> Path:
    """Export the system's classifier of the seed best in AUROC on val as <out>/model (see `export_classifier`)."""
    rows = predictions[predictions["system"] == system]
    val = rows[rows["split"] == "val"]
    seed = max(val["seed"].unique(), key=lambda seed: scores(val[val["seed"] == seed])["auroc"])
    weights = checkpoint.read(checkpoint.place(Path(out, "checkpoints"), system, seed) / checkpoint.NAME)["method"]
    return export_classifier(Path(out, "model"), record, rows[rows["seed"] == seed], weights, encoders, join, texts)


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
