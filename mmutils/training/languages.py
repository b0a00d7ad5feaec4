"""The same question in two languages: the same examples, labels and seeds, read in each, by text, picture and both.

What is trained in the first language is asked in the second one as well: labels often exist in English alone.
"""

import math
from collections.abc import Mapping
from functools import partial

import pandas as pd
from torch import Tensor

from mmutils import data
from mmutils.models.encoder import CachedEncoder
from mmutils.training.finetuning import share_of_labels
from mmutils.training.loop import TrainConfig
from mmutils.training.supervised import Trainings, fused_classifier, join_seeds, predict_each, split_batches

NAMES = {"en": "English", "hi": "Hindi"}
Features = Mapping[str, Mapping[str, Tensor]]  # by split, what Batches takes as `extra`


def paired_tables(name: str, root: str, limit: int = 0, **options) -> dict[str, dict[str, pd.DataFrame]]:
    """By language and split, the labelled examples that are there in both languages, in the same order.

    Of rows that are left out for their text in one language (leaks="drop") those of the other one go, too.
    Args: as `mmutils.data.tables`. ValueError: as there.
    """
    tables = {code: data.tables(name, root, language=code, labelled=True, **options) for code in NAMES}
    for split, first in tables["en"].items():
        both = {*first["id"]} & {*tables["hi"][split]["id"]}
        for splits in tables.values():
            kept = splits[split][splits[split]["id"].isin(both)]
            splits[split] = data.subset(kept.reset_index(drop=True), limit)
    return tables


class BilingualTrainings(Trainings):
    """Trainings of five systems, "Picture", "Text, <language>" and "Picture + text, <language>", on frozen features."""

    def train_all(
        self,
        tables: Mapping[str, Mapping[str, pd.DataFrame]],
        pictures: Features,
        texts: Mapping[str, Features],
        sides: tuple[CachedEncoder, CachedEncoder],
        config: TrainConfig,
        classes: int,
        *,
        fusion: str,
        labels: int = 0,
        batch_size: int = 32,
    ) -> None:
        """Train each system with each seed, and ask those of the first language's texts in the second one.

        Args:
            tables: by language, and of each by split, the same examples in the same order.
            sides: what reads the features of pictures and of texts.
            labels: examples of train that are learned from, drawn anew for each seed; 0 for all.
            batch_size: examples, at most a quarter of those of train, but at least 4.
        """
        first, second = tables
        picture, text = sides
        systems = {"Picture": (first, [picture])}
        for code in tables:
            systems[f"Text, {NAMES[code]}"] = code, [text]
            systems[f"Picture + text, {NAMES[code]}"] = code, [picture, text]
        extras = {code: {split: {**pictures[split], **texts[code][split]} for split in pictures} for code in tables}
        asked = split_batches({split: tables[second][split] for split in ("val", "test")}, 256, extras[second])
        for system, (code, parts) in systems.items():
            inputs = "+".join(kind for kind, side in zip(("image", "text"), sides, strict=True) if side in parts)
            about = {"inputs": inputs, "language": code if text in parts else None, "trained": "head"}
            keep = partial(predict_each, asked) if text in parts and code == first else None
            for seed in self.seeds:
                train, share = tables[code]["train"], min(1, (labels or math.inf) / len(tables[code]["train"]))
                rows = share_of_labels(train, share, seed).index  # the same examples in both languages
                drawn = {name: values[rows] for name, values in extras[code]["train"].items()}
                own = {**tables[code], "train": train.loc[rows]}, {**extras[code], "train": drawn}
                batches = split_batches(own[0], min(batch_size, max(4, len(rows) // 4)), own[1])
                build = partial(fused_classifier, parts, fusion, classes)
                self.train(system, build, batches, config, seeds=[seed], keep=keep, **about, labels=len(rows))
            if keep:
                name, predictions = f"{system}, asked in {NAMES[second]}", join_seeds(self.kept[system], self.seeds)
                self._predictions += [rows.assign(system=name, split=split) for split, rows in predictions.items()]
                self.descriptions[name] = about | {"language": second, "trained": f"head, in {NAMES[first]}"}

    def describe_all(self, **shared) -> list[dict]:
        """What the record says of each system; those that were trained in the language they are asked in count."""
        return [row | {"chosen": row["trained"] == "head"} for row in self.describe("", **shared)]

    def four(self, asked: bool = False) -> list[pd.DataFrame]:
        """For `language_gap`: text alone in both, then with the picture; asked: trained in the first language alone."""
        first, second = NAMES.values()
        sides = [first, f"{first}, asked in {second}" if asked else second]
        return [self.on_test(f"{reads}, {side}") for reads in ("Text", "Picture + text") for side in sides]
