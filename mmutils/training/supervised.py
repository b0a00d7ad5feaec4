"""Supervised trainings: each system once per seed; the epoch is chosen on val, test is read once after that.

Initialisation and order alone move scores by several points (Bouthillier et al. 2021,
https://arxiv.org/abs/2103.03098), so no system is trained with one seed only, and every prediction is kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from mmutils.batches import Batches
from mmutils.data import require_labels
from mmutils.evaluation.predictions import predict
from mmutils.methods.supervised import Supervised
from mmutils.models.classifier import Classifier
from mmutils.models.encoder import Encoder
from mmutils.models.fusion import fused_encoder
from mmutils.statistics.scores import scores
from mmutils.training.checkpoint import place
from mmutils.training.loop import TrainConfig, fit


@dataclass
class Trainings:
    """Several systems on the same examples, each trained once per seed, and all that came of them."""

    seeds: Sequence[int]
    checkpoints: str | Path | None = None  # folder from which a stopped training goes on
    select: str = "f1_macro"  # the score on val by which an epoch is kept, and `best` chooses a system
    history: list[dict] = field(default_factory=list)  # a row per system, seed and epoch
    kept: dict[str, list] = field(default_factory=dict)  # by system: what `keep` gave, in the order of the seeds
    descriptions: dict[str, dict] = field(default_factory=dict)  # by system, for the record
    _predictions: list[pd.DataFrame] = field(default_factory=list)

    def train(
        self,
        system: str,
        build: Callable[[], Classifier],
        batches: Mapping[str, Batches],
        config: TrainConfig,
        *,
        seeds: Sequence[int] | None = None,
        keep: Callable[[Classifier], Any] | None = None,
        class_weights: Tensor | None = None,
        **description,
    ) -> None:
        """Train `build()` on batches["train"] with each seed. ValueError for examples without a label.

        Args:
            batches: of train, val and test; `selection`, where it is among them, is the part of val that chooses.
            seeds: those of this call, by default all.
            keep: what to keep of each trained classifier in `kept`; description: for the record.
            class_weights: (K,), of the classes in the loss.
        """
        require_labels({split: rows.examples for split, rows in batches.items()})
        selection = batches.get("selection", batches["val"])
        for seed in self.seeds if seeds is None else seeds:
            torch.manual_seed(seed)
            method, batches["train"].seed = Supervised(build(), class_weights), seed
            options = {"select": self.select, "checkpoint": place(self.checkpoints, system, seed)}
            options["evaluate"] = lambda method: scores(predict(method.classifier, selection))
            history = fit(
                method, batches["train"], replace(config, seed=seed), evaluated_on={"val": selection}, **options
            )
            self.history += [{"system": system, "seed": seed, **row} for row in history]
            for split in ("val", "test"):
                rows = predict(method.classifier, batches[split])
                self._predictions.append(rows.assign(system=system, seed=seed, split=split))
            if keep:
                self.kept.setdefault(system, []).append(keep(method.classifier))
        self.descriptions[system] = description

    @property
    def predictions(self) -> pd.DataFrame:
        """Those of all systems and seeds on val and test, as `runs.save_record` takes them."""
        return pd.concat(self._predictions, ignore_index=True)

    def best(self, systems: Sequence[str] | None = None) -> str:
        """The system, of these or of all, whose mean score over the seeds is best on val."""
        means = {}
        for system, rows in self.predictions.query("split == 'val'").groupby("system", sort=False):
            values = [scores(of_seed)[self.select] for _, of_seed in rows.groupby("seed")]
            means[system] = sum(values) / len(values)
        return max(systems or means, key=means.get)

    def on_test(self, system: str) -> pd.DataFrame:
        """The predictions of one system on test, all seeds."""
        return self.predictions.query("system == @system and split == 'test'")

    def describe(self, chosen: str, **shared) -> list[dict]:
        """What the record says of each system: its description, and what is shared by all."""
        systems = {name: {"method": "supervised", **shared, **own} for name, own in self.descriptions.items()}
        return [{"system": name, "model": name, "chosen": name == chosen} | rest for name, rest in systems.items()]


def split_batches(
    tables: Mapping[str, pd.DataFrame], batch_size: int, extras: Mapping[str, dict] | None = None, **inputs
) -> dict[str, Batches]:
    """Batches of each split, shuffled for train; extras: as of `cached_features`; inputs: as of `batch_inputs`."""
    options = {split: {"shuffle": split == "train", "extra": extras and extras[split]} for split in tables}
    return {split: Batches(table, batch_size, **options[split], **inputs) for split, table in tables.items()}


def fused_classifier(encoders: Sequence[Encoder], fusion: str, classes: int, features_only=False) -> Classifier:
    """A new classifier on copies of one encoder, or of an image and a text encoder and the fusion of that name."""
    return Classifier(fused_encoder(encoders, fusion, features_only), classes)


def predict_each(batches: Mapping[str, Batches], classifier: Classifier) -> dict[str, pd.DataFrame]:
    """The classifier's predictions on several sets of examples, by their name."""
    return {name: predict(classifier, rows) for name, rows in batches.items()}


def join_seeds(predictions: Sequence[Mapping[str, pd.DataFrame]], seeds: Sequence[int]) -> dict[str, pd.DataFrame]:
    """What `predict_each` gave for several seeds: one table for each set of examples, with a column `seed`."""
    by_seed = list(zip(seeds, predictions, strict=True))
    parts = {name: [rows[name].assign(seed=seed) for seed, rows in by_seed] for name in predictions[0]}
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


def mean_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Mean ± standard deviation over the seeds, percent: a row for each system and split, a column for each score."""
    keys = ["system", "split", "seed"]
    values = pd.DataFrame({key: scores(rows) for key, rows in predictions.groupby(keys, sort=False)}).T
    percent = 100 * values[["accuracy", "f1_macro", "f1_weighted", "auroc"]].rename_axis(keys)
    groups = percent.groupby(["system", "split"], sort=False)
    return groups.mean().map("{:.1f}".format) + " ± " + groups.std().fillna(0).map("{:.1f}".format)
