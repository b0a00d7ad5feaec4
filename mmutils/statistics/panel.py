"""Predictions of one system as arrays, checked: every public function of this package begins with `panel`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    """Check predictions and turn them into arrays, in the row order of the first seed.

    ValueError: columns are missing; several systems or splits in one table; an id twice in one seed; seeds that differ
    in ids, labels or groups; labels or probabilities that `check_probabilities` refuses.
    """
    names = probability_columns(predictions)
    if missing := [name for name in ("id", "group", "label") if name not in predictions]:
        raise ValueError(f"predictions lack the columns {missing}; there are {list(predictions.columns)}")
    for column in ("system", "split"):
        if column in predictions and len(predictions[column].unique()) > 1:
            raise ValueError(f"give one {column} at a time, got {sorted(predictions[column].unique())}")
    parts = dict(list(predictions.groupby("seed"))) if "seed" in predictions else {0: predictions}
    first = next(iter(parts.values()), predictions)
    ids, labels = pd.Index(first["id"]), first["label"].to_numpy()
    blocks = [block.iloc[_rows(pd.Index(block["id"]), ids, f"seed {seed}")] for seed, block in parts.items()]
    for column in ("label", "group"):
        if any((block[column].to_numpy() != first[column].to_numpy()).any() for block in blocks):
            raise ValueError(f"the column {column!r} differs between seeds for the same id")
    probabilities = np.array([block[names].to_numpy(np.float64) for block in blocks])  # (S, N, K)
    check_probabilities(labels, probabilities)
    groups, group_names = pd.factorize(first["group"])
    return Panel(ids, groups, pd.Index(group_names), labels.astype(np.int64), probabilities, tuple(parts))


def panels(systems: Sequence[pd.DataFrame]) -> list[Panel]:
    """Panels of several systems on the same examples, all in the row order of the first.

    ValueError: as `panel`; ids, labels, groups or the number of classes differ between the systems.
    """
    first, *others = aligned = [panel(system) for system in systems]
    for number, other in enumerate(others, start=1):
        rows = _rows(other.ids, first.ids, f"system {number + 1}")
        differences = {
            "labels": other.labels[rows] != first.labels,
            "groups": other.group_names[other.groups[rows]] != first.group_names[first.groups],
            "classes": np.array(other.probabilities.shape[2] != first.probabilities.shape[2]),
        }
        if different := [name for name, differs in differences.items() if differs.any()]:
            raise ValueError(f"systems 1 and {number + 1} have different {' and '.join(different)} for the same ids")
        aligned[number] = replace(first, probabilities=other.probabilities[:, rows], seeds=other.seeds)
    return aligned


def _rows(ids: pd.Index, first: pd.Index, name: str) -> np.ndarray:
    """Where the ids of the first seed or system stand among those of another."""
    if not ids.is_unique:
        twice = ids[ids.duplicated()][0]
        raise ValueError(f"{name} has the id {twice!r} more than once (a column `seed` tells runs apart)")
    rows = ids.get_indexer(first)
    if len(ids) != len(first) or (rows < 0).any():
        counts = f"{len(ids)} and {len(first)}, {len(ids.intersection(first))} in both"
        raise ValueError(f"{name} has other ids than the first: {counts}")
    return rows


def probability_columns(predictions: pd.DataFrame) -> list[str]:
    """Names p_0 .. p_{K-1} of the probability columns; ValueError when there are fewer than two or there is a gap."""
    names = [name for name in predictions.columns if str(name).startswith("p_") and str(name)[2:].isdecimal()]
    expected = [f"p_{k}" for k in range(len(names))]
    if len(names) < 2 or set(names) != set(expected):
        raise ValueError(f"predictions need columns p_0 .. p_K-1, two or more; given: {list(predictions.columns)}")
    return expected


def check_probabilities(labels: np.ndarray, probabilities: np.ndarray) -> None:
    """ValueError where these are not labels (N,) and probabilities (..., N, K) of examples with K classes."""
    last = probabilities.shape[-1] - 1
    if not len(labels):
        raise ValueError("there are no predictions: the split is empty")
    if not np.isin(labels, np.arange(last + 1)).all():
        limits = f"{labels.min()}..{labels.max()}"
        raise ValueError(f"labels must lie in 0..{last}, given {limits}; -1 means unknown: leave such rows out")
    if probabilities.dtype.kind in "biu":
        raise ValueError("the probabilities are integers: decisions; AUROC needs the softmax, not the argmax")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities are NaN or infinite: the training diverged; lower the learning rate")
    if (probabilities < 0).any() or (np.abs(probabilities.sum(axis=-1) - 1) > 1e-3).any():
        raise ValueError("each row of p_0 .. p_K-1 must be at least 0 and sum to 1: apply a softmax to the logits")
