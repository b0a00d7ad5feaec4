"""What the runs of one study say: systems, scores, predictions, intervals. No text, no figure."""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from mmutils import runs, statistics
from mmutils.statistics.bootstrap import Draws
from mmutils.statistics.panel import Panel, check_probabilities, panel, probability_columns
from mmutils.statistics.scores import scores

RESAMPLES = 2_000  # of intervals and tests
FINER = 10  # times as many where these do not decide (see `undecided`)


class Study:
    """The readable records of one study: those given, or else all under `folder`/runs.

    Left out with a warning: runs whose record does not fit their predictions or, in the crisis study, others' classes.
    """

    def __init__(self, folder: str | Path, name: str, records: list[dict] | None = None):
        self.root, self.name = Path(folder) / "runs", name
        self.score, self.resamples = "auroc" if name == "memes" else "f1_macro", RESAMPLES
        if records is None:
            records = runs.load_records(self.root) if self.root.is_dir() else []
        self._cache: dict[tuple, object] = {}
        self._tables: dict[tuple[str, str, str], pd.DataFrame] = {}  # by run, system and split
        self.records, bad = {r["run"]: r for r in records if r["study"] == name}, {}
        for run, record in self.records.items():
            try:
                if record["status"] == "ok":
                    self._check(record)
            except Exception as error:  # a broken file of predictions may raise any
                bad[run] = f"{type(error).__name__}: {error}"
        classes = {run: r["classes"] for run, r in self.records.items() if r["classes"] and run not in bad}
        if name == "crisis" and classes:
            [(usual, _)] = Counter(map(tuple, classes.values())).most_common(1)
            strange = {run: names for run, names in classes.items() if tuple(names) != usual}
            bad |= {run: f"its classes are {c}, those of most runs {list(usual)}" for run, c in strange.items()}
        for run, reason in bad.items():
            warnings.warn(f"run {run} is left out: {reason}", stacklevel=2)
            del self.records[run]
        self.built_in = any(r["data"].get("built_in") for r in self.records.values())  # the package's examples

    def _check(self, record: dict) -> None:
        plain = dict.fromkeys(("system", "split", "id", "group"), object)  # of which pandas takes rows much faster
        table = runs.load_predictions(self.root / record["run"], record).astype(plain)
        if table.empty and not record["scores"]:
            return
        table = table.sort_values(["seed", "id"]).copy()  # in few blocks of memory, which are faster to read
        check_probabilities(table["label"].to_numpy(), table[probability_columns(table)].to_numpy())
        tables = dict(list(table.groupby(["system", "split"], sort=False)))
        scored = {(score["system"], score["split"], score["seed"]) for score in record["scores"]}
        if scored != {(*key, seed) for key, part in tables.items() for seed in part["seed"].unique()}:
            raise ValueError("its scores and its predictions are not of the same systems, seeds and splits")
        if absent := {"val", "test"} - {split for _, split in tables}:
            raise ValueError(f"it has no predictions on {' and '.join(sorted(absent))}: val chooses, test is shown")
        self._tables |= {(record["run"], *key): part.reset_index(drop=True) for key, part in tables.items()}

    @cached_property
    def systems(self) -> list[dict]:
        """All systems of all runs that went well, with their run, classes, data, and scores by seed on val and test."""
        systems = []
        for run, record in self.records.items():
            if record["status"] != "ok" or not record["scores"]:
                continue
            classes = [name.replace("_", " ") for name in record["classes"]]
            scored = pd.DataFrame(record["scores"]).set_index(["system", "split", "seed"]).groupby(level=[0, 1])
            scored = {key: rows.droplevel([0, 1]) for key, rows in scored}
            for system in record["systems"]:
                names = [(split, (system["system"], split)) for split in ("val", "test")]
                by_split = {split: scored[key] for split, key in names if key in scored}
                if "test" in by_split:  # else all its seeds failed
                    more = {"run": run, "classes": classes, "data": record["data"]}
                    systems.append({**system, **more, **by_split})
        return systems

    def predictions(self, system: dict, split: str = "test") -> pd.DataFrame:
        """The predictions of all seeds of one system on one split, ordered by seed and id."""
        return self._tables[system["run"], system["system"], split]

    def panel(self, system: dict, split: str = "test") -> Panel:
        """The predictions of one system on one split, checked once."""
        key = "panel", split, system["run"], system["system"]
        return self.cached(key, lambda: panel(self.predictions(system, split)))

    def add(self, system: dict, tables: dict[str, pd.DataFrame]) -> None:
        """Add a system whose predictions by split are made of those of others."""
        self._tables |= {(system["run"], system["system"], split): table for split, table in tables.items()}
        by_split = {s: {seed: scores(rows) for seed, rows in t.groupby("seed")} for s, t in tables.items()}
        self.systems.append(system | {split: pd.DataFrame(rows).T for split, rows in by_split.items()})

    def interval(self, system: dict, score: str | None = None) -> statistics.Interval:
        """95 % interval of a system's test score (default: the study's) over groups and seeds."""
        draws, place = self._drawn(system, score or self.score, self.resamples)
        key = "interval", score or self.score, self.resamples, system["run"], system["system"]
        return self.cached(key, lambda: draws.interval(lambda means: means[..., place]))

    def compare(self, pairs: Mapping) -> dict:
        """Paired comparisons on test of pairs of systems, by their keys, with Holm's correction over all of them."""
        differences = {key: self.difference(*pair, self.score, self.resamples) for key, pair in pairs.items()}
        corrected, more = _holm(differences), FINER * self.resamples
        redo = {key: pair for key, pair in pairs.items() if undecided(differences[key], corrected[key])}
        among = {(system["run"], system["system"]) for pair in redo.values() for system in pair}
        differences |= {key: self.difference(*pair, self.score, more, among) for key, pair in redo.items()}
        return {key: statistics.Comparison(differences[key], p) for key, p in _holm(differences).items()}

    def difference(self, a: dict, b: dict, score: str, resamples: int, among: set | None = None) -> statistics.Interval:
        """Test score of a minus that of b, as `statistics.paired_difference` gives it."""
        (draws, first), (others, second) = (self._drawn(system, score, resamples, among) for system in (a, b))
        if draws is others:
            return draws.interval(lambda means: means[..., first] - means[..., second], test=True)
        return statistics.paired_difference(*map(self.predictions, (a, b)), score, resamples=resamples)

    def gap(self, four: Sequence[dict], split: str, score: str, resamples: int) -> statistics.LanguageGap:
        """`statistics.language_gap` of text alone in both languages and of text and picture in both."""
        if split == "test":
            usual = (score, resamples) == (self.score, self.resamples)
            among = None if usual else {(system["run"], system["system"]) for system in four}
            (draws, *others), places = zip(*(self._drawn(s, score, resamples, among) for s in four), strict=True)
            if all(other is draws for other in others):
                return statistics.gap_of(draws, places)
        tables = (self.predictions(system, split) for system in four)
        return statistics.language_gap(*tables, score=score, resamples=resamples)

    def _drawn(self, system: dict, score: str, resamples: int, among: set | None = None) -> tuple[Draws, int]:
        """Resampled scores of a system and of all that are like it (in `among`), and its place among them.

        Drawn once for all, they give the intervals and tests that `statistics` gives for one or two systems.
        """
        name, alike = (system["run"], system["system"]), self._alike[system["run"], system["system"]]
        names, drawn = self._cache.get(key := (score, resamples, id(alike)), ([], None))
        if new := [other for other in alike if other not in names and (among is None or other in among)]:
            more = Draws([alike[other] for other in new], score, resamples)
            names, drawn = self._cache[key] = names + new, _joined(drawn, more) if drawn else more
        return drawn, names.index(name)

    @cached_property
    def _alike(self) -> dict[tuple[str, str], dict[tuple[str, str], Panel]]:
        """By run and name of a system the panels, on test, of all with its examples and seeds, by theirs."""
        kinds, by_name = [], {}
        for system in self.systems:
            table, name = self.predictions(system), (system["run"], system["system"])
            keys = [table[column].to_numpy() for column in ("seed", "id", "group", "label")]
            alike = next((panels for others, panels in kinds if all(map(np.array_equal, keys, others))), None)
            if alike is None:
                kinds.append((keys, alike := {name: self.panel(system)}))
            else:  # in the same order, so that all but the probabilities is the same
                first = next(iter(alike.values()))
                values = table[probability_columns(table)].to_numpy(np.float64)
                alike[name] = replace(first, probabilities=values.reshape(*first.probabilities.shape[:2], -1))
            by_name[name] = alike
        return by_name

    def __getstate__(self) -> dict:
        """For another process: without predictions and what is made of them."""
        return {name: value for name, value in vars(self).items() if name[0] != "_" and name != "systems"}

    def cached(self, key: tuple, compute: Callable):
        """What `compute()` gave the first time it was asked for under this key."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

    def averaged(self, system: dict) -> pd.DataFrame:
        """Probabilities averaged over seeds, a row for each test example (index: id), with `label` and `guess`."""
        table = self.predictions(system)
        columns = probability_columns(table)
        mean = table.groupby("id")[columns].mean()
        return mean.assign(label=table.groupby("id")["label"].first(), guess=mean.to_numpy().argmax(1))


def _joined(first: Draws, second: Draws) -> Draws:
    """Of the systems of both, which have the same examples and seeds: their resamples are the same."""
    both = copy(first)
    both.systems = first.systems + second.systems
    for name in ("means", "draws", "of_seeds"):
        setattr(both, name, np.concatenate([getattr(first, name), getattr(second, name)], axis=-1))
    return both


def _holm(differences: Mapping) -> dict:
    corrected = statistics.holm([difference.p_value for difference in differences.values()])
    return dict(zip(differences, map(float, corrected), strict=True))


def undecided(difference: statistics.Interval, corrected: float) -> bool:
    """Whether other 2,000 resamples might turn the verdict at .05, or are too few for a p as small as this one."""
    return corrected >= 0.01 and (corrected <= 0.1 or difference.p_value <= 0.003)


def confusion_counts(predictions: pd.DataFrame, classes: int) -> np.ndarray:
    """Counts (K, K), rows true and columns predicted."""
    probabilities = predictions[[f"p_{k}" for k in range(classes)]].to_numpy()
    return confusion_matrix(predictions["label"], probabilities.argmax(1), labels=range(classes))


def on_val(system: dict, score: str) -> float:
    """A system's mean score on val, by which systems are chosen; below all others where it is not defined."""
    mean = float(system["val"][score].astype(float).mean())
    return mean if mean == mean else float("-inf")
