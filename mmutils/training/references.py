"""What stands beside fine-tuned classifiers: logistic regression, a stack with the words themselves, means of seeds.

They cost seconds, and a small data set is often won by them. A stack (Wolpert 1992,
https://doi.org/10.1016/S0893-6080(05)80023-1) learns how far to trust each part from predictions on folds of train.
"""

import warnings
from collections.abc import Mapping, Sequence

import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import StackingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from mmutils.evaluation.predictions import class_probabilities, predictions_table
from mmutils.models.encoder import Encoder
from mmutils.models.features import frozen_features
from mmutils.statistics.scores import scores
from mmutils.training.starts import Start
from mmutils.training.supervised import Trainings

STRENGTHS = (1e-4, 1e-3, 1e-2)  # C of logistic regression on features; on words 5
FOLDS = 5
WORDS = {"analyzer": "word", "ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (2, 5)}


class Finetunings(Trainings):
    """Trainings, and systems that stand beside them without a training of their own."""

    @property
    def trained(self) -> list[str]:
        """The systems that were trained, which alone can be exported."""
        return list(dict.fromkeys(row["system"] for row in self.history))

    def add_means(self) -> None:
        """Add for each system with all labels the mean of its seeds' probabilities."""
        for system, rows in self.predictions.groupby("system", sort=False):
            seeds, about = rows["seed"].nunique(), self.descriptions[system]
            if seeds > 1 and about["share"] == 1:
                columns = dict.fromkeys(rows.filter(regex=r"^p_\d+$"), "mean")
                keys = ["split", "id", "group", "label"]
                mean = rows.groupby(keys, sort=False).agg(columns).reset_index()
                self._add(f"{system}, mean of {seeds} seeds", mean, about, f"{about['trained']}, mean of {seeds} seeds")

    def add_logistic(
        self, starts: Mapping[str, Mapping[int, Start]], tables: Mapping, classes: int, balanced: bool = False
    ) -> None:
        """Add for each start logistic regression on its standardised features, and for texts also the stack.

        All labels of train, without fine-tuning; the regression's C is chosen on val. Starts that have a pretraining
        for each seed are left out; so is a stack that cannot be fitted on folds of train, with a UserWarning.
        balanced: all classes weigh the same.
        """
        weigh = "balanced" if balanced else None
        for name, by_seed in tqdm(starts.items(), "logistic regression", delay=2):
            start = by_seed[self.seeds[0]]
            if start.description["pretrainings"] > 1:
                continue
            rows = {split: _columns(start.encoders, table) for split, table in tables.items()}
            models = [_logistic(rows["train"], "", strength, weigh) for strength in STRENGTHS]
            fitted = [self._predicted(model, rows, tables, classes) for model in models]
            best = max(fitted, key=lambda predictions: scores(predictions.query("split == 'val'"))[self.select])
            about = start.description | {"share": 1.0}
            about |= {"labels": len(tables["train"]), "val_labels": len(tables["val"])}
            self._add(f"{name}, logistic regression", best, about, "logistic regression on features")
            if "text" in start.description["inputs"]:
                try:
                    stacked = self._predicted(_stack(rows["train"], tables["train"], weigh), rows, tables, classes)
                except ValueError as error:  # of scikit-learn: no word in two texts, a fold of train without a class
                    warnings.warn(f"no stack with words of {name!r}: too few texts or labels ({error})", stacklevel=2)
                else:
                    self._add(f"{name}, stack with words", stacked, about, "stack of logistic regressions")

    def _add(self, system: str, predictions: pd.DataFrame, about: dict, trained: str) -> None:
        self._predictions.append(predictions.assign(system=system, seed=0))
        self.descriptions[system] = about | {"trained": trained, "baseline": None, "reference": True}

    def _predicted(self, model: ClassifierMixin, rows: dict, tables: Mapping, classes: int) -> pd.DataFrame:
        """The fitted model's predictions on val and test."""
        with threadpool_limits(1):  # for these small matrices one thread is the fastest
            model.fit(rows["train"], tables["train"]["label"])
        parts = []
        for split in ("val", "test"):
            probabilities = class_probabilities(model, rows[split], classes)
            parts.append(predictions_table(tables[split], probabilities).assign(split=split))
        return pd.concat(parts, ignore_index=True)


def _columns(encoders: Sequence[Encoder], table: pd.DataFrame) -> pd.DataFrame:
    """The features of all encoders (N, D) as columns "<number of the encoder>.<number>", and the texts."""
    features = [frozen_features(encoder, table).numpy() for encoder in encoders]
    parts = [pd.DataFrame(values).add_prefix(f"{number}.") for number, values in enumerate(features)]
    return pd.concat(parts, axis=1).assign(text=table["text"].to_numpy())


def _logistic(rows: pd.DataFrame, prefix: str, strength: float, weigh: str | None) -> ClassifierMixin:
    """Logistic regression on the standardised columns of features that begin so."""
    columns = [name for name in rows if name != "text" and name.startswith(prefix)]
    regression = LogisticRegression(C=strength, max_iter=500, class_weight=weigh)
    return make_pipeline(make_column_transformer((StandardScaler(), columns)), regression)


def _stack(rows: pd.DataFrame, table: pd.DataFrame, weigh: str | None) -> ClassifierMixin:
    """Logistic regressions on each encoder's features, on words and on characters, and one on their answers."""
    numbers = dict.fromkeys(name.split(".")[0] for name in rows if name != "text")
    parts = [(f"features {number}", _logistic(rows, f"{number}.", 1e-3, weigh)) for number in numbers]
    for options in WORDS:
        counts = make_column_transformer((TfidfVectorizer(**options, sublinear_tf=True, min_df=2), "text"))
        parts.append(
            (options["analyzer"], make_pipeline(counts, LogisticRegression(C=5, max_iter=500, class_weight=weigh)))
        )
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    splits = list(folds.split(table, table["label"], table["group"]))
    return StackingClassifier(parts, LogisticRegression(), cv=splits, stack_method="decision_function")
