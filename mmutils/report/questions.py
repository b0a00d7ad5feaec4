"""The two questions, in plain sentences: what pictures do to the gap between languages, and what pretraining brings."""

from dataclasses import replace
from functools import partial

from mmutils import statistics
from mmutils.report import markdown, plots, systems, tables
from mmutils.report.page import DATA, NOTES, SCORES, Page, dot, percent, points, recorded, span, tested

SYSTEMS = ("Text, English", "Text, {}", "Picture + text, English", "Picture + text, {}")  # of the_gap.ipynb
_rounded = partial(percent, form=".0f")
PLACES = {"in both languages": "Hindi", "in English alone": "English, asked in Hindi"}  # of its labels


Setting = tuple[str, str, list[str], statistics.LanguageGap]  # run, name, scores in both languages, what they say


def settings(page: Page) -> list[Setting]:
    """The settings of a page, the one with most labels first."""
    fours, rows, kinds = {}, [], systems.kinds(page)
    for run in page.study.records if page.study.name == "gap" else ():
        by_name = {system["system"]: system for system in page.study.systems if system["run"] == run}
        for place, second in PLACES.items():
            fours[run, f"labels {place}"] = [by_name.get(name.format(second)) for name in SYSTEMS]
    if page.study.name == "crisis":
        fours["", ""] = [kinds.get((inputs, code)) for inputs in ("text", "image+text") for code in ("en", "hi")]
    complete = [(key, four) for key, four in fours.items() if None not in four]
    for key, four in sorted(complete, key=lambda item: -item[1][0].get("labels", 0)):
        compute = partial(statistics.language_gap, *map(page.study.predictions, four))
        gap = page.study.cached(("gap", *key), compute)
        name = f"{four[0]['labels']:,} {key[1]}" if key[1] else "systems chosen on val"
        scores = [percent(system["test"]["f1_macro"].mean()) for system in four]
        rows.append((four[0]["run"], name, scores, replace(gap, share=None) if 0 in gap.text else gap))
    for run, record in page.study.records.items():  # of language_transfer.ipynb
        asked = record["extra"].get("gap", [])
        for row, p in zip(asked, statistics.holm([row["p_value"] for row in asked]), strict=True):
            name = f"one classifier trained in English, {record['extra']['paired']} examples, {SCORES[row['score']]}"
            scores = [percent(row["en_estimate"]), percent(row["hi_estimate"]), "–", "–"]
            gap = statistics.LanguageGap(recorded(row, "estimate", p=p), None, None, None, "")
            rows.append((run, name, scores, gap))
    return rows


def gaps(page: Page) -> str:
    """The gaps of all settings, with a figure where there are several."""
    rows = []
    for run, name, scores, gap in settings(page):
        text, fused, closed = map(tested, (gap.text, gap.fused, gap.reduction))
        rows.append([page.record(run, name), *scores[:2], text, *scores[2:], fused, closed, span(gap.share, _rounded)])
    return f"{_dots(page) if len(rows) > 1 else ''}\n\n{page.table('gaps', rows)}"


def _dots(page: Page) -> str:
    """A figure of the gaps without and with the picture."""
    rows = []
    for _, name, _, gap in settings(page):
        for label, side in {"text alone": gap.text, "with the picture": gap.fused}.items() if gap.fused else ():
            rows.append({"group": name, "label": label, "filled": side is gap.fused, **dot(side)})
    figure = plots.forest(rows, "English minus Hindi, points of macro F1 on test (95 % interval)") if rows else None
    text = f"Gap between English and Hindi without and with the picture, {page.name}"
    return page.figure("gap", figure, text) if rows else ""


def answers(pages: list[Page]) -> str:
    """Each question that pages ask: what was asked, what was found on which data, what to use; no p-values."""
    parts = []
    for answer in (languages, pretraining):
        asked = [page for page in pages if (page.study.name == "memes") == (answer is pretraining)]
        said = [text for page in asked if (text := page.guarded("answer", answer))]
        parts += [NOTES[f"asked-{answer.__name__}"], *said] if said else []
    return "\n\n".join(parts)


def _answer(page: Page, found: str, use: str, image: str = "") -> str:
    return f"> **On {markdown.escape(DATA.get(page.name, page.name))}, {found}** {use}\n\n{image}".strip()


def languages(page: Page) -> str:
    """What holds with the most labels, and in which settings the picture closes some of the gap."""
    rows, found = settings(page), []
    for _, name, _, gap in rows[: len(PLACES) if page.study.name == "gap" else 1]:
        kind = "none" if 0 in gap.text else "ahead"
        if gap.fused and gap.text.low > 0:
            kind = "open" if 0 in gap.reduction else "closes" if gap.reduction.estimate > 0 else "widens"
        values = {"name": name, "ahead": "English" if gap.text.estimate > 0 else "Hindi"}
        values |= {"text": span(gap.text, points), "fused": span(gap.fused, points), "share": span(gap.share, _rounded)}
        found.append(NOTES[f"gap-{kind}"].format(**values))
    clear = [name for _, name, _, gap in rows if gap.reduction and gap.reduction.low > 0]
    use = "use-depends" if clear else "use-text"
    use = "use-transfer" if page.study.name == "transfer" else "use-both" if len(clear) == len(rows) else use
    image = _dots(page) if len(rows) == 1 else ""
    return _answer(page, f"{'; '.join(found)}.", NOTES[use].format(where="; ".join(clear)), image) if rows else ""


def pretraining(page: Page) -> str:
    """What the pretrained start that val picked brings, and the best of all systems."""
    measure, said = page.study.score, []
    full = [system for system in page.study.systems if system.get("start") and system["share"] == 1]
    best = {s.get("labels"): s for s in sorted(full, key=lambda s: s["val"][measure].mean())}  # the last one stays
    for labels, system in best.items():
        name, accuracy = markdown.escape(system["system"]), percent(system["test"]["accuracy"].mean())
        scores = f"{SCORES[measure]} {span(page.study.interval(system))}, accuracy {accuracy}"
        said.append(f"{name} (of {labels:,} labels): {scores}")
    found, image = _gain(page) if tables.tests(page, systems.finetuning) else (NOTES["no-baseline"], "")
    return _answer(page, found, NOTES["use-best"].format(systems="; ".join(said)), image) if said else ""


def _gain(page: Page) -> tuple[str, str]:
    """The sentence and the figure of the best pretrained start and its baseline, of the same networks if possible."""
    tests, measure, rows = tables.tests(page, systems.finetuning), page.study.score, []
    tests.sort(key=lambda t: (systems.share(t.first), "(other" not in t.name, t.first["val"][measure].mean()))
    best, baseline, (gain, _) = tests[-1][2:]
    for test in tests:
        if (test.first["run"], test.first["start"]) == (best["run"], best["start"]):
            label = f"{test.where.partition(' (')[0]}: {points(test.result.difference.estimate)} points"
            for system in (test.second, test.first):
                look = {"group": label, "label": system["start"], "filled": system is test.first}
                rows.append(look | dot(page.study.interval(system)))
    figure = plots.forest(rows, f"{SCORES[measure]} on test, % (95 % interval; filled: pretrained)")
    verdicts = [test.result.verdict for test in tests]
    return NOTES["gain"].format(
        verdict="makes no clear difference" if 0 in gain else "helps" if gain.estimate > 0 else "hurts",
        scores=[percent(system["test"][measure].mean()) for system in (best, baseline)],
        starts=[markdown.escape(system["start"]) for system in (best, baseline)],
        gain=f"{span(gain, points)} points with {tests[-1].where.partition(' (')[0]}",
        seeds="each seed has a pretraining of its own" if (best.get("pretrainings") or 1) > 1 else "one pretraining",
        counts=[len(verdicts), *(verdicts.count(verdict) or "none" for verdict in ("better", "worse"))],
    ), page.figure("gain", figure, f"{SCORES[measure]} without and with pretraining on {page.name}")
