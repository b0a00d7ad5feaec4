"""The chapter on harmful memes: does pretraining without labels help when labels are few?"""

import re
from itertools import groupby
from pathlib import Path

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
    every, rows, seen = pairs(page), [], []
    if not every:
        return "*Not run yet: fine-tuning from a pretrained network and from its baseline, which the answer compares.*"
    best = max(every, key=lambda pair: (pair.system["share"], pair.same, pair.system["val"]["auroc"].mean()))
    shown = [pair for pair in every if all(pair.system[key] == best.system[key] for key in ("run", "start"))]
    shown.sort(key=lambda pair: pair.system["share"])
    for system, baseline, test in shown:
        label = f"{system['amount']}: {points(test.difference.estimate)} points"
        dots = page.dots(without=baseline, pretrained=system)
        rows.append({"label": label, **dots})
        seen.append("{}, {:.1f} without, {:.1f} with".format(label, *(side["estimate"] for side in dots.values())))
    names = {"without": shown[0].baseline["start"], "pretrained": f"pretrained: {best.system['start']}"}
    figure = plots.paired_dots(rows, names, "AUROC on test, % (mean over seeds, 95 % interval)")
    image = page.figure("memes-answer", figure, f"AUROC without and with pretraining, {'; '.join(seen)}")
    also = "; ".join(f"with {pair.system['amount']} {_gain(pair)}" for pair in shown if pair is not best)
    networks = "the same network" if best.same else "other networks"
    texts = {"name": best.system["name"], "start": markdown.escape(best.baseline["start"]), "networks": networks}
    texts["also"] = also and f" ({also})"
    note = NOTES["memes-answer"].format(data=page.data, difference=best.test.difference, **texts)
    return f"> **{_verdict(best, every)}**\n\n{image}\n\n{note}"


def _gain(pair: Pair) -> str:
    return f"{points(pair.test.difference.estimate)} points ({tested(pair.test.difference)})"


def _verdict(best: Pair, every: list[Pair]) -> str:
    """A sentence on the best pair and, where there are others, one on all."""
    system, baseline, (difference, _) = best
    scores = [percent(side["test"]["auroc"].mean()) for side in (system, baseline)]
    verdict = "Pretraining helps" if difference.estimate > 0 else "Pretraining hurts"
    sentence = (
        f"{'Inconclusive for the best' if 0 in difference else verdict}: AUROC is {scores[0]} with {system['name']} "
        f"and {scores[1]} without this pretraining ({markdown.escape(baseline['start'])}): {_gain(best)}, "
        f"with {system['amount']}."
    )
    if len(every) == 1:
        return sentence
    better, worse = ([pair for pair in every if pair.test.verdict == word] for word in ("better", "worse"))
    counts = f"{len(better) or 'none'} are better with pretraining, {len(worse) or 'none'} worse (Holm, .05)"
    sentence += f" Of all {len(every)} comparisons {counts}"
    if better:
        most, _, (gain, _) = max(better, key=lambda pair: pair.test.difference.estimate)
        sentence += f"; most of all {most['name']} with {most['amount']}, {points(gain.estimate)} points"
    return f"{sentence}."


def results(page: Page) -> str:
    """Source project 2's tables, as far as they have run, each system with the most labels it was given."""
    systems, tables = tuned(page), []
    belongs = kinds(systems)
    better = {pair.system["key"] for pair in pairs(page) if pair.test.verdict == "better"}
    most = {(s["run"], s["start"]): s["share"] for s in sorted(systems, key=lambda s: s["share"])}
    full = [system for system in systems if system["share"] == most[system["run"], system["start"]]]
    for kind in KINDS:
        rows = []
        for system in (system for system in full if kind in belongs[system["key"]]):
            interval = page.study.interval(system)
            link = page.record(system["run"], system["system"]) + (" (= chance)" if 0.5 in interval else "")
            methods = ("nothing" if part["random"] else part["method"] or "package" for part in system["parts"])
            words = ("; ".join(methods), "; ".join(system["networks"]), system["trained"])
            auroc, accuracy = (spread(system["test"][score]) for score in ("auroc", "accuracy"))
            auroc = f"**{auroc}**" if system["key"] in better else auroc
            rows.append([link, *map(markdown.escape, words), auroc, between(interval.low, interval.high), accuracy])
        tables += [page.table(kind, rows)] if rows else []
    return "\n\n".join([NOTES["memes-results"], *tables]) if tables else "*Not run yet: fine-tuning.*"


def comparisons(page: Page) -> str:
    """Paired tests of the pretrained against their baselines."""
    rows = []
    for pair in pairs(page):
        system, baseline, test = pair
        names = f"{system['name']} – {markdown.escape(baseline['start'])}{'' if pair.same else ' (other networks)'}"
        counts = f"{system['amount']} ({system['labels']:,} of train, {system['val_labels']:,} of val)"
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
    run = shown[0][1]["run"]
    record = page.study.records[run]
    language = record["data"].get("language") or "en"
    examples = {language: diagnostics.examples(page, run, language)}
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
