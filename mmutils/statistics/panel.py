"""Predictions of one system as arrays: checked once, here, so that the rest need not check.

Every public function of this package takes a DataFrame and passes it through `panel` first.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Panel:
    """One system on one split: S seeds, N examples, K classes, G groups."""

    ids: pd.Index  # (N,) of str
    groups: np.ndarray  # (N,) codes 0..G-1 in order of appearance
    group_names: pd.Index  # (G,)
    labels: np.ndarray  # (N,) in 0..K-1
    probabilities: np.ndarray  # (S, N, K) float64
    seeds: tuple


def panel(predictions: pd.DataFrame) -> Panel:
    """Check predictions and turn them into arrays; rows keep the order in which the first seed has them.

    ValueError: a column is missing; nothing in the table; several systems or splits in one table; an id twice in
    one seed; seeds with different ids; an id whose label or group differs between seeds; labels outside 0..K-1;
    probabilities that are NaN, negative or do not sum to 1 (within 0.001).
    """
    names = _probability_columns(predictions)
    seeds, blocks = [0], [predictions]
    if "seed" in predictions:
        parts = list(predictions.groupby("seed", sort=True))
        seeds, blocks = [seed for seed, _ in parts], [block for _, block in parts]
    first = blocks[0]
    ids = pd.Index(first["id"])
    blocks = [_same_rows(block, ids, seed) for seed, block in zip(seeds, blocks, strict=True)]
    for column in ("label", "group"):
        if any((block[column].to_numpy() != first[column].to_numpy()).any() for block in blocks[1:]):
            raise ValueError(f"the column {column!r} differs between seeds for the same id")
    labels = first["label"].to_numpy()
    if not np.isin(labels, np.arange(len(names))).all():
        raise ValueError(f"labels must be 0 to {len(names) - 1}, got {np.unique(labels)}: leave unknown (-1) rows out")
    probabilities = np.stack([block[names].to_numpy(np.float64) for block in blocks])  # (S, N, K)
    _check_probabilities(probabilities)
    groups, group_names = pd.factorize(first["group"])
    return Panel(ids, groups, pd.Index(group_names), labels.astype(np.int64), probabilities, tuple(seeds))


def panels(systems: list[pd.DataFrame]) -> list[Panel]:
    """Panels of several systems on the same examples, all in the row order of the first.

    ValueError: as `panel`; ids, labels, groups or the number of classes differ between the systems.
    """
    first, *others = [panel(system) for system in systems]
    aligned = [first]
    for number, other in enumerate(others, start=2):
        rows = np.arange(len(first.ids)) if other.ids.equals(first.ids) else other.ids.get_indexer(first.ids)
        if len(other.ids) != len(first.ids) or (rows < 0).any():
            shared = len(first.ids.intersection(other.ids))
            raise ValueError(
                f"systems 1 and {number} need the same ids: they have {len(first.ids)} and {len(other.ids)}, "
                f"{shared} in both"
            )
        if (other.labels[rows] != first.labels).any():
            raise ValueError(f"systems 1 and {number} have different labels for the same id")
        if (other.group_names[other.groups[rows]] != first.group_names[first.groups]).any():
            raise ValueError(f"systems 1 and {number} have different groups for the same id")
        if other.probabilities.shape[2] != first.probabilities.shape[2]:
            raise ValueError(f"systems 1 and {number} have a different number of classes")
        probabilities = other.probabilities[:, rows]
        aligned.append(Panel(first.ids, first.groups, first.group_names, first.labels, probabilities, other.seeds))
    return aligned


def _probability_columns(predictions: pd.DataFrame) -> list[str]:
    count = sum(str(column).startswith("p_") and str(column)[2:].isdigit() for column in predictions.columns)
    names = [f"p_{number}" for number in range(max(count, 2))]
    missing = [name for name in ("id", "group", "label", *names) if name not in predictions]
    if missing:
        raise ValueError(f"predictions lack the columns {missing}; there are {list(predictions.columns)}")
    if not len(predictions):
        raise ValueError("predictions have no rows")
    for column in ("system", "split"):
        if column in predictions and len(predictions[column].unique()) > 1:
            raise ValueError(f"give one {column} at a time, got {sorted(predictions[column].unique())}")
    return names


def _same_rows(block: pd.DataFrame, ids: pd.Index, seed) -> pd.DataFrame:
    own = pd.Index(block["id"])
    if not own.is_unique:
        example = own[own.duplicated()][0]
        raise ValueError(f"seed {seed} has the id {example!r} more than once (a column `seed` tells runs apart)")
    if own.equals(ids):
        return block
    rows = own.get_indexer(ids)
    if len(own) != len(ids) or (rows < 0).any():
        raise ValueError(f"seed {seed} has other ids than the first seed ({len(own)} and {len(ids)} rows)")
    return block.iloc[rows]


def _check_probabilities(probabilities: np.ndarray) -> None:
    if not np.isfinite(probabilities).all():
        rows = int((~np.isfinite(probabilities)).any(axis=2).sum())
        raise ValueError(f"probabilities are NaN or infinite in {rows} rows: did the training diverge?")
    if (probabilities < 0).any() or (np.abs(probabilities.sum(axis=2) - 1) > 1e-3).any():
        raise ValueError("probabilities of an example must lie in [0, 1] and sum to 1: apply a softmax to logits")
