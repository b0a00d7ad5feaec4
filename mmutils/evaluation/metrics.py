"""Predictions, scores, and what frozen features are worth: kNN, linear probe, retrieval.

The one place where numbers are made, so that two notebooks cannot measure in two ways. Scores come from all predictions
of a split at once, not from means over batches, and AUROC from probabilities, never from decisions. kNN is weighted as
in DINO (Caron et al. 2021, https://arxiv.org/abs/2104.14294; Wu et al. 2018, https://arxiv.org/abs/1805.01978).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, precision_recall_fscore_support, roc_auc_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn
from tqdm.auto import tqdm


class Probe(NamedTuple):
    """What a probe found: probabilities (N, K) float32, scores (empty without labels), and by which protocol."""

    probabilities: np.ndarray
    scores: dict[str, float]
    protocol: dict


def predict(classifier: nn.Module, batches) -> pd.DataFrame:
    """Return one row per example in row order: id, group, label, and float32 probabilities p_0 .. p_{K-1}.

    The classifier runs in evaluation mode, without gradients, and is left as it was; a second call gives the same bits.
    ValueError: batches that shuffle, augment, drop the last rows, or do not bring every example once, in order.
    """
    for option in ("shuffle", "augment", "drop_last"):
        if getattr(batches, option, None):
            raise ValueError(f"predict needs every example once and unchanged: build the batches without {option}")
    modes = {module: module.training for module in classifier.modules()}
    device, before = next(classifier.parameters()).device, batches.device
    ids, logits = [], []
    try:
        classifier.eval()
        batches.device = device
        with torch.inference_mode():
            for batch in tqdm(batches.epoch(0), total=len(batches), desc="predict", delay=2, leave=False):
                ids += list(batch["id"])
                logits.append(classifier(batch).float())  # (B, K)
    finally:
        batches.device = before
        for module, mode in modes.items():
            module.training = mode
    if ids != batches.examples["id"].tolist():
        raise ValueError(f"the {len(ids)} rows in the batches are not the {len(batches.examples)} examples in order")
    return table(batches.examples, torch.cat(logits).softmax(dim=1).cpu().numpy())


def table(examples: pd.DataFrame, probabilities: np.ndarray) -> pd.DataFrame:
    """Put probabilities (N, K) beside id, group and label of the examples: predictions as `scores` takes them."""
    if len(examples) != len(probabilities):
        raise ValueError(f"{len(probabilities)} rows of probabilities for {len(examples)} examples")
    probabilities = np.asarray(probabilities)
    if probabilities.dtype.kind == "f":  # integers are left as they are, for `scores` to refuse
        probabilities = probabilities.astype(np.float32)
    columns = {f"p_{k}": column for k, column in enumerate(probabilities.T)}
    return examples[["id", "group", "label"]].reset_index(drop=True).assign(**columns)


def probability_columns(predictions: pd.DataFrame) -> list[str]:
    """Names p_0 .. p_{K-1} of the probability columns; ValueError when they are missing or have a gap."""
    found = [name for name in predictions.columns if name.startswith("p_") and name[2:].isdecimal()]
    wanted = [f"p_{k}" for k in range(len(found))]
    if len(found) < 2 or sorted(found) != sorted(wanted):
        raise ValueError(f"predictions need columns p_0 .. p_K-1, two or more; given: {list(predictions.columns)}")
    return wanted


def scores(predictions: pd.DataFrame) -> dict[str, float]:
    """Scores in [0, 1] from all predictions of one split: accuracy, auroc; precision, recall, f1, macro and weighted.

    Macro is the mean over the classes that occur among labels or predictions; a class never predicted has precision 0.
    auroc is that of p_1 for two classes, else the mean of one class against the rest, over the classes that have both
    kinds of rows; nan when none has. ValueError: no rows, unknown labels (-1), decisions in place of probabilities.
    """
    probabilities = predictions[probability_columns(predictions)].to_numpy()  # (N, K)
    labels = predictions["label"].to_numpy()  # (N,)
    _check(labels, probabilities)
    chosen = probabilities.argmax(axis=1)
    result = {"accuracy": float(accuracy_score(labels, chosen))}
    for average in ("macro", "weighted"):
        values = precision_recall_fscore_support(labels, chosen, average=average, zero_division=0)
        names = (f"precision_{average}", f"recall_{average}", f"f1_{average}")
        result |= dict(zip(names, map(float, values[:3]), strict=True))
    return result | {"auroc": _auroc(labels, probabilities.astype(np.float64))}


def _check(labels: np.ndarray, probabilities: np.ndarray) -> None:
    classes = probabilities.shape[1]
    if not len(labels):
        raise ValueError("no predictions to score: the split is empty")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels must lie in 0..{classes - 1}, given {labels.min()}..{labels.max()}; "
            "-1 means unknown: leave such rows out"
        )
    if probabilities.dtype.kind in "biu":
        raise ValueError("the probabilities are integers: decisions; AUROC needs the softmax, not the argmax")
    if not np.isfinite(probabilities.astype(np.float64)).all():
        raise ValueError("probabilities hold nan or infinity: the classifier diverged; lower the learning rate")
    if (probabilities < 0).any() or np.abs(probabilities.sum(axis=1) - 1).max() > 1e-3:
        raise ValueError("each row of p_0 .. p_K-1 must be at least 0 and sum to 1; apply a softmax to the logits")


def _auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    truths = {k: labels == k for k in classes}
    areas = [roc_auc_score(truth, probabilities[:, k]) for k, truth in truths.items() if 0 < truth.sum() < len(truth)]
    return float(np.mean(areas)) if areas else float("nan")


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


def retrieval(image_embeddings, text_embeddings, groups=None) -> dict[str, float]:
    """Recall at 1, 5, 10 and median rank, by cosine, from images (N, E) to texts (N, E) and back; rows are pairs.

    groups (N,): rows of one group are interchangeable, so that of several equal texts any one counts. Ties count as
    lost: were all embeddings equal, every rank would be the last, not the first. Keys `image_to_text_r1`, ...,
    `image_to_text_median_rank`, the same for `text_to_image`; `candidates` (N). ValueError: other shapes, nan.
    """
    images, texts = _normalise(image_embeddings), _normalise(text_embeddings)
    if images.shape != texts.shape:
        raise ValueError(f"row i of both must be a pair, given images {images.shape} and texts {texts.shape}")
    groups = np.arange(len(images)) if groups is None else pd.factorize(np.asarray(groups))[0]
    if len(groups) != len(images):
        raise ValueError(f"{len(groups)} groups for {len(images)} pairs")
    result = {"candidates": len(images)}
    for name, queries, answers in (("image_to_text", images, texts), ("text_to_image", texts, images)):
        ranks = _ranks(queries, answers, groups)
        result |= {f"{name}_r{k}": float((ranks <= k).mean()) for k in (1, 5, 10)}
        result[f"{name}_median_rank"] = float(np.median(ranks))
    return result


def _ranks(queries: np.ndarray, answers: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Rank (N,), from 1, of the best right answer: one more than the number of wrong answers at least as similar."""
    ranks = []
    for start in range(0, len(queries), 512):
        similarity = queries[start : start + 512] @ answers.T  # (C, N)
        right = groups[start : start + 512, None] == groups
        best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
        ranks.append(1 + ((similarity >= best - 1e-9) & ~right).sum(axis=1))  # equal rows may differ in the last bit
    return np.concatenate(ranks)


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
    return scores(table(rows, probabilities))
