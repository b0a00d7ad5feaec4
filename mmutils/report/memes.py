"""The chapter on harmful memes: does pretraining without labels help when labels are few?"""

import re
from itertools import groupby
from pathlib import Path

from mmutils import statistics
from mmutils.report import diagnostics, markdown, plots, pretraining
from mmutils.report.cells import between, compared, dot, percent, points, spread, tested
from mmutils.report.finetuned import Pair, kinds, pairs, tuned
from mmutils.report.results import SCORED
from mmutils.report.sections import NOTES, Page, Section

WARNING = "Emoji data, not memes."
CHAPTER = Path(__file__).with_name("memes.md")  # the prose, with markers for BLOCKS
KINDS = ("CNN", "ViT", "both", "packages", "alone")  # of tables, their captions are among the NOTES


def answer(page: Page) -> str:
    """The sentence and the figure of the first screen: the start that val picked, at every share of the labels."""
    if not pairs(page):
        return "*Not run yet: fine-tuning from a pretrained network and from its baseline, which the answer compares.*"
    most = max(pair.system["share"] for pair in pairs(page))
    full = [pair for pair in pairs(page) if pair.system["share"] == most]
    best = max(full, key=lambda pair: (pair.same, pair.system["val"]["auroc"].mean()))
    system = best.system
    shown = [p for p in pairs(page) if all(p.system[key] == system[key] for key in ("run", "start"))]
    shown.sort(key=lambda pair: pair.system["share"])
    rows, seen = [], []
    for pair in shown:
        label = f"{_labels(pair.system)}: {points(pair.test.difference.estimate)} points"
        dots = page.dots(without=pair.baseline, pretrained=pair.system)
        rows.append({"label": label, **dots})
        seen.append("{}, {:.1f} without, {:.1f} with".format(label, *(side["estimate"] for side in dots.values())))
    names = {"without": shown[0].baseline["start"], "pretrained": f"pretrained: {system['start']}"}
    figure = plots.paired_dots(rows, names, "AUROC on test, % (mean over seeds, 95 % interval)")
    image = page.figure("memes-answer", figure, f"AUROC without and with pretraining, {'; '.join(seen)}")
    also = "; ".join(f"with {_labels(p.system)} {_said(p.test.difference)}" for p in shown if p is not best)
    note = NOTES["memes-answer"].format(
        data=page.data,
        difference=best.test.difference,
        name=_called(page, system),
        start=markdown.escape(best.baseline["start"]),
        networks="the same network" if best.same else "other networks",
        also=also and f" ({also})",
    )
    return f"> **{_verdict(page, best)}**\n\n{image}\n\n{note}"


def _verdict(page: Page, best: Pair) -> str:
    """A sentence on the best pair and, where there are others, one on all."""
    difference, every = best.test.difference, pairs(page)
    scores = [percent(system["test"]["auroc"].mean()) for system in (best.system, best.baseline)]
    verdict = "Pretraining helps" if difference.estimate > 0 else "Pretraining hurts"
    said = (
        f"{'Inconclusive for the best' if 0 in difference else verdict}: AUROC is {scores[0]} with "
        f"{_called(page, best.system)} and {scores[1]} without this pretraining "
        f"({markdown.escape(best.baseline['start'])}): {_said(difference)}, with {_labels(best.system)}."
    )
    if len(every) == 1:
        return said
    better, worse = ([pair for pair in every if pair.test.verdict == word] for word in ("better", "worse"))
    said += (
        f" Of all {len(every)} comparisons {len(better) or 'none'} are better with pretraining, "
        f"{len(worse) or 'none'} worse (Holm, .05)"
    )
    if better:
        most = max(better, key=lambda pair: pair.test.difference.estimate)
        gain = points(most.test.difference.estimate)
        said += f"; most of all {_called(page, most.system)} with {_labels(most.system)}, {gain} points"
    return f"{said}."


def _called(page: Page, system: dict) -> str:
    """The name of its start, with the run's where others have a start of that name."""
    runs = {s["run"] for s in page.study.systems if s.get("start") == system["start"]}
    return markdown.escape(f"{system['start']} ({system['run']})" if len(runs) > 1 else system["start"])


def _said(difference: statistics.Interval) -> str:
    return f"{points(difference.estimate)} points ({tested(difference)})"


def _labels(system: dict) -> str:
    return "all labels" if system["share"] == 1 else f"{100 * system['share']:.3g} % of the labels"


def results(page: Page) -> str:
    """Source project 2's tables, as far as they have run, each system with the most labels it was given."""
    systems, tables, most = tuned(page), [], {}
    belongs = kinds(systems)
    better = {pair.system["key"] for pair in pairs(page) if pair.test.verdict == "better"}
    for s in systems:
        most[s["run"], s["start"]] = max(s["share"], most.get((s["run"], s["start"]), 0))
    for kind in KINDS:
        rows = []
        for system in systems:
            if kind in belongs[system["key"]] and system["share"] == most[system["run"], system["start"]]:
                interval = page.study.interval(system)
                link = page.record(system["run"], system["system"]) + (" (= chance)" if 0.5 in interval else "")
                methods = ("nothing" if part["random"] else part["method"] or "package" for part in system["parts"])
                words = ("; ".join(methods), "; ".join(system["networks"]), system["trained"])
                auroc, accuracy = (spread(system["test"][score]) for score in ("auroc", "accuracy"))
                auroc = f"**{auroc}**" if system["key"] in better else auroc
                numbers = [auroc, between(interval.low, interval.high), accuracy]
                rows.append([link, *map(markdown.escape, words), *numbers])
        if rows:
            tables.append(page.table(kind, rows))
    return "\n\n".join([NOTES["memes-results"], *tables]) if tables else "*Not run yet: fine-tuning.*"


def comparisons(page: Page) -> str:
    """Paired tests of the pretrained against their baselines."""
    rows = []
    for system, baseline, test in pairs(page):
        names = f"{_called(page, system)} – {markdown.escape(baseline['start'])}"
        names += "" if system["networks"] == baseline["networks"] else " (other networks)"
        counts = f"{_labels(system)} ({system['labels']:,} of train, {system['val_labels']:,} of val)"
        rows.append([names, counts, *compared(test)])
    return page.table("memes-tests", rows, resamples=SCORED["memes"][1]) if rows else ""


def shares(page: Page) -> str:
    """AUROC over the share of labels, a figure for each run that has several."""
    images = []
    for run, systems in groupby(tuned(page), key=lambda system: system["run"]):
        rows = [{"label": s["start"], "share": 100 * s["share"], **dot(page.study.interval(s))} for s in systems]
        if len({row["share"] for row in rows}) > 1:
            figure = plots.step_curves(rows, "share", "share of the labels, %", "AUROC on test, %", chance=50)
            images.append(page.figure(f"memes-shares-{run}", figure, f"AUROC over the share of labels, run {run}"))
    return "### Few labels\n\nMean over seeds with 95 % interval.\n\n" + "\n".join(images) if images else ""


def chapter(page: Page) -> str:
    """The chapter: its prose with the blocks filled in; a block without records is empty, its heading too."""
    blocks = {name: page.guarded(f"memes, {name}", build) for name, build in BLOCKS.items()}
    text = markdown.without_comments(markdown.fill(CHAPTER.read_text(encoding="utf-8"), blocks))
    return re.sub(r"\n{3,}", "\n\n", text)


def explorer(page: Page) -> tuple | None:
    """Systems with all labels: of each kind the best on val, those that read both first; None without built-in data."""
    systems = [system for system in tuned(page) if system["share"] == 1]
    if not systems or not page.study.built_in:
        return None
    systems.sort(key=lambda system: (system["inputs"] != "image+text", -system["val"]["auroc"].mean()))
    tables, best = kinds(systems), {}
    for system in systems:
        best.setdefault((tables[system["key"]][0], system["inputs"]), system)
    shown = [(system["start"], system, page.study.averaged(system)) for system in best.values()]
    record = page.study.records[shown[0][1]["run"]]
    language = record["data"].get("language") or "en"
    examples = {language: diagnostics.examples_by_id(page, record["data"]["name"], language)}
    return WARNING.rstrip("."), examples, shown, record["classes"]


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
