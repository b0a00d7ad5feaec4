"""The chapter on harmful memes: does pretraining without labels help when labels are few?"""

import re
from itertools import groupby
from pathlib import Path

from mmutils import statistics
from mmutils.report import diagnostics, markdown, plots, pretraining
from mmutils.report.explorer import Explorer
from mmutils.report.finetuned import Pair, kinds, pairs, system_key, tuned
from mmutils.report.sections import COMPARED, Page, Section, between, compared, dot, percent, points, spread, tested

WARNING = "Emoji data, not memes."
CHAPTER = Path(__file__).with_name("memes.md")  # the prose, with markers for BLOCKS
KINDS = {
    "CNN": "Pretraining on pictures, convolutional network; with the baselines.",
    "ViT": "Pretraining on pictures, vision transformer; with the baselines.",
    "both": "Pretraining on pictures and texts together; with the baselines.",
    "packages": "For reference: encoders that come with packages.",
    "alone": "Control: one input alone.",
}
HELD = ["System", "Pretrained by", "Networks", "Trained", "AUROC", "95 % interval", "Accuracy"]


def _val(system: dict) -> float:
    return system["val"]["auroc"].mean()


def answer(page: Page) -> str:
    """The sentence and the figure of the first screen: the start that val picked, at every share of the labels."""
    if not pairs(page):
        return "*Not run yet: fine-tuning from a pretrained network and from its baseline, which the answer compares.*"
    most = max(pair.system["share"] for pair in pairs(page))
    full = [pair for pair in pairs(page) if pair.system["share"] == most]
    best = max(full, key=lambda pair: (pair.same, _val(pair.system)))
    shown = [p for p in pairs(page) if all(p.system[key] == best.system[key] for key in ("run", "start"))]
    shown.sort(key=lambda pair: pair.system["share"])
    also = "; ".join(f"with {_labels(p.system)} {_said(p.difference)}" for p in shown if p is not best)
    note = (
        f"AUROC on {'the built-in data (emoji data, not memes)' if page.study.built_in else 'the test split'}: "
        f"{best.difference.groups:,} groups of test examples, {best.difference.seeds} seeds; "
        f"{_called(page, best.system)} was picked on val among the pretrained, and is compared with "
        f"{markdown.escape(best.baseline['start'])}, {'the same network' if best.same else 'other networks'} "
        "without this pretraining, on the same examples"
        + (f" ({also})" if also else "")
        + ". All comparisons are in [the chapter](#harmful-memes)."
    )
    return f"> **{_verdict(page, best)}{_others(page)}**\n\n{_answer_figure(page, shown)}\n\n{note}"


def _verdict(page: Page, pair: Pair) -> str:
    with_, without = (percent(system["test"]["auroc"].mean()) for system in (pair.system, pair.baseline))
    change = (
        f"AUROC is {with_} with {_called(page, pair.system)} and {without} without this pretraining "
        f"({markdown.escape(pair.baseline['start'])}): {_said(pair.difference)}, with {_labels(pair.system)}."
    )
    if 0 in pair.difference:
        return f"Inconclusive for the best: {change}"
    return f"Pretraining {'helps' if pair.difference.estimate > 0 else 'hurts'}: {change}"


def _called(page: Page, system: dict) -> str:
    """The name of its start, with the run's where others have a start of that name."""
    runs = {s["run"] for s in page.study.systems if s.get("start") == system["start"]}
    return markdown.escape(f"{system['start']} ({system['run']})" if len(runs) > 1 else system["start"])


def _others(page: Page) -> str:
    """A sentence on all comparisons, where there are several."""
    better, worse = ([p for p in pairs(page) if p.test.verdict == word] for word in ("better", "worse"))
    if len(pairs(page)) == 1:
        return ""
    said = (
        f" Of all {len(pairs(page))} comparisons {len(better) or 'none'} are better with pretraining, "
        f"{len(worse) or 'none'} worse (Holm, .05)"
    )
    if better:
        most = max(better, key=lambda pair: pair.difference.estimate)
        gain = points(most.difference.estimate)
        said += f"; most of all {_called(page, most.system)} with {_labels(most.system)}, {gain} points"
    return f"{said}."


def _said(difference: statistics.Interval) -> str:
    return f"{points(difference.estimate)} points ({tested(difference)})"


def _labels(system: dict) -> str:
    return "all labels" if system["share"] == 1 else f"{100 * system['share']:.3g} % of the labels"


def _counted(system: dict) -> str:
    """The share, and how many labels that is: of train, and of val, which chose the epoch."""
    splits = {"labels": "train", "val_labels": "val"}
    counts = [f"{system[key]:,} of {split}" for key, split in splits.items() if system.get(key) is not None]
    return _labels(system) + (f" ({', '.join(counts)})" if counts else "")


def _dot(page: Page, system: dict) -> dict[str, float]:
    return dot(page.study.interval(system, "auroc", pretraining.RESAMPLES))


def _answer_figure(page: Page, shown: list[Pair]) -> str:
    rows = []
    for pair in shown:
        dots = {"without": pair.baseline, "with": pair.system}
        dots = {key: tuple(_dot(page, system).values()) for key, system in dots.items()}
        rows.append({"label": f"{_labels(pair.system)}: {points(pair.difference.estimate)} points", **dots})
    names = {"without": shown[0].baseline["start"], "with": f"pretrained: {shown[0].system['start']}"}
    figure = plots.paired_dots(rows, names, "AUROC on test, % (mean over seeds, 95 % interval)")
    text = "; ".join(f"{r['label']}, {r['without'][0]:.1f} without, {r['with'][0]:.1f} with" for r in rows)
    return page.figure("memes-answer", figure, f"AUROC without and with pretraining, {text}")


def results(page: Page) -> str:
    """Source project 2's tables, as far as they have run, each system with the most labels it was given."""
    systems, tables, most = tuned(page), [], {}
    belongs = kinds(systems)
    for s in systems:
        most[s["run"], s["start"]] = max(s["share"], most.get((s["run"], s["start"]), 0))
    better = {system_key(pair.system) for pair in pairs(page) if pair.test.verdict == "better"}
    for kind, title in KINDS.items():
        rows = [s for s in systems if kind in belongs[system_key(s)] and s["share"] == most[s["run"], s["start"]]]
        if rows:
            cells = [_row(page, system, system_key(system) in better) for system in rows]
            tables.append(page.table(title, HELD, cells, slice(4, None)))
    if not tables:
        return "*Not run yet: fine-tuning.*"
    note = (
        "Test split, percent, mean ± standard deviation over seeds. Bold: AUROC significantly above "
        'its baseline (paired tests below, Holm, .05). "= chance": the interval of AUROC holds 50.'
    )
    return "\n\n".join([note, *tables])


def _row(page: Page, system: dict, bold: bool) -> list[str]:
    interval = page.study.interval(system, "auroc", pretraining.RESAMPLES)
    label = page.record(system["run"], system["system"]) + (" (= chance)" if 0.5 in interval else "")
    methods = "; ".join("nothing" if p["random"] else p["method"] or "package" for p in system["parts"])
    words = (methods, "; ".join(system["networks"]), system["trained"])
    auroc, accuracy = (spread(system["test"][score]) for score in ("auroc", "accuracy"))
    auroc = f"**{auroc}**" if bold else auroc
    return [label, *map(markdown.escape, words), auroc, between(interval.low, interval.high), accuracy]


def comparisons(page: Page) -> str:
    """Paired tests of the pretrained against their baselines."""
    rows = []
    for pair in pairs(page):
        names = f"{_called(page, pair.system)} – {markdown.escape(pair.baseline['start'])}"
        names += "" if pair.same else " (other networks)"
        rows.append([names, _counted(pair.system), *compared(pair.test)])
    caption = (
        "Pretrained minus its baseline, which is without this pretraining: paired differences in AUROC on the same "
        f"test examples, in points; bootstrap over groups and seeds, {pretraining.RESAMPLES:,} resamples. Holm "
        "corrects for the table's tests. Labels of train were learned from, those of val chose the epoch."
    )
    return page.table(caption, ["Pretrained – baseline", "Labels", *COMPARED], rows, slice(2, -1)) if rows else ""


def shares(page: Page) -> str:
    """AUROC over the share of labels, a figure for each run that has several."""
    images = []
    for run, systems in groupby(tuned(page), key=lambda system: system["run"]):
        rows = [{"label": s["start"], "share": 100 * s["share"], **_dot(page, s)} for s in systems]
        if len({row["share"] for row in rows}) > 1:
            figure = plots.step_curves(rows, "share", "share of the labels, %", "AUROC on test, %", chance=50)
            images.append(page.figure(f"memes-shares-{run}", figure, f"AUROC over the share of labels, run {run}"))
    return "### Few labels\n\nMean over seeds with 95 % interval.\n\n" + "\n".join(images) if images else ""


def chapter(page: Page) -> str:
    """The chapter: its prose with the blocks filled in; a block without records is empty, its heading too."""
    blocks = {name: page.guarded(f"memes, {name}", build) for name, build in BLOCKS.items()}
    text = markdown.without_comments(markdown.fill(CHAPTER.read_text(encoding="utf-8"), blocks))
    return re.sub(r"\n{3,}", "\n\n", text)


def explorer(page: Page) -> Explorer | None:
    """Systems with all labels: of each kind the best on val, those that read both first; None without built-in data."""
    systems = [system for system in tuned(page) if system["share"] == 1]
    if not systems or not page.study.built_in:
        return None
    systems.sort(key=lambda system: (system["inputs"] != "image+text", -_val(system)))
    tables, best = kinds(systems), {}
    for system in systems:
        best.setdefault((tables[system_key(system)][0], system["inputs"]), system)
    shown = list(best.values())
    record = page.study.records[shown[0]["run"]]
    language = record["data"].get("language") or "en"
    examples = {language: diagnostics.examples_by_id(page, record["data"]["name"], language)}
    named = [(system["start"], system, page.study.averaged(system)) for system in shown]
    return Explorer(WARNING.rstrip("."), examples, named, record["classes"])


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
