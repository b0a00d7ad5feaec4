"""Fine-tuning: every start with every share of the labels and every seed; the best classifier; a submission file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from mmutils.batches import Batches
from mmutils.evaluation.export import export_classifier
from mmutils.evaluation.modalities import joint_logits
from mmutils.models.encoder import CachedEncoder, Encoder
from mmutils.models.fusion import fusion_class
from mmutils.models.starts import batch_inputs, frozen_features, initial_encoder, network_names
from mmutils.statistics.scores import scores
from mmutils.training import checkpoint
from mmutils.training.loop import TrainConfig
from mmutils.training.supervised import Trainings, fused_classifier


@dataclass(frozen=True)
class Start:
    """One encoder, or an image and a text encoder, from which classifiers are trained.

    Attributes:
        encoders: the real ones.
        trained: what takes part in a training: the real ones, or for frozen ones their cached features.
        features: by split what Batches takes as `extra`; empty for encoders that learn.
        inputs: what Batches is given besides, for encoders that learn.
        description: what the record says of it.
    """

    encoders: list[Encoder]
    trained: list[Encoder]
    features: dict[str, dict[str, Tensor]]
    inputs: dict
    description: dict


def check_starts(starts: Mapping[str, Sequence[str]], baselines: Mapping[str, str], fusion: str) -> None:
    """ValueError for a start that is no list of one or two encoders, a baseline that is no start, an unknown fusion."""
    fusion_class(fusion)
    for name, encoders in starts.items():
        if not isinstance(encoders, list | tuple) or len(encoders) not in (1, 2):
            raise ValueError(
                f"starts: {name!r} is {encoders!r}; give a list of one encoder, or of an image and a text one"
            )
    for name, baseline in baselines.items():
        if name not in starts or baseline not in starts:
            raise ValueError(f"baselines: {name!r}: {baseline!r}; both must be starts: {', '.join(starts)}")


def load_starts(
    starts: Mapping[str, Sequence[str]],
    baselines: Mapping[str, str],
    tables: Mapping[str, pd.DataFrame],
    folder: str | Path,
    size: int,
    frozen: bool,
    fusion: str,
) -> dict[str, Start]:
    """Load each encoder once, and compute the features of frozen ones.

    Args:
        starts: name -> encoders, as `initial_encoder` takes them.
        baselines: start -> the start that it is compared with.
        folder: where the runs lie from which encoders are taken.
        size: pixels, for image models by their name.
        fusion: name of the fusion of two encoders, checked before the work.
    """
    check_starts(starts, baselines, fusion)
    loaded, cached = {}, {}
    for name in dict.fromkeys(name for names in starts.values() for name in names):
        torch.manual_seed(0)
        loaded[name] = initial_encoder(name, folder, size, tables["train"])
        if frozen:
            loaded[name].freeze()
            cached[name] = {split: frozen_features(loaded[name], table) for split, table in tables.items()}
    return {name: _start(name, names, loaded, cached, tables, baselines.get(name)) for name, names in starts.items()}


def _start(
    start: str, names: Sequence[str], loaded: dict, cached: dict, tables: Iterable[str], baseline: str | None
) -> Start:
    encoders = [loaded[name] for name in names]
    inputs = batch_inputs(*encoders)
    kinds = [kind for kind, key in (("image", "image_size"), ("text", "tokenizer")) if key in inputs]
    description = {
        "inputs": "+".join(kinds),
        "model": " and ".join(names),
        "weights": "; ".join(encoder.source for encoder in encoders),
        "start": start,
        "baseline": baseline,
        "networks": network_names(*encoders),
        "trained": "head" if cached else "everything",
    }
    if not cached:
        return Start(encoders, encoders, {split: {} for split in tables}, inputs, description)
    features = {split: {name: cached[name][split] for name in names} for split in tables}
    return Start(encoders, [CachedEncoder(name, loaded[name].dim) for name in names], features, {}, description)


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
        trainings: where the results are collected.
        fusion: name of the fusion of picture and text.
        view: from pixels to an augmentation, for image encoders that learn.
        val_by_share: whether the epoch is chosen on the same share of val's labels, else on all of val.
    """
    for name, start in starts.items():
        build = partial(fused_classifier, start.trained, fusion, classes)
        augment = view(start.inputs["image_size"]) if view and "image_size" in start.inputs else None
        for share in shares:
            longer = replace(config, epochs=round(config.epochs * min(4, 1 / share)))
            for seed in trainings.seeds:
                batches = finetuning_batches(
                    tables, start.features, share, seed, batch_size, augment, val_by_share, **start.inputs
                )
                both = len(start.encoders) == 2 and share == max(shares)
                trainings.train(
                    f"{name}, {100 * share:.3g} % of labels",
                    build,
                    batches,
                    longer,
                    seeds=[seed],
                    keep=partial(joint_logits, batches=batches["test"]) if both else None,
                    **start.description,
                    share=share,
                    **label_counts(batches),
                )


def share_of_labels(examples: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """That share of each class, at least one example, drawn with the seed, in the old order and with the old index.

    ValueError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: give a share of the labels above 0 and at most 1")
    rows = examples.sample(frac=1, random_state=seed)  # a class's first rows in this order are drawn
    counts = rows["label"].map((rows["label"].value_counts() * share).round().clip(lower=1))
    kept = rows.index[rows.groupby("label").cumcount() < counts]
    return examples.loc[sorted(kept)]


def finetuning_batches(
    tables: Mapping[str, pd.DataFrame],
    extras: Mapping[str, dict],
    share: float,
    seed: int,
    batch_size: int,
    augment=None,
    val_by_share: bool = True,
    **inputs,
) -> dict[str, Batches]:
    """Batches of train, val and test, with a share of train's labels, and smaller batches where few are left.

    extras: per split, features of all its rows; inputs: what else Batches takes. A batch of train has at most a quarter
    of its rows, so that an epoch has some steps, but is not made smaller than 16 for that. val_by_share: also
    `selection`, the same share of val, whose labels choose the epoch: who has few labels has few of val as well.
    """
    many = 64 if "image_size" in inputs else 512  # of large pictures 512 at once do not fit into 16 GB

    def part(split: str, size: int, **options) -> Batches:
        rows = share_of_labels(tables[split], share, seed)
        features = {key: values[rows.index] for key, values in extras[split].items()}
        return Batches(rows, min(size, max(16, len(rows) // 4)), extra=features, **options, **inputs)

    parts = {"train": part("train", batch_size, shuffle=True, seed=seed, augment=augment)}
    if val_by_share:
        parts["selection"] = part("val", many)
    return parts | {split: Batches(tables[split], many, extra=extras[split], **inputs) for split in ("val", "test")}


def label_counts(batches: Mapping[str, Batches]) -> dict[str, int]:
    """For the record: how many labels a training sees, `labels` of train and `val_labels` that choose the epoch."""
    return {"labels": len(batches["train"].ids), "val_labels": len(batches.get("selection", batches["val"]).ids)}


def export_best(
    out: str | Path,
    record: dict,
    predictions: pd.DataFrame,
    system: str,
    encoders: Sequence[Encoder],
    join: str,
    texts: Iterable[str],
) -> Path:
    """Export the system's classifier to <out>/model: of its seeds the one with the best AUROC on val.

    Args:
        out: folder of the run, with its `checkpoints`.
        predictions: of all systems and seeds on val and test.
        encoders, join, texts: as for `export_classifier`.
    """
    rows = predictions[predictions["system"] == system]
    val = rows[rows["split"] == "val"]
    seed = max(val["seed"].unique(), key=lambda seed: scores(val[val["seed"] == seed])["auroc"])
    weights = checkpoint.trained_weights(checkpoint.place(Path(out, "checkpoints"), system, seed))
    return export_classifier(Path(out, "model"), record, rows[rows["seed"] == seed], weights, encoders, join, texts)


def submission(predictions: pd.DataFrame, file: str | Path) -> pd.DataFrame:
    """Write and return `id,proba,label` as the Hateful Memes challenge wants it: p_1, the mean over seeds.

    predictions: those of one system and split.
    """
    proba = predictions.groupby("id", sort=False)["p_1"].mean()
    rows = pd.DataFrame({"id": proba.index, "proba": proba.to_numpy(), "label": (proba > 0.5).astype(int).to_numpy()})
    rows.to_csv(file, index=False, float_format="%.6f")
    return rows
