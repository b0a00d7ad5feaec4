"""Predictions: the probabilities that a trained classifier gives every example of a split."""

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm.auto import tqdm

from mmutils.batches import Batches


def predict(classifier: nn.Module, batches: Batches) -> pd.DataFrame:
    """One row per example in row order: id, group, label, and float32 probabilities p_0 .. p_{K-1}.

    The classifier runs in evaluation mode, without gradients, and is left as it was; a second call gives the same bits.
    """
    for option in ("shuffle", "augment", "drop_last"):
        if getattr(batches, option):
            raise ValueError(f"predict needs every example once and unchanged: build the batches without {option}")
    modes = {module: module.training for module in classifier.modules()}
    order, ids, logits = [], [], []
    try:
        classifier.eval()
        with batches.on(classifier), torch.inference_mode():
            for rows, batch in tqdm(batches.longest_first(), "predict", total=len(batches), delay=2, leave=False):
                order.append(rows)
                ids += batch["id"]
                logits.append(classifier(batch).float())  # (B, K)
    finally:
        for module, mode in modes.items():
            module.training = mode
    order = torch.cat(order)
    if ids != batches.examples["id"].iloc[order].tolist() or len(ids) != len(batches.examples):
        raise ValueError(f"the {len(ids)} rows in the batches are not the {len(batches.examples)} examples in order")
    logits = torch.cat(logits).cpu()[order.argsort()]  # (N, K)
    return predictions_table(batches.examples, logits.softmax(dim=1).numpy())


def class_probabilities(model, rows, classes: int) -> np.ndarray:
    """Probabilities (N, K) of a fitted scikit-learn classifier; 0 for a class without a row in train."""
    probabilities = np.zeros((len(rows), classes))
    probabilities[:, model.classes_] = model.predict_proba(rows)
    return probabilities


def predictions_table(examples: pd.DataFrame, probabilities: np.ndarray) -> pd.DataFrame:
    """Predictions as `scores` takes them: probabilities (N, K) beside id, group and label of the examples."""
    if probabilities.dtype.kind == "f":  # integers are left as they are, for `scores` to refuse
        probabilities = probabilities.astype(np.float32)
    columns = {f"p_{k}": column for k, column in enumerate(probabilities.T)}
    return examples[["id", "group", "label"]].reset_index(drop=True).assign(**columns)
