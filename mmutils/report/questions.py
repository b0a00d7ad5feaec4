"""The two questions, in plain sentences: what pictures do to the gap between languages, and what pretraining brings."""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from functools import partial

from mmutils import statistics
from mmutils.report import markdown, plots, systems, tables
from mmutils.report.page import DATA, NOTES, SCORES, Page, dot, percent, points, readable, recorded, span, tested
from mmutils.report.results import FINER, undecided
from mmutils.statistics.bootstrap import SMALL

SYSTEMS = ("Text, English", "Text, {}", "Picture + text, English", "Picture + text, {}")  # of the_gap.ipynb
_rounded = partial(percent, form="z.0f")
PLACES = {"in both languages": "Hindi", "in English alone": "English, asked in Hindi"}  # of its labels


def fours(page: Page) -> list[tuple[str, list[dict]]]:
    """The settings of a page, most labels first: name, and the systems of text and of both in both languages."""
    fours, kinds = {}, systems.kinds(page)
    for run in page.study.records if page.study.name == "gap" else ():
        by_name = {system["system"]: system for system in page.study.systems if system["run"] == run}
        for place, second in PLACES.items():
            fours[run, f"labels {place}"] = [by_name.get(name.format(second)) for name in SYSTEMS]
    if page.study.name == "crisis":
        fours["", ""] = [kinds.get((inputs, code)) for inputs in ("text", "image+text") for code in ("en", "hi")]
    complete = [(key, four) for key, four in fours.items() if None not in four]
    complete.sort(key=lambda item: -item[1][0].get("labels", 0))
    return [(f"{f[0]['labels']:,} {place}" if place else "the systems chosen on val", f) for (_, place), f in complete]


def gap_of(
    page: Page, four: list[dict], split: str = "test", score: str = "f1_macro", fine: bool = True
) -> statistics.LanguageGap:
    """The gap between the languages: of text alone in both, then of text and picture in both.

    fine: draw more resamples where the first ones leave it `undecided`.
    """

    def compute() -> statistics.LanguageGap:
        gap = page.study.gap(four, split, score, page.study.resamples)
        if fine and any(undecided(side, side.p_value) for side in (gap.text, gap.fused, gap.reduction)):
            gap = page.study.gap(four, split, score, FINER * page.study.resamples)
        return gap

    names = ((system["run"], system["system"]) for system in four)
    return page.study.cached(("gap", split, score, fine, *names), compute)


def settings(page: Page) -> list[tuple[str, str, list[str], statistics.LanguageGap]]:
    """The settings of a page, most labels first: run, name, scores of text and of both in both languages, their gap."""
    rows = []
    for name, four in fours(page):
        gap = gap_of(page, four)
        scores = [percent(system["test"]["f1_macro"].mean()) for system in four]
        rows.append((four[0]["run"], name, scores, gap if gap.text.low > 0 else replace(gap, share=None)))
    for run, record in page.study.records.items():  # of language_transfer.ipynb
        asked = record["extra"].get("gap", [])
        for row, p in zip(asked, statistics.holm([row["p_value"] for row in asked]), strict=True):
            name = f"one classifier trained in English and asked in both, {record['extra']['paired']} examples"
            scores = [percent(row["en_estimate"]), percent(row["hi_estimate"]), "–", "–"]
            gap = statistics.LanguageGap(recorded(row, "estimate", p=p), None, None, None, "")
            rows.append((run, f"{name} ({SCORES[row['score']]})", scores, gap))
    return rows


def gaps(page: Page) -> str:
    """The gaps of all settings, as a figure where they are with and without the picture, and as a table."""
    rows, dots, fusions = [], [], {}
    if page.study.name == "crisis":
        named = [(name, [markdown.escape(readable(s["system"])) for s in four[2:]]) for name, four in fours(page)]
        fusions = {name: f" (fusion in English: {english}; in Hindi: {hindi})" for name, (english, hindi) in named}
    for run, name, scores, gap in settings(page):
        text, fused, closed = map(tested, (gap.text, gap.fused, gap.reduction))
        label, share = page.record(run, name) + fusions.get(name, ""), span(gap.share, _rounded)
        rows.append([label, *scores[:2], text, *scores[2:], fused, closed, share])
        for label, side in {"text alone": gap.text, "with the picture": gap.fused}.items() if gap.fused else ():
            dots.append({"group": name, "label": label, "filled": side is gap.fused, **dot(side)})
    if not dots:
        return page.table("gaps", rows)
    figure = plots.forest(dots, "English minus Hindi, points of macro F1 on test (95 % interval)")
    image = page.figure("gap", figure, f"Gap between English and Hindi without and with the picture, {page.name}")
    return f"{image}\n\n{page.table('gaps', rows)}"


def answer(page: Page) -> tuple[str, str, str]:
    """Which question a page whose chapter is written answers, what it says, and the figure of its gap; "" for none."""
    compared = any(system.get("baseline") for system in page.study.systems)
    question = "languages" if page.study.name != "memes" else "pretraining" if compared else "inputs"
    said = page.guarded("answer", QUESTIONS[question])
    figure = re.search(r"^!\[.*\]\(figures/\S*gap\.svg\)$", page.chapter, re.MULTILINE)
    return question, said, figure[0] if figure else ""


def answers(pages: list[Page]) -> str:
    """Each question that pages ask: what was asked, what was found on which data, what to use; then a figure."""
    items = []
    for question in QUESTIONS:
        if asked := [page for page in pages if page.answer[0] == question and page.answer[1]]:
            classes = next(iter(asked[0].study.records.values()))["classes"] or ["the classes"]
            items.append(f"- {NOTES[f'asked-{question}'].format(task=_task(asked[0], classes))}")
            items += [f"  - **On {markdown.escape(DATA.get(p.name, p.name))}** {p.answer[1]}" for p in asked]
    return "\n\n".join(["\n".join(items), *[page.answer[2] for page in pages if page.answer[2]][:1]])


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _task(page: Page, classes: list[str]) -> str:
    return NOTES.get(f"task-{page.name}", f"to tell {_listed([*map(markdown.escape, classes)])} apart")


def _about(page: Page, run: str) -> str:
    """On how many examples of a run's data something was found: "(99 examples in test): "."""
    record = page.study.records[run]
    count = record["extra"].get("paired") or record["data"].get("splits", {}).get("test")
    few = ", too few for intervals to mean much" if count and count < SMALL else ""
    return f"({count:,} examples in test{few}): " if count else ""


def languages(page: Page) -> str:
    """What holds with the most labels, and in which language picture and text are better than text alone."""
    rows, found = settings(page), []
    for _, name, scores, gap in rows[: len(PLACES) if page.study.name == "gap" else 1]:
        change = "alone" if not gap.fused else "same" if 0 in gap.reduction else "closes" if gap.share else "narrows"
        if change in ("closes", "narrows") and abs(gap.fused.estimate) > abs(gap.text.estimate):
            change = "widens"
        values = {"text": span(gap.text, points), "fused": span(gap.fused, points), "share": span(gap.share, _rounded)}
        values["range"] = f" ({page.ranges[name]} % where asked in other ways)" if name in page.ranges else ""
        values |= {"name": name, "scores": scores, "ahead": "English" if gap.text.estimate > 0 else "Hindi"}
        kinds = f"with-{page.study.name}", "gap-none" if 0 in gap.text else "gap-ahead", f"picture-{change}"
        setting, ahead, picture = (NOTES[kind].format(**values) for kind in kinds)
        found.append(f"{setting} {ahead}{picture}".strip())
    return f"{_about(page, rows[0][0])}{'; '.join(found)}. **To use:** {_use(page)}" if rows else ""


def worth(page: Page) -> systems.Pairs:
    """Picture and text against text alone, in each language and setting; settings of the same systems are one."""
    pairs, names = {}, {}
    for name, four in fours(page):
        for language, both, text in zip(("English", "Hindi"), four[2:], four[:2], strict=True):
            pairs[key := (language, both["run"], both["system"])] = both, text
            names.setdefault(key, []).append(name)
    return {(f"Picture + text – text, {key[0]}", "; ".join(names[key])): pair for key, pair in pairs.items()}


def _use(page: Page) -> str:
    """For each language in how many settings picture and text together score clearly better and worse than text."""
    places, said = {}, []
    for test in tables.tests(page, worth):
        places.setdefault(test.name.rpartition(", ")[2], []).extend([test.result.verdict] * len(test.where.split("; ")))
    for language, verdicts in places.items():
        clear = [verdict for verdict in ("better", "worse") if verdict in verdicts]
        where = {verdict: f" in {verdicts.count(verdict)} of {len(verdicts)} settings" for verdict in clear}
        where = where if len(verdicts) > 1 else dict.fromkeys(clear, "")
        said.append(NOTES[f"use-{'-'.join(clear) or 'none'}"].format(language=language, **where))
    return " ".join(said) or NOTES["use-alone"]


def pretraining(page: Page) -> str:
    """How many pretrained starts are better and worse, what the one that val picks brings, and the best system."""
    tests = tables.tests(page, systems.finetuning)
    if not tests:
        return inputs(page)
    rank, pretrained = partial(systems.rank, page), {test.first["start"] for test in tests}
    _, where, first, _, result = max(tests, key=lambda test: ("(other" not in test.name, *rank(test.first)))
    counts = Counter(test.result.verdict for test in tests)
    kind = "-".join(verdict for verdict in ("better", "worse") if counts[verdict]) or "none"
    found = f"{NOTES[f'gain-{kind}'].format(count=len(tests), **counts)} " + NOTES["gain"].format(
        start=_quoted(first["start"]),
        gain=f"{span(result.difference, points)} points with {where.partition(' (')[0]}",
        clear="not clear" if result.verdict == "inconclusive" else "clear",
    )
    once = "" if (first.get("pretrainings") or 1) > 1 else f" {NOTES['gain-once']}"
    return _with_best(page, f"{found}{once}", pretrained)


def inputs(page: Page) -> str:
    """What text, picture and both reach without a comparison of pretrainings, and the best system."""
    best = systems.kinds(page).values() if any(system.get("start") for system in page.study.systems) else ()
    found = [f"{_quoted(systems.title(system))}: {span(page.study.interval(system))}" for system in best]
    tests = [t for t in tables.tests(page, systems.inputs) if t.second["inputs"] == "text"] if found else []
    said = [NOTES[f"inputs-{test.result.verdict}"].format(gain=span(test.result.difference, points)) for test in tests]
    return _with_best(page, " ".join([f"{'; '.join(found)}.", *said]))


def _with_best(page: Page, found: str, pretrained: Collection[str] = ()) -> str:
    """What was found, on which data, and the fine-tuned system that is best on val; pretrained: the starts that are."""
    started = [system for system in page.study.systems if system.get("start")]
    if not (tuned := [system for system in started if not system.get("reference")]):
        return ""
    best = max(tuned, key=partial(systems.rank, page))
    same = [s for s in started if s["run"] == best["run"] and s["system"].startswith(f"{best['system']}, mean of ")]
    mean = "".join(f" (its seeds averaged: {percent(s['test'][page.study.score].mean())})" for s in same)
    said = NOTES["use-other" if pretrained and best["start"] not in pretrained else "use-best"].format(
        start=_quoted(best["start"]),
        networks=markdown.escape(readable(_listed(systems.networks(page, best)))),
        trained=markdown.escape(readable(best["trained"])),
        scores=f"{span(page.study.interval(best))}{mean}, accuracy {percent(best['test']['accuracy'].mean())} %",
    )
    return f"{_about(page, best['run'])}{found} **To use:** {said}"


QUESTIONS = {"languages": languages, "pretraining": pretraining, "inputs": inputs}  # what answers each


def _quoted(name: str) -> str:
    return f"“{markdown.escape(readable(name))}”"
