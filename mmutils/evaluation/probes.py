"""Predictions, scores, and what frozen features are worth: kNN, linear probe, retrieval.

The one place where numbers are made, so that two notebooks cannot measure in two ways. Scores come from all predictions
of a split at once, not from means over batches, and AUROC from probabilities, never from decisions. kNN is weighted as
in DINO (Caron et al. 2021, https://arxiv.org/abs/2104.14294; Wu et al. 2018, https://arxiv.org/abs/1805.01978).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn
from tqdm.auto import tqdm

from mmutils.batches import Batches
from mmutils.evaluation.collapse import effective_rank, spread
from mmutils.evaluation.predictions import predictions_table
from mmutils.models.features import compute
from mmutils.statistics.scores import scores


class Probe(NamedTuple):
    """What a probe found: probabilities (N, K) float32, scores (empty without labels), and by which protocol."""

    probabilities: np.ndarray
    scores: dict[str, float]
    protocol: dict


def knn(train_features, train_labels, features, labels=None, *, classes=None, k=20, temperature=0.07) -> Probe:
    """Classify features (N, D) by their k nearest training features (M, D), weighted by exp(cosine / temperature).

    Arrays or tensors; labels (M,), (N,) or None. k larger than M means all M; equal ones: earlier rows first.
    classes: the number K, by default that of the labels given. ValueError: no rows, nan, dimensions that differ.
    """
    train, queries = _normalise(train_features), _normalise(features)
    train_labels, labels, classes = _labels(train, train_labels, queries, labels, classes)
    if k < 1 or temperature <= 0:
        raise ValueError(f"kNN needs k >= 1 and temperature > 0, given k={k}, temperature={temperature}")
    k = min(k, len(train))
    one_hot = np.eye(classes)[train_labels]  # (M, K)
    probabilities = np.empty((len(queries), classes), dtype=np.float32)
    for start in tqdm(range(0, len(queries), 512), desc="kNN", delay=2, leave=False):  # memory: 512 rows of M
        similarity = queries[start : start + 512] @ train.T  # (C, M)
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]  # (C, k)
        similarity = np.take_along_axis(similarity, nearest, axis=1)
        weights = np.exp((similarity - similarity[:, :1]) / temperature)  # the nearest has weight 1: no overflow
        votes = np.einsum("ck,ckj->cj", weights, one_hot[nearest])
        probabilities[start : start + 512] = votes / votes.sum(axis=1, keepdims=True)
    protocol = {"probe": "knn", "k": k, "temperature": temperature}
    return Probe(probabilities, _probe_scores(labels, probabilities), protocol)


def linear_probe(
    train_features,
    train_labels,
    val_features,
    val_labels,
    features,
    labels=None,
    *,
    classes=None,
    grid=(1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    select="f1_macro",
) -> Probe:
    """Logistic regression on features (N, D) standardised with the training rows' mean and deviation.

    The penalty's C is the value of `grid` with the best `select` score on val (the smallest of equal ones); nothing is
    refitted on val. protocol["C"] is that value, protocol["val"] its score. Deterministic. ValueError: as for `knn`,
    and training labels of a single class.
    """
    train, val, queries = (_matrix(f) for f in (train_features, val_features, features))
    train_labels, val_labels, classes = _labels(train, train_labels, val, val_labels, classes)
    _, labels, classes = _labels(train, train_labels, queries, labels, classes)
    if len(np.unique(train_labels)) < 2:
        raise ValueError("a linear probe needs training labels of at least two classes")
    scaler = StandardScaler().fit(train)
    train, val, queries = (scaler.transform(f) for f in (train, val, queries))

    def probabilities(model, rows):  # classes without a training row get probability 0
        full = np.zeros((len(rows), classes))
        full[:, model.classes_] = model.predict_proba(rows)
        return full.astype(np.float32)

    best = None
    for strength in tqdm(sorted(grid), desc="linear probe", delay=2, leave=False):
        with threadpool_limits(1):  # matrices are small: two threads took ten times as long as one
            model = LogisticRegression(C=strength, max_iter=1000).fit(train, train_labels)
        score = _probe_scores(val_labels, probabilities(model, val))[select]
        if best is None or score > best[0]:
            best = score, strength, model
    found = probabilities(best[2], queries)
    protocol = {"probe": "linear", "C": best[1], "val": best[0], "select": select}
    return Probe(found, _probe_scores(labels, found), protocol)


def _matrix(features) -> np.ndarray:
    """Features as a float64 array (N, D); ValueError for another shape, no rows, nan or infinity."""
    features = features.detach().cpu() if isinstance(features, torch.Tensor) else features
    array = np.asarray(features, dtype=np.float64)
    if array.ndim != 2 or not array.size:
        raise ValueError(f"features must be a matrix (N, D) with at least one row, given shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("the features hold nan or infinity: the encoder diverged")
    return array


def _normalise(features) -> np.ndarray:
    array = _matrix(features)
    return array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12)


def _labels(train, train_labels, queries, labels, classes):
    """Checked labels as int arrays, and the number of classes."""
    train_labels = np.asarray(train_labels).astype(np.int64)
    labels = None if labels is None else np.asarray(labels).astype(np.int64)
    known = train_labels if labels is None else np.concatenate([train_labels, labels])
    classes = classes or max(2, int(known.max(initial=0)) + 1)
    if train.shape[1] != queries.shape[1]:
        raise ValueError(f"features of {train.shape[1]} dimensions for training, of {queries.shape[1]} to classify")
    if len(train) != len(train_labels) or (labels is not None and len(queries) != len(labels)):
        raise ValueError("there must be one label per row of features")
    if known.min() < 0 or known.max() >= classes:
        raise ValueError(
            f"labels must lie in 0..{classes - 1}, given {known.min()}..{known.max()}; leave unknown ones (-1) out"
        )
    return train_labels, labels, classes


def _probe_scores(labels, probabilities: np.ndarray) -> dict[str, float]:
    if labels is None:
        return {}
    rows = pd.DataFrame({"id": "", "group": "", "label": labels})
    return scores(predictions_table(rows, probabilities))


SPLITS = ("train", "val", "test")
PROBES = {"knn": "neighbours", "linear": "linear probe"}


def knn_on_val(encoders: Mapping[str, nn.Module], batches: Mapping[str, Batches]) -> dict[str, float]:
    """AUROC on val by k nearest neighbours: `knn_<name>` of each encoder, `knn` their mean; for fit's evaluate.

    It reads the neighbours' votes, not only which class wins, and so wavers less on a small val than macro F1.
    """
    found = {}
    for name, encoder in encoders.items():
        train, val = (compute(encoder, batches[split], False)["features"] for split in ("train", "val"))
        probe = knn(train, batches["train"].labels, val, batches["val"].labels)
        found[f"knn_{name}"] = probe.scores["auroc"]
    return found | {"knn": sum(found.values()) / len(found)}


def probe_encoders(
    encoders: Mapping[str, nn.Module], batches: Mapping[str, Batches], classes: int, seed: int
) -> tuple[pd.DataFrame, list[dict]]:
    """What each encoder's features are worth: the probes' predictions, and a row per encoder, probe and split.

    encoders: by readable names. batches: labelled ones of train, val and test. Predictions have the columns of
    `runs.save`, their systems are "<encoder>: neighbours" and "<encoder>: linear probe". Rows have encoder, seed, probe
    ("knn" or "linear"), split, accuracy, f1_macro, auroc, and of the split's features spread and effective_rank.
    """
    frames, rows = [], []
    labels = {split: batches[split].labels for split in SPLITS}
    for name, encoder in encoders.items():
        found = {split: compute(encoder, batches[split], False)["features"] for split in SPLITS}
        both = torch.cat([found["val"], found["test"]])
        linear = linear_probe(found["train"], labels["train"], found["val"], labels["val"], both, classes=classes)
        near = knn(found["train"], labels["train"], both, classes=classes)
        for split, part in (("val", slice(None, len(found["val"]))), ("test", slice(len(found["val"]), None))):
            watched = {"spread": spread(found[split]), "effective_rank": effective_rank(found[split])}
            for kind, probe in (("knn", near), ("linear", linear)):
                frame = predictions_table(batches[split].examples, probe.probabilities[part])
                rows.append({"encoder": name, "seed": seed, "probe": kind, "split": split, **_main(frame), **watched})
                frames.append(frame.assign(system=f"{name}: {PROBES[kind]}", seed=seed, split=split))
    return pd.concat(frames, ignore_index=True), rows


def probe_summary(rows: list[dict], split: str = "test") -> pd.DataFrame:
    """Macro F1 of the probes in percent, and the effective rank, as means over the seeds: a row for each encoder."""
    rows = pd.DataFrame(rows).query("split == @split")
    shown = rows.pivot_table(index="encoder", columns="probe", values="f1_macro", sort=False) * 100
    ranks = rows.groupby("encoder", sort=False)["effective_rank"].mean()
    return shown.assign(effective_rank=ranks).round(1)


def _main(frame: pd.DataFrame) -> dict[str, float]:
    found = scores(frame)
    return {name: found[name] for name in ("accuracy", "f1_macro", "auroc")}
