"""What fine-tuning starts from and ends with: encoders on disk, a share of the labels, a submission file.

Weights are safetensors; what to build for them stands in a small JSON file beside them. No pickled model.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mmutils.batches import Batches
from mmutils.models import fusion


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


def check_starts(starts: Mapping[str, Sequence[str]], baselines: Mapping[str, str], join: str) -> None:
    """ValueError for a start that is no list of one or two encoders, a baseline that is no start, an unknown fusion."""
    fusion.fusion_class(join)
    for name, encoders in starts.items():
        if not isinstance(encoders, list | tuple) or len(encoders) not in (1, 2):
            raise ValueError(
                f"starts: {name!r} is {encoders!r}; give a list of one encoder, or of an image and a text one"
            )
    for name, baseline in baselines.items():
        if name not in starts or baseline not in starts:
            raise ValueError(f"baselines: {name!r}: {baseline!r}; both must be starts: {', '.join(starts)}")


def submission(predictions: pd.DataFrame, file: str | Path) -> pd.DataFrame:
    """Write and return `id,proba,label` as the Hateful Memes challenge wants it: p_1, the mean over seeds.

    predictions: those of one system and split.
    """
    proba = predictions.groupby("id", sort=False)["p_1"].mean()
    rows = pd.DataFrame({"id": proba.index, "proba": proba.to_numpy(), "label": (proba > 0.5).astype(int).to_numpy()})
    rows.to_csv(file, index=False, float_format="%.6f")
    return rows
