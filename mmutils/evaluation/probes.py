"""Probes: what frozen features are worth, by k nearest neighbours and by logistic regression.

kNN is weighted as in DINO: Caron et al. 2021, https://arxiv.org/abs/2104.14294.
"""

from collections.abc import Mapping

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
from mmutils.evaluation.predictions import class_probabilities, predictions_table
from mmutils.models.features import compute
from mmutils.statistics.scores import scores

PROBES = {"knn": "neighbours", "linear": "linear probe"}
TEMPERATURE = 0.07  # of the neighbours' weights
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of the logistic regression's penalty


def probe_encoders(
    encoders: Mapping[str, nn.Module], batches: Mapping[str, Batches], classes: int, seed: int
) -> tuple[pd.DataFrame, list[dict]]:
    """What each encoder's features are worth on val and test, by labelled batches of train, val and test.

    Returns predictions of the systems "<encoder>: neighbours" and "<encoder>: linear probe", as `runs` saves them; and
    a dict per encoder, split and probe with three scores, and the features' spread and effective_rank.
    """
    frames, rows = [], []
    labels, val_labels = batches["train"].labels, batches["val"].labels
    for name, encoder in encoders.items():
        train, val, test = (compute(encoder, batches[split], False)["features"] for split in ("train", "val", "test"))
        both = torch.cat([val, test])
        linear = linear_probe(train, labels, val, val_labels, both, classes)
        probabilities = {"knn": knn(train, labels, both, classes), "linear": linear}
        for split, features, part in (("val", val, slice(len(val))), ("test", test, slice(len(val), None))):
            watched = {"spread": spread(features), "effective_rank": effective_rank(features)}
            for probe, table in probabilities.items():
                predictions = predictions_table(batches[split].examples, table[part])
                values = scores(predictions)
                values = {score: values[score] for score in ("accuracy", "f1_macro", "auroc")} | watched
                rows.append({"encoder": name, "seed": seed, "probe": probe, "split": split, **values})
                frames.append(predictions.assign(system=f"{name}: {PROBES[probe]}", seed=seed, split=split))
    return pd.concat(frames, ignore_index=True), rows


def probe_summary(rows: list[dict]) -> pd.DataFrame:
    """Macro F1 on test in percent, and the effective rank, as means over the seeds: a row for each encoder."""
    rows = pd.DataFrame(rows).query("split == 'test'")
    shown = rows.pivot_table(index="encoder", columns="probe", values="f1_macro", sort=False) * 100
    ranks = rows.groupby("encoder", sort=False)["effective_rank"].mean()
    return shown.assign(effective_rank=ranks).round(1)


def knn_on_val(encoders: Mapping[str, nn.Module], batches: Mapping[str, Batches]) -> dict[str, float]:
    """AUROC on val by k nearest neighbours: `knn_<name>` of each encoder, `knn` their mean; for fit's evaluate."""
    labels = batches["train"].labels
    classes = max(2, int(torch.cat([labels, batches["val"].labels]).max()) + 1)
    result = {}
    for name, encoder in encoders.items():
        train, val = (compute(encoder, batches[split], False)["features"] for split in ("train", "val"))
        predictions = predictions_table(batches["val"].examples, knn(train, labels, val, classes))
        result[f"knn_{name}"] = scores(predictions)["auroc"]
    return result | {"knn": sum(result.values()) / len(result)}


def knn(train_features, train_labels, features, classes: int, k: int = 20) -> np.ndarray:
    """Probabilities (N, K) float32 by the k nearest training features, weighted by exp(cosine / TEMPERATURE).

    Training features (M, D), labels (M,) and features (N, D) are arrays or tensors. Of equally near ones the first
    count. ValueError for nan or infinity.
    """
    train, queries = normalised(train_features), normalised(features)
    one_hot = np.eye(classes)[np.asarray(train_labels)]  # (M, K)
    probabilities = np.empty((len(queries), classes), dtype=np.float32)
    for start in tqdm(range(0, len(queries), 512), desc="kNN", delay=2, leave=False):  # memory: 512 rows of M
        similarity = queries[start : start + 512] @ train.T  # (C, M)
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]  # (C, k)
        similarity = np.take_along_axis(similarity, nearest, axis=1)
        weights = np.exp((similarity - similarity[:, :1]) / TEMPERATURE)  # the nearest has weight 1: no overflow
        votes = np.einsum("ck,ckj->cj", weights, one_hot[nearest])
        probabilities[start : start + 512] = votes / votes.sum(axis=1, keepdims=True)
    return probabilities


def linear_probe(train_features, train_labels, val_features, val_labels, features, classes: int) -> np.ndarray:
    """Probabilities (N, K) float32 by logistic regression on standardised features; C is best in macro F1 on val."""
    scaler = StandardScaler().fit(_finite(train_features))
    train, val, queries = (scaler.transform(_finite(rows)) for rows in (train_features, val_features, features))
    with threadpool_limits(1):  # for these small matrices one thread is the fastest
        labels, strengths = np.asarray(train_labels), tqdm(STRENGTHS, desc="linear probe", delay=2, leave=False)
        models = [LogisticRegression(C=strength, max_iter=1000).fit(train, labels) for strength in strengths]
    rows = pd.DataFrame({"id": "", "group": "", "label": np.asarray(val_labels)})
    on_val = [predictions_table(rows, class_probabilities(model, val, classes)) for model in models]
    best = max(range(len(models)), key=lambda number: scores(on_val[number])["f1_macro"])
    return class_probabilities(models[best], queries, classes).astype(np.float32)


def normalised(features) -> np.ndarray:
    """Features (N, D), an array or a tensor, with rows of length 1 in float64; ValueError for nan or infinity."""
    array = _finite(features)
    return array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12)


def _finite(features) -> np.ndarray:
    array = np.asarray(features, dtype=np.float64)  # (N, D)
    if not np.isfinite(array).all():
        raise ValueError("the features hold nan or infinity: the encoder diverged")
    return array
