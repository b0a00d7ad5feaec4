"""The fine-tuned systems of the memes study: what their encoders are, their baselines, and the tests against these.

A fine-tuning run names for each system its `start`, the start that is its `baseline` (or None), the `share` of labels,
its `networks` and, in `model`, the encoders: `run:name` was saved by the pretraining run of that name,
`random:run:name` is the same network untrained, anything else a package's.
"""

from typing import NamedTuple

from mmutils import statistics
from mmutils.report import pretraining
from mmutils.report.sections import Page

TOGETHER = {"CLIP", "CASS-MM"}  # methods that learn from pictures and texts together
TRANSFORMERS = ("vit", "deit", "swin", "xcit", "beit", "cait", "eva", "pvt", "hiera", "volo")  # in names of networks


class Pair(NamedTuple):
    """A pretrained system and its baseline; the test is of the difference of their AUROC."""

    system: dict
    baseline: dict
    test: statistics.Comparison

    @property
    def same(self) -> bool:
        """Are their networks the same?"""
        return self.system["networks"] == self.baseline["networks"]


def tuned(page: Page) -> list[dict]:
    """The fine-tuned systems in the order of runs and systems, with a `key`.

    Each has as `parts` the method that trained each encoder ("" for a package's) and whether it was left untrained.
    """
    rows = []
    for system in page.study.systems:
        if "start" not in system:
            continue
        about, parts = page.study.records[system["run"]]["data"], []
        for encoder in system["model"].split(" and "):
            run, separator, _ = encoder.removeprefix("random:").partition(":")
            record = page.study.records.get(run)
            trained_by = (record and pretraining.method(record)) or run
            parts.append({"method": trained_by if separator else "", "random": encoder.startswith("random:")})
        key, about = (system["run"], system["system"]), (about["name"], about.get("splits"))
        rows.append(system | {"key": key, "parts": parts, "data": about})
    return rows


def kinds(systems: list[dict]) -> dict[tuple[str, str], list[str]]:
    """By run and name of each system the tables it belongs to; a baseline stands in those of all that name it."""
    tables = {system["key"]: [_kind(system)] if _pretrained(system) else [] for system in systems}
    for system in systems:
        baseline = _baseline(system, systems)
        if baseline and not _pretrained(baseline):
            tables[baseline["key"]] += tables[system["key"]]
    return {system["key"]: tables[system["key"]] or [_kind(system)] for system in systems}


def _pretrained(system: dict) -> set[str]:
    """The methods by which its encoders were pretrained; none for a baseline or a control."""
    return {part["method"] for part in system["parts"] if part["method"] and not part["random"]}


def _kind(system: dict) -> str:
    """The table of a system by itself, whatever is compared with it."""
    if not _pretrained(system):
        if system["inputs"] != "image+text":
            return "alone"
        if not any(part["random"] for part in system["parts"]):
            return "packages"
    if _pretrained(system) & TOGETHER:
        return "both"
    return "ViT" if any(word in system["networks"][0] for word in TRANSFORMERS) else "CNN"


def _baseline(system: dict, systems: list[dict]) -> dict | None:
    """The system that this one is compared with, of the same run where it is there; None where none is named."""
    shared = ("data", "inputs", "language", "share", "trained")
    named = [s for s in systems if s["start"] == system.get("baseline") and s is not system]
    alike = [s for s in named if all(s[name] == system[name] for name in shared)]
    return min(alike, key=lambda s: s["run"] != system["run"], default=None)


def pairs(page: Page) -> list[Pair]:
    """Every pretrained system against its baseline on the same test examples, Holm's correction over all of them."""

    def compute() -> list[Pair]:
        systems = tuned(page)
        against = {system["key"]: (system, _baseline(system, systems)) for system in systems}
        tests = page.study.compare({key: pair for key, pair in against.items() if pair[1]})
        return [Pair(*against[key], test) for key, test in tests.items()]

    return page.study.cached(("pairs",), compute)
