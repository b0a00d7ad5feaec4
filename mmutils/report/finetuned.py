"""The fine-tuned systems of the memes study: what their encoders are, their baselines, and the tests against these.

A fine-tuning run names for each system its `start`, the start that is its `baseline` (or None), the `share` of labels,
its `networks` and, in `model`, the encoders: `run:name` was saved by the pretraining run of that name,
`random:run:name` is the same network untrained, anything else a package's.
"""

from typing import NamedTuple

from mmutils import statistics
from mmutils.report import pretraining
from mmutils.report.markdown import escape
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
    """The fine-tuned systems in the order of runs and systems, with what tables and sentences need in addition.

    `parts`: the method that trained each encoder ("" for a package's) and whether it was left untrained; `pretrained`:
    the methods of those trained, empty for baselines and controls; `name`: the start, with its run where it needs that.
    """
    systems, rows = [system for system in page.study.systems if "start" in system], []
    for system in systems:
        about, parts = page.study.records[system["run"]]["data"], []
        for encoder in system["model"].split(" and "):
            run, separator, _ = encoder.removeprefix("random:").partition(":")
            record = page.study.records.get(run)
            trained_by = (record and pretraining.method(record)) or run
            parts.append({"method": trained_by if separator else "", "random": encoder.startswith("random:")})
        runs = {other["run"] for other in systems if other["start"] == system["start"]}
        row = {
            "key": (system["run"], system["system"]),
            "parts": parts,
            "pretrained": {part["method"] for part in parts if part["method"] and not part["random"]},
            "data": (about["name"], about.get("splits")),
            "name": escape(f"{system['start']} ({system['run']})" if len(runs) > 1 else system["start"]),
            "amount": "all labels" if system["share"] == 1 else f"{100 * system['share']:.3g} % of the labels",
        }
        rows.append(system | row)
    return rows


def kinds(systems: list[dict]) -> dict[tuple[str, str], list[str]]:
    """By key of each system the tables it belongs to; a baseline stands in those of all that name it."""
    tables = {system["key"]: [_kind(system)] if system["pretrained"] else [] for system in systems}
    for system in systems:
        baseline = _baseline(system, systems)
        if baseline and not baseline["pretrained"]:
            tables[baseline["key"]] += tables[system["key"]]
    return {system["key"]: tables[system["key"]] or [_kind(system)] for system in systems}


def _kind(system: dict) -> str:
    if not system["pretrained"] and system["inputs"] != "image+text":
        return "alone"
    if not system["pretrained"] and not any(part["random"] for part in system["parts"]):
        return "packages"
    if system["pretrained"] & TOGETHER:
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
    systems = tuned(page)
    both = {s["key"]: (s, baseline) for s in systems if (baseline := _baseline(s, systems))}
    tests = page.study.cached(("pairs",), lambda: page.study.compare(both))
    return [Pair(*both[key], test) for key, test in tests.items()]
