"""The two questions, in plain sentences: what pictures do to the gap between languages, and what pretraining brings."""

from dataclasses import replace
from functools import partial

from mmutils import statistics
from mmutils.report import markdown, plots, systems, tables
from mmutils.report.page import DATA, NOTES, SCORES, Page, dot, percent, points, readable, recorded, span, tested

SYSTEMS = ("Text, English", "Text, {}", "Picture + text, English", "Picture + text, {}")  # of the_gap.ipynb
_rounded = partial(percent, form=".0f")
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
    return [
        (f"{f[0]['labels']:,} {place}" if place else "the systems chosen on other examples (val)", f)
        for (_, place), f in complete
    ]


def settings(page: Page) -> list[tuple[str, str, list[str], statistics.LanguageGap]]:
    """The settings of a page, most labels first: run, name, scores of text and of both in both languages, their gap."""
    rows = []
    for name, four in fours(page):
        compute = partial(statistics.language_gap, *map(page.study.predictions, four), resamples=page.study.resamples)
        gap = page.study.cached(("gap", four[0]["run"], name), compute)
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
    rows, dots = [], []
    for run, name, scores, gap in settings(page):
        text, fused, closed = map(tested, (gap.text, gap.fused, gap.reduction))
        rows.append([page.record(run, name), *scores[:2], text, *scores[2:], fused, closed, span(gap.share, _rounded)])
        for label, side in {"text alone": gap.text, "with the picture": gap.fused}.items() if gap.fused else ():
            dots.append({"group": name, "label": label, "filled": side is gap.fused, **dot(side)})
    if not dots:
        return page.table("gaps", rows)
    figure = plots.forest(dots, "English minus Hindi, points of macro F1 on test (95 % interval)")
    image = page.figure("gap", figure, f"Gap between English and Hindi without and with the picture, {page.name}")
    return f"{image}\n\n{page.table('gaps', rows)}"


def answer(page: Page) -> tuple[str, str]:
    """What a page says to its question, and the figure of its gap; empty where it has none."""
    said = page.guarded("answer", pretraining if page.study.name == "memes" else languages)
    figure = page.guarded("figure", gaps).split("\n")[0]
    return said, figure if figure.startswith("![") else ""


def answers(pages: list[Page]) -> str:
    """Each question that pages ask: what was asked, what was found on which data, what to use; then a figure."""
    parts = []
    for name in ("languages", "pretraining"):
        asked = [page for page in pages if page.answer[0] and (page.study.name == "memes") == (name == "pretraining")]
        if asked:
            classes = next(iter(asked[0].study.records.values()))["classes"] or ["the classes"]
            task = NOTES.get(f"task-{asked[0].name}", f"to tell {_listed([*map(markdown.escape, classes)])} apart")
            parts.append(NOTES[f"asked-{name}"].format(task=task))
            named = [(markdown.escape(DATA.get(page.name, page.name)), page.answer[0]) for page in asked]
            parts += [f"> **On {name}**, {said}" for name, said in named]
    return "\n\n".join([*parts, *[page.answer[1] for page in pages if page.answer[1]][:1]])


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def languages(page: Page) -> str:
    """What holds with the most labels, and with which settings the picture narrows the gap, or widens it."""
    rows, found, uses = settings(page), [], {}
    for _, name, _, gap in rows:
        change = "alone" if not gap.fused else "same" if 0 in gap.reduction else "closes" if gap.share else "narrows"
        if change in ("closes", "narrows") and abs(gap.fused.estimate) > abs(gap.text.estimate):
            change = "widens"
        uses.setdefault("closes" if change == "narrows" else change, []).append(name)
        values = {"text": span(gap.text, points), "fused": span(gap.fused, points), "share": span(gap.share, _rounded)}
        values |= {"name": name, "ahead": "English" if gap.text.estimate > 0 else "Hindi"}
        said = NOTES["gap-none" if 0 in gap.text else "gap-ahead"] + NOTES.get(f"picture-{change}", "")
        found.append(said.format(**values))
    found = found[: len(PLACES) if page.study.name == "gap" else 1]
    use = [NOTES[f"use-{change}"].format(where=_where(uses[change])) for change in sorted(uses)]
    return f"{'; '.join(found)}. **To use:** {' '.join(use)}" if rows else ""


def _where(names: list[str]) -> str:
    """Settings in words: numbers of labels in the same language stand together."""
    places = sorted({name.partition(" ")[2] for name in names})
    counts = {place: [name.split()[0] for name in names[::-1] if name.endswith(place)] for place in places}
    return ", and ".join(f"{_listed(some)} {place}" for place, some in counts.items())


def pretraining(page: Page) -> str:
    """How many pretrained starts are better and worse, what the one that val picks brings, and the best system."""
    measure, tests = page.study.score, tables.tests(page, systems.finetuning)
    if not (tuned := [system for system in page.study.systems if system.get("start")]):
        return ""
    rank = lambda system: (systems.share(system), system["val"][measure].mean())  # noqa: E731
    best = max(tuned, key=rank)
    name = readable(f"{best['start']} ({_listed(systems.networks(page, best))}, trained: {best['trained']})")
    scores = f"AUROC {span(page.study.interval(best))}, accuracy {percent(best['test']['accuracy'].mean())} %"
    use = NOTES["use-best"].format(inputs=systems.title(best), name=markdown.escape(name), scores=scores)
    if not tests:
        return f"{NOTES['no-baseline']} **To use:** {use}"
    _, where, *pair, result = max(tests, key=lambda test: ("(other" not in test.name, *rank(test.first)))
    verdicts = [test.result.verdict for test in tests]
    found = NOTES["gain"].format(
        counts=[len(tests), *(verdicts.count(verdict) or "none" for verdict in ("better", "worse", "inconclusive"))],
        scores=[percent(system["test"][measure].mean()) for system in pair],
        starts=[markdown.escape(readable(system["start"])) for system in pair],
        gain=f"{span(result.difference, points)} points with {where.partition(' (')[0]}",
        seeds=NOTES["gain-several" if (pair[0].get("pretrainings") or 1) > 1 else "gain-one"],
    )
    return f"{found} **To use:** {use}"
