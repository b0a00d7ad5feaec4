"""Predictions of one system as arrays, checked: every public function of this package begins with `panel`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Panel:
    """One system on one split: S seeds, N examples, K classes, G groups."""

    groups: np.ndarray  # (N,) codes 0..G-1 in order of appearance
    group_names: pd.Index  # (G,)
    labels: np.ndarray  # (N,) in 0..K-1
    probabilities: np.ndarray  # (S, N, K) float64
    seeds: tuple


def panel(predictions: pd.DataFrame | Panel) -> Panel:
    """The panel of one system; one that is a panel already is given back. ValueError: as `panels`."""
    return predictions if isinstance(predictions, Panel) else panels([predictions])[0]


def panels(systems: Sequence[pd.DataFrame]) -> list[Panel]:
    """Check the predictions of systems on the same examples, and turn them into arrays in the first one's row order.

    ValueError: columns are missing; several systems or splits in one table; an id twice in one seed; seeds or systems
    that differ in ids, labels, groups or the number of classes; what `check_probabilities` refuses.
    """
    first, result = None, []
    for number, predictions in enumerate(systems, start=1):
        names = probability_columns(predictions)
        if missing := [name for name in ("id", "group", "label") if name not in predictions]:
            raise ValueError(f"predictions lack the columns {missing}; there are {list(predictions.columns)}")
        for column in ("system", "split"):
            if column in predictions and len(predictions[column].unique()) > 1:
                raise ValueError(f"give one {column} at a time, got {sorted(predictions[column].unique())}")
        parts = dict(list(predictions.groupby("seed"))) if "seed" in predictions else {}
        parts = parts or {0: predictions}
        first, blocks = next(iter(parts.values())) if first is None else first, []
        for seed, block in parts.items():
            about = [str(block[column].iloc[0]) for column in ("system", "split") if column in block and len(block)]
            ids, name = pd.Index(block["id"]), f"{', '.join(about) or f'system {number}'}, seed {seed}"
            if not ids.is_unique:
                twice = ids[ids.duplicated()][0]
                raise ValueError(f"{name}, has the id {twice!r} more than once (a column `seed` tells runs apart)")
            rows = ids.get_indexer(first["id"])
            if len(ids) != len(first) or (rows < 0).any():
                counts = f"{len(ids)} and {len(first)}, {ids.isin(first['id']).sum()} in both"
                raise ValueError(f"{name}, has other ids than the first: {counts}")
            for column in ("label", "group"):
                if (block[column].to_numpy()[rows] != first[column].to_numpy()).any():
                    raise ValueError(f"{name}, has another {column} than the first for the same id")
            blocks.append(block[names].to_numpy(np.float64)[rows])
        probabilities, labels = np.array(blocks), first["label"].to_numpy()  # (S, N, K), (N,)
        check_probabilities(labels, probabilities)
        groups, group_names = pd.factorize(first["group"])
        result.append(Panel(groups, pd.Index(group_names), labels.astype(np.int64), probabilities, tuple(parts)))
    if len({system.probabilities.shape[2] for system in result}) > 1:
        raise ValueError("the systems have different numbers of classes")
    return result


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
