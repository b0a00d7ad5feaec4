"""The systems and the pairs of systems that a page speaks of: what val picked, and what is compared with what.

A fine-tuning run names for each system its `start`, the start that is its `baseline` (or None), the `share` of labels,
its `networks` and, in `model`, the encoders: `run:name` was saved by the pretraining run of that name,
`start:run:name` is the same network with the weights which that pretraining began with, anything else a package's.
A pretraining run calls its encoders "<form>, <network>", beside "random, <network>" or "before, <network>", the same
network before training; each is two systems, one per probe.
"""

from collections import Counter
from itertools import combinations

from mmutils.report.page import LANGUAGES, Page, readable
from mmutils.report.results import on_val

INPUTS = {"text": "Text", "image": "Picture", "image+text": "Picture + text"}
PROBES = {"knn": "neighbours", "linear": "linear probe"}
ORIGINS = {"package": "published", "random": "untrained"}
BEFORE = ("random, ", "before, ")
SETTINGS = {"none": "as published", "plain": "unchanged pictures", "two": "two views", "same": "one view"}
Pairs = dict[tuple[str, str], tuple[dict, dict]]  # (what is compared, where) -> two systems


def title(system: dict) -> str:
    """What a system reads."""
    inputs, language = system["inputs"], LANGUAGES.get(system["language"], system["language"])
    return INPUTS.get(inputs, inputs) + (f", {language}" if language and "text" in inputs else "")


def description(page: Page, system: dict) -> str:
    """Its networks, what was trained, and by what each was pretrained."""
    named = "; ".join(networks(page, system))
    named = "" if named in system["system"] else f"{readable(named)}; "
    weights = (ORIGINS.get(origin, origin) for origin in dict.fromkeys(origins(page, system)))
    return f"{named}trained: {system['trained']}; weights: {', '.join(weights)}"


def origins(page: Page, system: dict) -> list[str]:
    """By what each encoder was pretrained: a method, "package", or nothing ("random")."""
    weights = [part.rpartition(": ")[2] for part in system["weights"].split("; ")]
    weights = ["package" if "package" in part else part.partition(" ")[0] for part in weights]
    for number, encoder in enumerate(system["model"].split(" and ")[: len(weights)]):
        run, _, saved = encoder.partition(":")
        if saved and run in page.study.records:
            weights[number] = method(page.study.records[run])
    return weights


def method(record: dict) -> str:
    """The method of a pretraining run."""
    return next((s["method"] for s in record["systems"] if s["method"] not in ("random", "before")), "")


def share(system: dict) -> float:
    """The share of the labels that a system was trained on."""
    return system.get("share") or 1


def rank(page: Page, system: dict) -> tuple[float, float]:
    """What systems are ordered by: their share of the labels, then their score on val."""
    return share(system), on_val(system, page.study.score)


def shown(page: Page) -> list[dict]:
    """The systems of the tables: fine-tuned ones where there are any, else all."""
    return [system for system in page.study.systems if system.get("start")] or page.study.systems


def kinds(page: Page) -> dict[tuple, dict]:
    """By inputs and language of the text the best system on val: of those that val picked in their run, else of all.

    All have the data set of the best with both inputs, and its run where that has such a system. Means of seeds and
    stacks, which only some inputs have, do not compete.
    """
    full = [system for system in shown(page) if share(system) == 1 and not system.get("reference")]
    full.sort(key=lambda s: (s["inputs"] == "image+text", s["chosen"], on_val(s, page.study.score)))
    same = [s for s in full if s["data"]["name"] == full[-1]["data"]["name"]]
    same.sort(key=lambda s: s["run"] == full[-1]["run"])
    best = {(s["inputs"], s["language"] if "text" in s["inputs"] else None): s for s in same}  # the last one stays
    return dict(sorted(best.items(), key=lambda item: ([*INPUTS].index(item[0][0]), item[0][1] or "")))


def named(page: Page) -> dict[str, tuple[str, dict]]:
    """The systems of the diagnostics, titles with them, by short names: the best of each input, or of each run."""
    if page.study.name == "memes":
        chosen = {system["run"]: system for system in shown(page) if system["chosen"]}
        names = {run: readable(s["system"]).replace(", 100 % of labels", "") for run, s in chosen.items()}
        return {run: (f"{run}: {names[run]}", system) for run, system in chosen.items()}
    return {"-".join(filter(None, key)): (title(system), system) for key, system in kinds(page).items()}


def inputs(page: Page) -> Pairs:
    """Both inputs against each alone, and the languages against each other, by the systems of `kinds`."""
    best, pairs = kinds(page), []
    for both in (kind for kind in best if kind[0] == "image+text"):
        pairs += [(both, ("text", both[1])), (both, ("image", None))]
    pairs += [((kind, "en"), (kind, "hi")) for kind in ("text", "image+text")]
    systems = [(best[first], best[second]) for first, second in pairs if first in best and second in best]
    return {(f"{title(first)} – {title(second)}", ""): (first, second) for first, second in systems}


def choices(page: Page) -> Pairs:
    """The best on val against the best of each way to train, and within a way against the others; all read the same.

    A way to train is what learns, and by what it was pretrained. Not for pretraining.
    """
    pairs, keys = {}, ("inputs", "language", "labels")
    for best in kinds(page).values() if page.study.name != "memes" else ():
        alike = [s for s in page.study.systems if all(s.get(key) == best.get(key) for key in keys)]
        alike.sort(key=lambda s: (s is best, on_val(s, page.study.score)), reverse=True)
        names, ways = Counter(system["system"] for system in alike), {}
        for system in alike:
            ways.setdefault((system["trained"], *origins(page, system)), []).append(system)
        for first, *others in ways.values():
            against = [(best, first, "")] * (first is not best)
            against += [(first, other, "" if first is best else f"; trained: {first['trained']}") for other in others]
            for one, other, way in against:
                more = ", from scratch" if other["weights"] == "random" and "scratch" not in other["system"] else ""
                more += f" ({other['run']})" if names[other["system"]] > 1 else ""
                pairs[f"{one['system']} – {other['system']}{more}", title(best) + way] = one, other
    return pairs


def finetuning(page: Page) -> Pairs:
    """Each fine-tuned system against its baseline, of the same run where it is there."""
    systems, pairs = [system for system in page.study.systems if system.get("start")], {}
    for system in systems:
        alike = [s for s in systems if s["start"] == system.get("baseline") and s is not system]
        alike = [s for s in alike if _place(s) == _place(system)]
        if alike:
            baseline = min(alike, key=lambda s: s["run"] != system["run"])
            other = "" if system["networks"] == baseline["networks"] else " (other networks)"
            pairs[f"{_start(page, system)} – {baseline['start']}{other}", labels(system)] = system, baseline
    return pairs


def _start(page: Page, system: dict) -> str:
    """The start of a fine-tuned system, with its run where several have a start of this name."""
    runs = {other["run"] for other in page.study.systems if other.get("start") == system["start"]}
    return system["start"] + f" ({system['run']})" * (len(runs) > 1)


def _place(system: dict) -> list:
    """What has to be the same for both sides of a comparison of fine-tuned systems."""
    about = [system["data"].get(key) for key in ("name", "splits")]
    return [*about, *(system[key] for key in ("inputs", "language", "share", "trained"))]


def labels(system: dict) -> str:
    """How many labels a fine-tuned system was trained on."""
    amount = "all labels" if share(system) == 1 else f"{100 * share(system):.3g} % of the labels"
    return f"{amount} ({system['labels']:,} of train, {system['val_labels']:,} of val)"


def methods(page: Page) -> Pairs:
    """Two methods for the same networks, two picture networks of a run by one method, on the same inputs and labels.

    A package's weights meet the start pretrained here that is best on val, whatever its networks.
    """
    tuned, pairs, package = [s for s in page.study.systems if s.get("start") and not s.get("reference")], {}, {}
    tuned.sort(key=lambda s: on_val(s, page.study.score))
    for pair in combinations(tuned, 2):
        first, second = pair = sorted(pair, key=lambda s: (origins(page, s)[0] != "package", s["start"]))
        by, (one, other) = [origins(page, s)[0] for s in pair], [networks(page, s) for s in pair]
        if "random" in by or _place(first) != _place(second) or first["start"] == second.get("baseline"):
            continue
        name = " – ".join(_start(page, system) for system in pair), labels(first)
        same_run = first["run"] == second["run"]  # else sizes may differ too
        differ = one[0].split(",")[0] != other[0].split(",")[0] and one[1:] == other[1:]
        if one == other if by[0] != by[1] else same_run and differ:
            pairs[name] = pair
        elif by[0] == "package" != by[1]:
            package[first["run"], first["system"]] = name, pair  # the last one stays
    return dict(sorted((pairs | dict(package.values())).items()))


def networks(page: Page, system: dict) -> list[str]:
    """The networks of a system; for a text encoder that a run saved, the one that it began with."""
    runs, names = page.study.records, system.get("networks") or [system["model"]]
    pairs = [(name, runs.get(name.split("/")[0], {"parameters": {}})) for name in names]
    return [run["parameters"].get("text_encoder", name) or "small transformer" for name, run in pairs]


def probed(page: Page) -> dict[tuple[str, str, str], dict]:
    """The systems of pretraining by run, encoder and probe."""
    return {(s["run"], s["encoder"], s["probe"]): s for s in page.study.systems if s.get("probe")}


def pretraining(page: Page) -> Pairs:
    """Each pretrained encoder against the same network before training, by each probe."""
    pairs, systems = {}, probed(page)
    for (run, encoder, probe), system in systems.items():
        for before in (start + encoder.split(", ")[-1] for start in BEFORE):
            if (run, before, probe) in systems and not encoder.startswith(BEFORE):
                pairs[f"{encoder} – {before} ({run})", PROBES[probe]] = system, systems[run, before, probe]
    return pairs


def forms(page: Page) -> Pairs:
    """Forms of a method that differ in one thing only, by branch and probe."""
    pairs = {}
    for old, new in combinations([system for system in page.study.systems if system.get("variant")], 2):
        places = {(s["run"], s["encoder"].split(", ")[-1], s["probe"]) for s in (old, new)}
        if len(places) == 1 and (change := changed(old["variant"], new["variant"])):
            [(run, branch, probe)] = places
            where = f"{branch}, {PROBES[probe]} ({run})"
            where = f"{new['encoder']}, {PROBES[probe]} ({run})" if (change, where) in pairs else where
            pairs[change, where] = new, old
    return dict(sorted(pairs.items(), key=lambda item: item[0][0]))


def changed(old: dict, new: dict) -> str:
    """What differs between two forms, where that is one thing; else empty."""
    differences = [key for key in old.keys() | new.keys() if new.get(key) != old.get(key)]
    if len(differences) != 1:
        return ""
    values = (variant[differences[0]] for variant in (new, old))
    after, before = (SETTINGS.get(v, v) if isinstance(v, str) else f"{100 * v:.0f} %" for v in values)
    return f"{differences[0].replace('_', ' ')}: {after} instead of {before}"
