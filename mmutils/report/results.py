"""What the runs of one study say: systems, scores, predictions, intervals. No text, no figure."""

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from mmutils import runs, statistics
from mmutils.report import extras
from mmutils.runs.storage import check_predictions
from mmutils.statistics.panel import check_probabilities, probability_columns


class Study:
    """The readable records of one study under `folder`/runs; nothing here is fitted, chosen or tuned on test.

    A run whose record or predictions no table can show is left out with a warning that names it. same_classes: so is
    one whose classes are not those of most runs.
    """

    def __init__(self, folder: str | Path, name: str, same_classes: bool = False):
        root = Path(folder) / "runs"
        records = runs.load_records(root) if root.is_dir() else []
        self.folder, self.name = Path(folder), name
        self._cache: dict[tuple, object] = {}
        self.records = {r["run"]: r for r in records if r["study"] == name}
        self.failed = [r for r in records if r["status"] != "ok" and r["study"] in (name, None)]
        for run in list(self.records):
            self._check(run)
        if same_classes:
            self._keep_same_classes()

    def _check(self, run: str) -> None:
        """Leave a run out that cannot be shown, whatever it holds: it may come from anywhere."""
        record = self.records[run]
        try:
            extras.check(record["extra"])
            if record["status"] == "ok":
                _check_run(self._table(run), record)
        except Exception as error:  # a broken file of predictions may raise any
            self._leave_out(run, f"{type(error).__name__}: {error}")

    def _leave_out(self, run: str, reason: str) -> None:
        warnings.warn(f"run {run} is left out: {reason}", stacklevel=4)
        del self.records[run]

    def _keep_same_classes(self) -> None:
        classes = {run: tuple(record["classes"]) for run, record in self.records.items() if record["classes"]}
        for usual, _ in Counter(classes.values()).most_common(1):
            for run in [run for run, names in classes.items() if names != usual]:
                self._leave_out(run, f"its classes are {list(classes[run])}, those of most runs {list(usual)}")

    def _table(self, run: str) -> pd.DataFrame:
        return self.cached(("run", run), lambda: runs.load_predictions(self.folder / "runs" / run))

    def without(self, run: str) -> "Study":
        """The same study without one run; what was read and computed for single systems is shared."""
        other = Study.__new__(Study)
        other.folder, other.name, other.failed = self.folder, self.name, self.failed
        other.records = {name: record for name, record in self.records.items() if name != run}
        other._cache = {k: value for k, value in self._cache.items() if k[0] in ("run", "predictions", "interval")}
        return other

    def missing(self, *prefixes: str) -> list[str]:
        """The prefixes of a run's name without a run that went well."""
        good = [name for name, record in self.records.items() if record["status"] == "ok"]
        return [p for p in prefixes if not any(name == p or name.startswith(p + "-") for name in good)]

    @cached_property
    def built_in(self) -> bool:
        """Were the examples those that come with the package?"""
        return any(record["data"].get("built_in") for record in self.records.values())

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their labels, where all runs have the same."""
        return next((record["classes"] for record in self.records.values() if record["classes"]), [])

    @cached_property
    def systems(self) -> list[dict]:
        """All systems of all runs that went well, each with its run's name and its mean scores on val and test."""
        systems = []
        for run, record in self.records.items():
            if record["status"] == "ok" and record["scores"]:
                scores = pd.DataFrame(record["scores"]).set_index("seed")
                for system in record["systems"]:
                    rows = scores[scores["system"] == system["system"]].drop(columns="system")
                    by_split = {split: part.drop(columns="split") for split, part in rows.groupby("split")}
                    if "test" in by_split:  # else all its seeds failed
                        systems.append({**system, "run": run, **by_split})
        return systems

    def chosen(self, inputs: str, language: str | None) -> dict | None:
        """The system of these inputs that val picked; of several runs the one with the best mean macro F1 on val."""
        alike = [s for s in self.systems if s["inputs"] == inputs and s["language"] == language and s["chosen"]]
        return max(alike, key=lambda system: system["val"]["f1_macro"].mean(), default=None)

    def predictions(self, system: dict, split: str = "test") -> pd.DataFrame:
        """The predictions of all seeds of one system on one split, ordered by seed and id."""
        return self.cached(("predictions", system["run"], system["system"], split), lambda: self._read(system, split))

    def _read(self, system: dict, split: str) -> pd.DataFrame:
        table = self._table(system["run"])
        rows = table[(table["system"] == system["system"]) & (table["split"] == split)]
        return rows.sort_values(["seed", "id"]).reset_index(drop=True)

    def interval(self, system: dict, score: str = "f1_macro", resamples: int = 10_000) -> statistics.Interval:
        """95 % interval of a system's test score over groups and seeds."""
        key = ("interval", system["run"], system["system"], score, resamples)
        compute = partial(statistics.bootstrap_interval, self.predictions(system), score, resamples=resamples)
        return self.cached(key, compute)

    def compare(self, pairs: Mapping, score: str = "f1_macro", resamples: int = 10_000) -> dict:
        """Paired comparisons on test of pairs of systems, by their keys, with Holm's correction over all of them."""
        tables = {key: (self.predictions(a), self.predictions(b)) for key, (a, b) in pairs.items()}
        return statistics.compare_pairs(tables, score, resamples=resamples)

    def cached(self, key: tuple, compute: Callable):
        """What `compute()` gave the first time it was asked for under this key."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

    def averaged(self, system: dict) -> pd.DataFrame:
        """Probabilities averaged over seeds, a row for each test example (index: id), with `label` and `guess`."""
        table = self.predictions(system)
        columns = [f"p_{k}" for k in range(len(self.records[system["run"]]["classes"]))]
        mean = table.groupby("id")[columns].mean()
        return mean.assign(label=table.groupby("id")["label"].first(), guess=mean.to_numpy().argmax(1))

    def history(self, system: dict) -> pd.DataFrame:
        """The training curves of all seeds of one system; empty where nothing was trained step by step."""
        table = pd.DataFrame(self.records[system["run"]]["history"])
        return table[table["system"] == system["system"]] if len(table) else table


def _check_run(table: pd.DataFrame, record: dict) -> None:
    """ValueError where the predictions are not those that the record describes."""
    if not len(table) and not record["scores"]:
        return
    rows = check_predictions(table, len(record["classes"]), record["systems"], record["failed"])
    check_probabilities(rows["label"].to_numpy(), rows[probability_columns(rows)].to_numpy())
    scored = {(score["system"], score["seed"], score["split"]) for score in record["scores"]}
    if scored != set(rows[["system", "seed", "split"]].drop_duplicates().itertuples(index=False, name=None)):
        raise ValueError("its scores and its predictions are not of the same systems, seeds and splits")
