"""The chapter on harmful memes: does pretraining without labels help when labels are few?

A fine-tuning run names for each system its `start`, the start that is its `baseline` (or None), the `share` of labels,
its `networks` and, in `model`, the encoders: `run:name` was saved by the pretraining run of that name,
`random:run:name` is the same network untrained, anything else a package's.
"""

import re
from itertools import groupby
from pathlib import Path

from mmutils.report import diagnostics, markdown, plots, pretraining
from mmutils.report.cells import between, compared, dot, percent, points, spread, tested
from mmutils.report.sections import NOTES, Page, Section

WARNING = "Emoji data, not memes."
CHAPTER = Path(__file__).with_name("memes.md")  # the prose, with markers for BLOCKS


def tuned(page: Page) -> list[dict]:
    """The fine-tuned systems in the order of runs and systems, with what tables and sentences need in addition.

    `methods`: what trained each encoder, "package" for a package's and "nothing" for an untrained one; `pretrained`:
    those of pretraining, empty for baselines and controls; `name`: the start, with its run where it needs that.
    """
    systems, rows = [system for system in page.study.systems if "start" in system], []
    for system in systems:
        about, methods = page.study.records[system["run"]]["data"], []
        for encoder in system["model"].split(" and "):
            run, pretrained, _ = encoder.partition(":")
            record = page.study.records.get(run)
            method = (record and pretraining.method(record)) or run
            methods.append("nothing" if run == "random" else method if pretrained else "package")
        runs = {other["run"] for other in systems if other["start"] == system["start"]}
        row = {
            "key": (system["run"], system["system"]),
            "methods": methods,
            "pretrained": set(methods) - {"nothing", "package"},
            "data": (about["name"], about.get("splits")),
            "name": markdown.escape(f"{system['start']} ({system['run']})" if len(runs) > 1 else system["start"]),
            "amount": "all labels" if system["share"] == 1 else f"{100 * system['share']:.3g} % of the labels",
        }
        rows.append(system | row)
    return rows


def _baseline(system: dict, systems: list[dict]) -> dict | None:
    """The system that this one is compared with, of the same run where it is there; None where none is named."""
    shared = ("data", "inputs", "language", "share", "trained")
    named = [s for s in systems if s["start"] == system.get("baseline") and s is not system]
    alike = [s for s in named if all(s[name] == system[name] for name in shared)]
    return min(alike, key=lambda s: s["run"] != system["run"], default=None)


def pairs(page: Page) -> list[dict]:
    """Each pretrained system with `against`, its baseline, their `comparison`, and whether networks are the `same`."""
    systems = tuned(page)
    both = {s["key"]: (s, baseline) for s in systems if (baseline := _baseline(s, systems))}
    tests = page.study.cached(("pairs",), lambda: page.study.compare(both))
    alike = {key: system["networks"] == baseline["networks"] for key, (system, baseline) in both.items()}
    return [s | {"against": b, "comparison": tests[key], "same": alike[key]} for key, (s, b) in both.items()]


def answer(page: Page) -> str:
    """The sentence and the figure of the first screen: the start that val picked, at every share of the labels."""
    every, rows, seen, gains = pairs(page), [], [], {}
    if not every:
        return "*Not run yet: fine-tuning from a pretrained network and from its baseline, which the answer compares.*"
    best = max(every, key=lambda pair: (pair["share"], pair["same"], pair["val"]["auroc"].mean()))
    shown = [pair for pair in every if all(pair[key] == best[key] for key in ("run", "start"))]
    for pair in sorted(shown, key=lambda pair: pair["share"]):
        before, after = (dot(page.study.interval(system)) for system in (pair["against"], pair))
        gain = f"{points(pair['comparison'].difference.estimate)} points"
        gains[pair["amount"]] = f"{gain} ({tested(pair['comparison'].difference)})"
        rows.append({"label": f"{pair['amount']}: {gain}", "without": before, "pretrained": after})
        seen.append(f"{rows[-1]['label']}, {before['estimate']:.1f} without, {after['estimate']:.1f} with")
    names = {"without": best["against"]["start"], "pretrained": f"pretrained: {best['start']}"}
    figure = plots.paired_dots(rows, names, "AUROC on test, % (mean over seeds, 95 % interval)")
    image = page.figure("memes-answer", figure, f"AUROC without and with pretraining, {'; '.join(seen)}")
    difference, start = best["comparison"].difference, markdown.escape(best["against"]["start"])
    after, before = (percent(side["test"]["auroc"].mean()) for side in (best, best["against"]))
    verdict = "Pretraining helps" if difference.estimate > 0 else "Pretraining hurts"
    verdict = "Inconclusive for the best" if 0 in difference else verdict
    sentence = f"{verdict}: AUROC is {after} with {best['name']} and {before} without this pretraining ({start}): "
    sentence += f"{gains.pop(best['amount'])}, with {best['amount']}."
    better, worse = ([pair for pair in every if pair["comparison"].verdict == word] for word in ("better", "worse"))
    counts = f"{len(better) or 'none'} are better with pretraining, {len(worse) or 'none'} worse (Holm, .05)"
    most = max(better, key=lambda pair: pair["comparison"].difference.estimate, default=None)
    if most:
        gain = points(most["comparison"].difference.estimate)
        counts += f"; most of all {most['name']} with {most['amount']}, {gain} points"
    sentence += f" Of all {len(every)} comparisons {counts}." if len(every) > 1 else ""
    also = "; ".join(f"with {amount} {gain}" for amount, gain in gains.items())
    texts = {"name": best["name"], "start": start, "also": also and f" ({also})"}
    texts["networks"] = "the same network" if best["same"] else "other networks"
    note = NOTES["memes-answer"].format(data=page.data, difference=difference, **texts)
    return f"> **{sentence}**\n\n{image}\n\n{note}"


def results(page: Page) -> str:
    """Each fine-tuned system with the most labels it was given; those of the same networks stand together."""
    systems, rows = tuned(page), []
    better = {pair["key"] for pair in pairs(page) if pair["comparison"].verdict == "better"}
    most = {(s["run"], s["start"]): s["share"] for s in sorted(systems, key=lambda s: s["share"])}
    full = [system for system in systems if system["share"] == most[system["run"], system["start"]]]
    networks = [system["networks"] for system in full]
    for system in sorted(full, key=lambda system: (networks.index(system["networks"]), bool(system["pretrained"]))):
        interval = page.study.interval(system)
        link = page.record(system["run"], system["system"]) + (" (= chance)" if 0.5 in interval else "")
        words = ("; ".join(system["methods"]), "; ".join(system["networks"]), system["trained"])
        auroc, accuracy = (spread(system["test"][score]) for score in ("auroc", "accuracy"))
        auroc = f"**{auroc}**" if system["key"] in better else auroc
        rows.append([link, *map(markdown.escape, words), auroc, between(interval.low, interval.high), accuracy])
    return page.table("memes-results", rows) if rows else "*Not run yet: fine-tuning.*"


def comparisons(page: Page) -> str:
    """Paired tests of the pretrained against their baselines."""
    rows = []
    for pair in pairs(page):
        other = "" if pair["same"] else " (other networks)"
        names = f"{pair['name']} – {markdown.escape(pair['against']['start'])}{other}"
        counts = f"{pair['amount']} ({pair['labels']:,} of train, {pair['val_labels']:,} of val)"
        rows.append([names, counts, *compared(pair["comparison"])])
    return page.table("memes-tests", rows, resamples=page.study.resamples) if rows else ""


def shares(page: Page) -> str:
    """AUROC over the share of labels, a figure for each run that has several."""
    images = []
    trained = [system for system in tuned(page) if not system.get("reference")]  # with this share of the labels alone
    for run, systems in groupby(trained, key=lambda system: system["run"]):
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
    """Systems with all labels: of each input the best on val, pretrained and not; None without built-in data."""
    systems = [system for system in tuned(page) if system["share"] == 1]
    if not systems or not page.study.built_in:
        return None
    systems.sort(key=lambda system: (system["inputs"] != "image+text", -system["val"]["auroc"].mean()))
    best = {(bool(system["pretrained"]), system["inputs"]): system for system in reversed(systems)}
    shown = [(system["start"], system, page.study.averaged(system)) for system in reversed(best.values())]
    record = page.study.records[systems[0]["run"]]
    language = record["data"].get("language") or "en"
    examples = {language: diagnostics.examples(page, record["run"], language)}
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
