"""What the runs of one study say: systems, scores, predictions, intervals. No text, no figure."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from mmutils import runs, statistics


class Study:
    """The readable records of one study under `folder`/runs; nothing here is fitted, chosen or tuned on test."""

    def __init__(self, folder: str | Path, name: str):
        root = Path(folder) / "runs"
        records = runs.all_records(root) if root.is_dir() else []
        self.folder, self.name = Path(folder), name
        self.records = {r["run"]: r for r in records if r["study"] == name}
        self.failed = [r for r in records if r["status"] != "ok" and r["study"] in (name, None)]
        self._known: dict[tuple, object] = {}

    def has(self, *prefixes: str) -> bool:
        """Is there, for each prefix of a run's name, a run that went well?"""
        return not self.missing(*prefixes)

    def missing(self, *prefixes: str) -> list[str]:
        """The prefixes without a run that went well."""
        good = [name for name, record in self.records.items() if record["status"] == "ok"]
        return [p for p in prefixes if not any(name == p or name.startswith(p + "-") for name in good)]

    @cached_property
    def built_in(self) -> bool:
        """Were the examples those that come with the package?"""
        return any((r["data"] or {}).get("built_in") for r in self.records.values())

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes in the order of their labels; ValueError if the runs do not agree on them."""
        known = {name: tuple(record["classes"]) for name, record in self.records.items() if record["classes"]}
        if len(set(known.values())) > 1:
            raise ValueError(f"runs of study {self.name!r} have different classes, which no table can hold: {known}")
        return list(next(iter(known.values()), ()))

    @cached_property
    def systems(self) -> list[dict]:
        """All systems of all runs that went well, each with its run's name and its mean scores on val and test."""
        found = []
        for name, record in self.records.items():
            table = pd.DataFrame(
                record["scores"] or [], columns=None if record["scores"] else ["system", "split", "seed"]
            )
            for system in record["systems"] if record["status"] == "ok" else []:
                rows = table[table["system"] == system["system"]].drop(columns="system")
                by_split = {
                    split: part.drop(columns="split").set_index("seed") for split, part in rows.groupby("split")
                }
                if "test" in by_split:  # else all its seeds failed
                    found.append({**system, "run": name, **by_split})
        return found

    def chosen(self, inputs: str, language: str | None) -> dict | None:
        """The system of these inputs that val picked; of several runs the one with the best mean macro F1 on val."""
        of_kind = [s for s in self.systems if s["inputs"] == inputs and s["language"] == language and s["chosen"]]
        return max(of_kind, key=lambda s: s["val"]["f1_macro"].mean(), default=None)

    def predictions(self, system: dict, split: str = "test") -> pd.DataFrame:
        """The predictions of all seeds of one system on one split, ordered by seed and id."""
        return self.once(("predictions", system["run"], system["system"], split), lambda: self._read(system, split))

    def _read(self, system: dict, split: str) -> pd.DataFrame:
        table = self.once(("run", system["run"]), lambda: runs.predictions(self.folder / "runs" / system["run"]))
        rows = table[(table["system"] == system["system"]) & (table["split"] == split)]
        return rows.sort_values(["seed", "id"]).reset_index(drop=True)

    def interval(self, system: dict, score: str = "f1_macro", resamples: int = 10_000) -> statistics.Interval:
        """95 % interval of a system's test score over groups and seeds."""
        key = ("interval", system["run"], system["system"], score, resamples)
        compute = partial(statistics.bootstrap_interval, self.predictions(system), score, resamples=resamples)
        return self.once(key, compute)

    def once(self, key: tuple, compute: Callable):
        """What `compute()` gave the first time it was asked for under this key."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def averaged(self, system: dict) -> pd.DataFrame:
        """Probabilities averaged over seeds, a row for each test example (index: id), with `label` and `guess`."""
        table = self.predictions(system)
        columns = [f"p_{k}" for k in range(len(self.records[system["run"]]["classes"]))]
        mean = table.groupby("id")[columns].mean()
        return mean.assign(label=table.groupby("id")["label"].first(), guess=mean.to_numpy().argmax(1))

    def history(self, system: dict) -> pd.DataFrame:
        """The training curves of all seeds of one system; empty where nothing was trained step by step."""
        table = pd.DataFrame(self.records[system["run"]]["history"] or [])
        return table[table["system"] == system["system"]] if len(table) else table
