"""Pretraining without labels: each form of a method once per seed, judged by labels that it has not seen.

The loss does not say what features are good for: a collapsed CASS has a perfect one. So k nearest neighbours and a
linear probe judge them, beside the same network before training, whose batch norms have seen the pictures.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from mmutils import data
from mmutils.batches import Batches
from mmutils.batches.augment import Augment
from mmutils.evaluation.probes import PROBES, knn_on_val, probe_encoders
from mmutils.methods import Method
from mmutils.models.encoder import CachedEncoder, Encoder
from mmutils.models.features import untrained
from mmutils.models.saving import START, weights_source
from mmutils.training.checkpoint import place
from mmutils.training.loop import TrainConfig, fit

KEPT = {"last": "last epoch", "knn": "best epoch by kNN on val with all labels"}
BEFORE = ("random, ", "before, ")  # what a network before training is called: without, or with pretrained weights
COLLAPSED = 2.0  # effective rank of features below which a network says the same of every example


def unlabelled(
    name: str, root: str | None = None, languages: Sequence[str] = ("en",), limit: int = 0, **options
) -> pd.DataFrame:
    """The examples to pretrain on, all or `limit` of them, once per language, with all labels -1.

    languages: empty for a data set that has only one. A picture in two languages is two examples of the same `group`.
    """
    parts = []
    for language in languages or [""]:
        rows = data.unlabelled(name, root, **({"language": language} if language else {}), **options)
        parts.append(rows.assign(id=rows["id"] + (f".{language}" if language else ""), label=-1))
    return data.subset(pd.concat(parts, ignore_index=True)[list(data.COLUMNS)], limit)


def pretraining_view(size: int, crop: float, recolour: bool, text_safe: bool) -> Augment:
    """Views of `size` pixels of at least the share `crop` of a picture, or text-safe ones; with hue and grey or not."""
    changes = {} if recolour else {"hue": 0.0, "grey": 0.0}
    return Augment.text_safe(size, **changes) if text_safe else Augment(size, scale=(crop, 1.0), **changes)


def before_training(encoder: Encoder, batches: Batches) -> Encoder:
    """A copy of the encoder; batch norms of a network with random weights have seen the pictures."""
    return untrained(encoder, batches) if weights_source(encoder) == "random" else copy.deepcopy(encoder).eval()


@dataclass
class Pretraining:
    """Several forms of a method, each pretrained once per seed, and all that came of them."""

    method: str  # its name in the record
    classes: int  # of the labelled examples
    config: TrainConfig
    seeds: Sequence[int]
    checkpoints: str | Path | None = None  # folder from which a stopped training goes on
    keep: str = "last"  # epoch, or "knn", the best one by neighbours on val: that choice reads all labels
    history: list[dict] = field(default_factory=list)  # a row per form, seed and epoch
    probes: list[dict] = field(default_factory=list)  # a row per encoder, seed, probe and split
    failed: list[dict] = field(default_factory=list)  # what collapsed or diverged, for the record
    encoders: dict[str, dict] = field(default_factory=dict)  # all that is probed, with its description for the record
    saved: dict[str, Encoder] = field(default_factory=dict)  # of the last form: each seed's encoders and their starts
    _predictions: list[pd.DataFrame] = field(default_factory=list)

    def __post_init__(self):
        if self.keep not in KEPT:
            raise ValueError(f"keep={self.keep!r}: give one of {', '.join(KEPT)}")

    def train(
        self,
        form: str,
        build: Callable[[], Method],
        branches: dict,
        batches: Batches,
        labelled: dict,
        save: dict | None = None,
        **description,
    ) -> Method:
        """Train `build()` with each seed and probe its encoders; return the last seed's method.

        What is probed is called "<form>, <branch>", or "<form>" where that ends with the branch; and, once for all
        forms, "random, <branch>", the same network before training, or "before, <branch>" where that has pretrained
        weights. After a loss that is not finite all encoders of the form have failed.

        Args:
            branches: readable name -> name in `method.encoders()`.
            labelled: batches of train, val and test, by which the features are judged; description: for the record.
            save: name, in `saved` with "-<seed>", -> name in `method.encoders()`; by default all that are not cached.
        """
        data.require_labels({split: rows.examples for split, rows in labelled.items()})
        probed = set(self.encoders)
        for seed in self.seeds:
            torch.manual_seed(seed)
            method = build()
            every = {key: part for key, part in method.encoders().items() if not isinstance(part, CachedEncoder)}
            kept = save or {key: key for key in every}
            origins = {key: before_training(every[key], labelled["train"]) for key in kept.values()}
            for name, key in kept.items():
                self.saved |= {f"{name}-{seed}": every[key], f"{name}-{seed}{START}": origins[key]}
            starts, trained, weights = {}, {}, {}
            for branch, key in branches.items():
                source = weights_source(every[key])
                start = f"{'random' if source == 'random' else 'before'}, {branch}"
                starts |= {} if start in probed else {start: origins[key]}
                name = form if form.endswith(f", {branch}") else f"{form}, {branch}"
                trained[name] = every[key]
                weights[start] = weights[name] = {"weights": source}
            self.encoders |= {name: weights[name] for name in starts}
            self.encoders |= {name: weights[name] | description for name in trained}
            try:
                inside = {branch: every[key] for branch, key in branches.items()}
                self._fit(form, method, inside, batches, labelled, seed)
            except FloatingPointError as error:
                for name, probe in product(trained, PROBES):
                    self._fail(name, probe, seed, str(error))
                trained = {}
            if starts | trained:
                self._probe(starts | trained, labelled, seed)
        return method

    def _fit(self, form: str, method: Method, encoders: dict, batches: Batches, labelled: dict, seed: int) -> None:
        batches.seed = seed
        history = fit(
            method,
            batches,
            replace(self.config, seed=seed),
            evaluate=lambda _: knn_on_val(encoders, labelled),
            select="knn" if self.keep == "knn" else None,
            checkpoint=place(self.checkpoints, form, seed),
            evaluated_on=labelled,
        )
        self.history += [{"system": form, "seed": seed, **row} for row in history]

    def _probe(self, encoders: dict, labelled: Mapping[str, Batches], seed: int) -> None:
        predictions, rows = probe_encoders(encoders, labelled, self.classes, seed)
        self._predictions.append(predictions)
        self.probes += rows
        for row in rows:
            rank = row["effective_rank"]
            if row["split"] == "test" and not rank >= COLLAPSED:  # nan has collapsed too
                self._fail(row["encoder"], row["probe"], seed, f"collapsed: effective rank {rank:.2f} of the features")

    def _fail(self, encoder: str, probe: str, seed: int, reason: str) -> None:
        self.failed.append({"system": f"{encoder}: {PROBES[probe]}", "seed": seed, "reason": reason})

    @property
    def predictions(self) -> pd.DataFrame:
        """Those of all probes and seeds on val and test, as `runs.save_record` takes them; no rows if all diverged."""
        return pd.concat(self._predictions, ignore_index=True) if self._predictions else pd.DataFrame()

    def chosen(self) -> str | None:
        """The system of a trained encoder whose mean AUROC over the seeds is best on val; None if all diverged."""
        rows = [row for row in self.probes if row["split"] == "val" and not row["encoder"].startswith(BEFORE)]
        if not rows:
            return None
        encoder, probe = pd.DataFrame(rows).groupby(["encoder", "probe"], sort=False)["auroc"].mean().idxmax()
        return f"{encoder}: {PROBES[probe]}"

    def describe(self, **shared) -> list[dict]:
        """What the record says of each system, an encoder with a probe; shared: what is to be said of all."""
        chosen, systems = self.chosen(), []
        for (encoder, description), (probe, name) in product(self.encoders.items(), PROBES.items()):
            system = {"system": f"{encoder}: {name}", "model": encoder, "encoder": encoder, "probe": probe}
            system |= {"chosen": f"{encoder}: {name}" == chosen, "trained": f"{name} on frozen features"}
            system |= {"method": self.method, "kept": KEPT[self.keep]}
            if encoder.startswith(BEFORE):
                system |= {"method": encoder.split(", ")[0], "kept": None}
            systems.append(system | description | shared)
        return systems
