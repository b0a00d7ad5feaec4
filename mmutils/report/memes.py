"""The chapter on harmful memes: does pretraining without labels help when labels are few?

A fine-tuning run names for each system its `start`, the `share` of labels and, in `model`, the encoders: `run:name` was
saved by the pretraining run of that name, `random:run:name` is the same network untrained, anything else a package's.
The baseline of a system is the one of the same networks, inputs and share of labels that has more of them untrained.
"""

import re
from itertools import groupby
from pathlib import Path

from mmutils import data, plots, statistics
from mmutils.report import diagnostics, markdown, pretraining
from mmutils.report.explorer import Explorer
from mmutils.report.sections import Page, Section, between, p_value, percent, points, spread

WARNING = "Emoji data, not memes."
CHAPTER = Path(__file__).with_name("memes.md")  # the prose, with markers for BLOCKS
RESAMPLES = 2_000  # there are many pairs; p-values are then at least .001
KINDS = {
    "CNN": "Pretraining on pictures, convolutional network.",
    "ViT": "Pretraining on pictures, vision transformer.",
    "both": "Pretraining on pictures and texts together.",
    "packages": "For reference: encoders that come with packages.",
    "alone": "Control: one input alone.",
}
TRANSFORMERS = ("vit", "deit", "swin", "xcit", "beit")  # in names of networks
HELD = ["System", "Pretrained by", "Networks", "Trained", "AUROC", "95 % interval", "Accuracy"]
TESTED = ["Difference", "95 % interval", "p", "p, Holm", "Verdict"]


def tuned(page: Page) -> list[dict]:
    """The fine-tuned systems, each with what its encoders are (`parts`), in the order of runs and systems."""
    found = []
    for system in page.study.systems:
        if "start" in system:
            parts = [_part(page, given) for given in system["model"].split(" and ")]
            on = page.study.records[system["run"]]["data"]
            found.append(system | {"parts": parts, "data": (on["name"], on.get("splits"))})
    return found


def _part(page: Page, given: str) -> dict:
    """What one encoder is: the method that trained it ("" for a package's), its network, whether it was untrained."""
    if ":" not in given:
        return {"method": "", "network": given, "random": False}
    *random, run, name = given.split(":")
    record = page.study.records.get(run) or {"systems": [], "parameters": {}}
    known = record["parameters"] or {}
    method = next((s["method"] for s in record["systems"] or [] if s["method"] != "random"), run)
    network = known.get(name) or known.get(f"{name}_encoder") or name
    size = known.get(f"{name}_size") or (known.get("encoders") or {}).get(name) or known.get("size")
    shown = f"{network}, {size} px" if size and name != "text" else network
    return {"method": method, "network": shown + (" + text" if method == "CASS-MM" else ""), "random": bool(random)}


def _kind(system: dict) -> str:
    parts = system["parts"]
    if system["inputs"] != "image+text":
        return "alone"
    if not any(part["method"] for part in parts):
        return "packages"
    if any(part["method"] == "CASS-MM" or (part["method"] == "CLIP" and not part["random"]) for part in parts):
        return "both"
    return "ViT" if any(word in parts[0]["network"] for word in TRANSFORMERS) else "CNN"


def _baseline(system: dict, systems: list[dict]) -> dict | None:
    """The supervised system to compare with: the same networks untrained, else an untrained one that val prefers."""
    untrained = sum(part["random"] for part in system["parts"])
    alike = [s for s in systems if all(s[k] == system[k] for k in ("data", "inputs", "language", "share", "trained"))]
    alike = [s for s in alike if sum(part["random"] for part in s["parts"]) > untrained]
    same = [s for s in alike if _networks(s) == _networks(system)]
    return max(same or alike, key=_val, default=None)


def _networks(system: dict) -> list[str]:
    return [part["network"] for part in system["parts"]]


def _val(system: dict) -> float:
    return system["val"]["auroc"].mean()


def pairs(page: Page) -> list[dict]:
    """Every pretrained system against its baseline on the same test examples, Holm's correction over all of them."""
    return page.study.once(("pairs",), lambda: _pairs(page))


def _pairs(page: Page) -> list[dict]:
    systems, found = tuned(page), []
    for system in systems:
        baseline = _baseline(system, systems)
        if baseline and any(part["method"] and not part["random"] for part in system["parts"]):
            tables = (page.study.predictions(s) for s in (system, baseline))
            difference = statistics.paired_difference(*tables, "auroc", resamples=RESAMPLES)
            same = _networks(system) == _networks(baseline)
            found.append({"system": system, "baseline": baseline, "same": same, "difference": difference})
    corrected = statistics.holm([pair["difference"].p_value for pair in found])
    return [pair | {"holm": float(p)} for pair, p in zip(found, corrected, strict=True)]


def answer(page: Page) -> str:
    """The sentence and the figure of the first screen: the start that val picked, at every share of the labels."""
    if not pairs(page):
        return "*Not run yet: fine-tuning from a pretrained and from an untrained network, which the answer compares.*"
    most = max(pair["system"]["share"] for pair in pairs(page))
    full = [pair for pair in pairs(page) if pair["system"]["share"] == most]
    best = max(full, key=lambda pair: (pair["same"], _val(pair["system"])))
    start = [best["system"][key] for key in ("run", "start")]
    shown = [pair for pair in pairs(page) if [pair["system"][key] for key in ("run", "start")] == start]
    shown.sort(key=lambda pair: pair["system"]["share"])
    also = "; ".join(f"with {_labels(p['system'])} {_said(p['difference'])}" for p in shown if p is not best)
    note = (
        f"AUROC on {'the built-in data (emoji data, not memes)' if page.study.built_in else 'the test split'}: "
        f"{best['difference'].groups:,} groups of test examples, {best['difference'].seeds} seeds; "
        f"{markdown.escape(best['system']['start'])} was picked on val among the pretrained, and is compared with "
        f"{markdown.escape(best['baseline']['start'])}, {'the same' if best['same'] else 'another'} network not "
        "pretrained, on the same examples"
        + (f" ({also})" if also else "")
        + ". All comparisons are in [the chapter](#harmful-memes)."
    )
    return f"> **{_verdict(best)}{_others(pairs(page))}**\n\n{_answer_figure(page, shown)}\n\n{note}"


def _verdict(pair: dict) -> str:
    with_, without = (percent(pair[k]["test"]["auroc"].mean()) for k in ("system", "baseline"))
    name, d = markdown.escape(pair["system"]["start"]), pair["difference"]
    change = f"AUROC is {with_} with {name} and {without} without, {_said(d)}, with {_labels(pair['system'])}."
    if d.low <= 0 <= d.high:
        return f"Inconclusive for the best: {change}"
    return f"Pretraining {'helps' if d.estimate > 0 else 'hurts'}: {change}"


def _others(found: list[dict]) -> str:
    """A sentence on all comparisons, where there are several."""
    if len(found) == 1:
        return ""
    clear = [pair for pair in found if pair["holm"] < 0.05]
    better = [pair for pair in clear if pair["difference"].estimate > 0]
    said = f" Of all {len(found)} comparisons {len(better) or 'none'} are better with pretraining, "
    said += f"{len(clear) - len(better) or 'none'} worse (Holm, .05)"
    if better:
        most = max(better, key=lambda pair: pair["difference"].estimate)
        name, gain = markdown.escape(most["system"]["start"]), points(most["difference"].estimate)
        said += f"; most of all {name} with {_labels(most['system'])}, {gain} points"
    return f"{said}."


def _said(d: statistics.Interval) -> str:
    p = p_value(d.p_value)
    p = p if "<" in p else f"= {p}"
    return f"{points(d.estimate)} points (95 % interval {points(d.low)} to {points(d.high)}, p {p})"


def _labels(system: dict) -> str:
    return "all labels" if system["share"] == 1 else f"{100 * system['share']:.3g} % of the labels"


def _percents(found: statistics.Interval) -> tuple[float, float, float]:
    return 100 * found.estimate, 100 * found.low, 100 * found.high


def _answer_figure(page: Page, shown: list[dict]) -> str:
    rows, sides = [], {"without": "baseline", "with": "system"}
    for pair in shown:
        dots = {key: _percents(page.study.interval(pair[side], "auroc", RESAMPLES)) for key, side in sides.items()}
        rows.append({"label": f"{_labels(pair['system'])}: {points(pair['difference'].estimate)} points"} | dots)
    names = {"without": "not pretrained", "with": f"pretrained: {shown[0]['system']['start']}"}
    figure = plots.paired_dots(rows, names, "AUROC on test, % (mean over seeds, 95 % interval)")
    text = "; ".join(f"{r['label']}, {r['without'][0]:.1f} without, {r['with'][0]:.1f} with" for r in rows)
    return page.figure("memes-answer", figure, f"AUROC without and with pretraining, {text}")


def results(page: Page) -> str:
    """Source project 2's tables, as far as they have run, each system with the most labels it was given."""
    systems, tables = tuned(page), []
    most = {}
    for s in systems:
        most[s["run"], s["start"]] = max(s["share"], most.get((s["run"], s["start"]), 0))
    won = {(p["system"]["run"], p["system"]["system"]) for p in pairs(page)
           if p["holm"] < 0.05 and p["difference"].estimate > 0}  # fmt: skip
    for kind, title in KINDS.items():
        rows = [s for s in systems if _kind(s) == kind and s["share"] == most[s["run"], s["start"]]]
        if rows:
            tables.append(page.table(title, HELD, [_row(page, s, won) for s in rows], slice(4, None)))
    if not tables:
        return "*Not run yet: fine-tuning.*"
    note = (
        "Test split, percent, mean ± standard deviation over seeds. Bold: AUROC significantly above that "
        'without pretraining (paired tests below, Holm, .05). "= chance": the interval of AUROC holds 50.'
    )
    return "\n\n".join([note, *tables])


def _row(page: Page, system: dict, won: set) -> list[str]:
    found, parts = page.study.interval(system, "auroc", RESAMPLES), system["parts"]
    label = page.record(system, system["system"]) + (" (= chance)" if 0.5 in found else "")
    methods = "; ".join("nothing" if p["random"] else p["method"] or "package" for p in parts)
    auroc = spread(system["test"]["auroc"])
    auroc = f"**{auroc}**" if (system["run"], system["system"]) in won else auroc
    cells = (methods, "; ".join(_networks(system)), system["trained"])
    accuracy = spread(system["test"]["accuracy"])
    return [label, *map(markdown.escape, cells), auroc, between(found.low, found.high), accuracy]


def comparisons(page: Page) -> str:
    """Paired tests of the pretrained against the untrained."""
    rows = []
    for pair in pairs(page):
        names = " – ".join(markdown.escape(pair[k]["start"]) for k in ("system", "baseline"))
        names += "" if pair["same"] else " (other networks)"
        rows.append([names, _labels(pair["system"]), *_cells(pair["difference"], pair["holm"])])
    caption = (
        "Pretrained minus not pretrained: paired differences in AUROC on the same test examples, in points; bootstrap "
        f"over groups and seeds, {RESAMPLES:,} resamples. Holm corrects for the table's tests."
    )
    return page.table(caption, ["Pretrained – not", "Labels", *TESTED], rows, slice(2, -1)) if rows else ""


def _cells(d: statistics.Interval, holm: float) -> list[str]:
    verdict = ("better" if d.estimate > 0 else "worse") if holm < 0.05 else "inconclusive"
    return [points(d.estimate), between(d.low, d.high, points), p_value(d.p_value), p_value(holm), verdict]


def shares(page: Page) -> str:
    """AUROC over the share of labels, a figure for each run that has several."""
    images = []
    for run, group in groupby(tuned(page), key=lambda s: s["run"]):
        rows = []
        for system in group:
            estimate, low, high = _percents(page.study.interval(system, "auroc", RESAMPLES))
            row = {"label": system["start"], "share": 100 * system["share"]}
            rows.append(row | {"estimate": estimate, "low": low, "high": high})
        if len({row["share"] for row in rows}) > 1:
            figure = plots.step_curves(rows, "share", "share of the labels, %", "AUROC on test, %", chance=50)
            images.append(page.figure(f"memes-shares-{run}", figure, f"AUROC over the share of labels, run {run}"))
    return "### Few labels\n\nMean over seeds with 95 % interval.\n\n" + "\n".join(images) if images else ""


def chapter(page: Page) -> str:
    """The chapter: its prose with the blocks filled in; a block without records is empty, its heading too."""
    blocks = {name: build(page) for name, build in BLOCKS.items()}
    text = markdown.without_comments(markdown.fill(CHAPTER.read_text(encoding="utf-8"), blocks))
    return re.sub(r"\n{3,}", "\n\n", text)


def explorer(page: Page) -> Explorer | None:
    """Systems with all labels: of each kind the best on val, those that read both first; None without built-in data."""
    systems = [system for system in tuned(page) if system["share"] == 1]
    if not systems or not page.study.built_in:
        return None
    systems = sorted(systems, key=lambda s: (s["inputs"] != "image+text", -_val(s)))
    kinds = {(_kind(system), system["inputs"]): system for system in reversed(systems)}
    shown = [system for system in systems if system in kinds.values()]
    record = page.study.records[shown[0]["run"]]
    module, language = data.load(record["data"]["name"]), record["data"].get("language") or "en"
    tables = {language: module.examples(None, "test", language=language).set_index("id")}
    named = [(system["start"], system, page.study.averaged(system)) for system in shown]
    return Explorer(WARNING.rstrip("."), tables, named, record["classes"])


BLOCKS = {
    "results": results,
    "tests": comparisons,
    "shares": shares,
    "modalities": lambda page: diagnostics.modality_use(page, "AUROC"),
    "learned": pretraining.learned,
    "ablation": pretraining.ablation,
    "collapse": pretraining.collapse,
    "retrieval": pretraining.retrieval,
    "failures": diagnostics.failures,
}
SECTIONS = (Section("memes-answer", (), answer), Section("memes", (), chapter, quiet=True))
