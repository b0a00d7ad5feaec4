"""What the pretraining notebooks share: examples without labels, and what features are worth.

The loss of a self-supervised method does not say what its features are good for (a collapsed CASS has a perfect one).
So they are judged by labels that pretraining never saw, by k nearest neighbours and a linear probe, beside the same
network before training. That is no straw man: its batch norms, where it has them, have seen the pictures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from torch import nn

from mmutils import data
from mmutils.batches import Batches
from mmutils.batches.augment import Augment
from mmutils.evaluation.probes import PROBES, knn_on_val, probe_encoders
from mmutils.methods import Method
from mmutils.models.features import untrained
from mmutils.training.checkpoint import place
from mmutils.training.loop import TrainConfig, fit

KEPT = {"last": "last epoch", "knn": "best epoch by kNN on val with all labels"}
COLLAPSED = 2.0  # effective rank of features below which a branch says the same of everything


def unlabelled(
    name: str, root: str | None = None, languages: Sequence[str] = ("en",), limit: int = 0, **options
) -> pd.DataFrame:
    """Pictures and texts of the train split, once per language, with all labels -1, or what the data set has for it.

    languages: empty for a data set that has only one. limit: number of examples, 0 for all. options: what else
    its `examples` takes. A picture in two languages is two examples with the same `image` and `group`.
    """
    parts = []
    for language in languages or [None]:
        spoken = {"language": language} if language else {}
        rows = data.unlabelled(name, root, **spoken, **options)
        parts.append(rows.assign(id=rows["id"] + (f".{language}" if language else ""), label=-1))
    columns = list(data.COLUMNS)
    return data.subset(pd.concat(parts, ignore_index=True)[columns], limit)


def pretraining_view(size: int, crop: float, recolour: bool, text_safe: bool) -> Augment:
    """Views of `size` pixels of at least the share `crop` of a picture, or text-safe ones; with hue and grey or not."""
    changes = {} if recolour else {"hue": 0.0, "grey": 0.0}
    return Augment.text_safe(size, **changes) if text_safe else Augment(size, scale=(crop, 1.0), **changes)


class Pretrained(NamedTuple):
    """What `repeat` found: history, predictions, rows of probes, failures as `runs.save` takes them, last method."""

    history: list[dict]
    predictions: pd.DataFrame
    probes: list[dict]
    failed: list[dict]
    encoders: list[str]  # names of what was, or would have been, probed
    method: Method


def merge(forms: Sequence[Pretrained]) -> Pretrained:
    """Several of them as one, with the last one's method."""
    fields = ("history", "probes", "failed", "encoders")
    lists = {field: [row for form in forms for row in getattr(form, field)] for field in fields}
    predictions = pd.concat([form.predictions for form in forms if len(form.predictions)], ignore_index=True)
    return Pretrained(**lists, predictions=predictions, method=forms[-1].method)


def pretrain_seeds(
    system: str,
    build: Callable[[], Method],
    branches: Mapping[str, str],
    batches: Batches,
    labelled: Mapping[str, Batches],
    classes: int,
    config: TrainConfig,
    seeds: Sequence[int],
    baseline: bool = True,
    checkpoint: str | Path | None = None,
    keep: str = "last",
) -> Pretrained:
    """Train `build()` once per seed, keep one epoch, and probe each branch's features.

    keep: "last", or "knn", the epoch that is best by kNN on val. That choice reads all labels of train and val, so what
    is pretrained is then no longer without labels; `described` says so.

    branches: readable name -> name in `method.encoders()`. What is probed is called "<system>, <branch>", and with
    `baseline` also "random, <branch>", the same network before training, or "before, <branch>" where that has
    pretrained weights; `probes` says what the systems are called. A branch whose effective rank ends below 2 has
    collapsed, and after a loss that is not finite all branches have failed: they are among `failed`, collapsed ones
    also among `probes`.
    """
    data.require_labels({split: rows.examples for split, rows in labelled.items()})
    if keep not in KEPT:
        raise ValueError(f"keep={keep!r}: give one of {', '.join(KEPT)}")
    history, frames, rows, failed = [], [], [], []
    for seed in seeds:
        torch.manual_seed(seed)
        method = build()
        encoders = {name: method.encoders()[key] for name, key in branches.items()}
        before = {f"{origin(e)}, {name}": untrained(e, labelled["train"]) for name, e in encoders.items() if baseline}
        after = {f"{system}, {name}": encoder for name, encoder in encoders.items()}
        batches.seed = seed
        try:
            found = fit(
                method,
                batches,
                replace(config, seed=seed),
                evaluate=lambda method, encoders=encoders: knn_on_val(encoders, labelled),
                select="knn" if keep == "knn" else None,
                checkpoint=place(checkpoint, system, seed),
                evaluated_on=labelled,
            )
            history += [{"system": system, "seed": seed, **row} for row in found]
            judged = before | after
        except FloatingPointError as error:
            failed += [_failure(name, probe, seed, error) for name in after for probe in PROBES]
            judged = before
        if not judged:
            continue
        frame, scored = probe_encoders(judged, labelled, classes, seed)
        frames.append(frame)
        rows += scored
        for row in scored:
            if row["split"] == "test" and not row["effective_rank"] >= COLLAPSED:
                reason = f"collapsed: effective rank {row['effective_rank']:.2f} of the features"
                failed.append(_failure(row["encoder"], row["probe"], seed, reason))
    predictions = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()  # nothing where all diverged
    return Pretrained(history, predictions, rows, failed, [*before, *after], method)


def origin(encoder: nn.Module) -> str:
    """ "random" for a network that starts from nothing, "before" where any part of it has pretrained weights."""
    sources = {module.source for module in encoder.modules() if hasattr(module, "source")}
    return "random" if sources <= {"random"} else "before"


def _failure(encoder: str, probe: str, seed: int, reason: object) -> dict:
    return {"system": f"{encoder}: {PROBES[probe]}", "seed": seed, "reason": str(reason)}


def describe_probes(
    found: Pretrained, method: str, sources: Mapping[str, str], keep: str = "last", **entries
) -> list[dict]:
    """What the record says of the systems of `repeat`: a dict for each; of those trained the best on val is `chosen`.

    sources: where each branch's first weights are from. keep: as for `repeat`. entries: what else is to be said of all.
    """
    val = pd.DataFrame(found.probes).query("split == 'val'")
    val = val[~val["encoder"].str.startswith(("random, ", "before, "))]
    best = val.groupby(["encoder", "probe"], sort=False)["auroc"].mean().idxmax() if len(val) else None
    rows = []
    for name in found.encoders:
        first = name.split(", ")[0]
        known = {"model": name, "method": first if first in ("random", "before") else method, "encoder": name}
        known["weights"] = sources[name.rsplit(", ", 1)[-1]]
        known["kept"] = None if first in ("random", "before") else KEPT[keep]
        for probe, shown in PROBES.items():
            chosen = {"probe": probe, "chosen": (name, probe) == best, "trained": f"{shown} on frozen features"}
            rows.append({"system": f"{name}: {shown}", **known, **chosen, **entries})
    return rows
