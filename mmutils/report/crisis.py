"""The chapter on crisis tweets: how much of the gap between English and Hindi does the picture close?"""

import math
from collections import Counter

import pandas as pd

from mmutils import statistics
from mmutils.report import diagnostics, markdown, plots
from mmutils.report.cells import between, compared, dot, p_value, percent, points, spread, tested
from mmutils.report.sections import LANGUAGES, NOTES, Page, Section

KINDS = {
    "text-en": ("text", "en", "Text, English"),
    "text-hi": ("text", "hi", "Text, Hindi"),
    "image": ("image", None, "Picture"),
    "fusion-en": ("image+text", "en", "Picture + text, English"),
    "fusion-hi": ("image+text", "hi", "Picture + text, Hindi"),
}
WARNING = "Emoji data, not crisis tweets."
FOUR = ("text-en", "text-hi", "fusion-en", "fusion-hi")
PAIRS = [(f"fusion-{code}", other) for code in LANGUAGES for other in (f"text-{code}", "image")]
PAIRS += [("text-en", "text-hi"), ("fusion-en", "fusion-hi")]
RESCUED = 8  # examples that are shown
AUDITED = {"id": "ids", "group": "groups", "text": "texts", "picture": "pairs of near-identical pictures"}


def chosen(page: Page) -> diagnostics.Named:
    """For each kind of input its title and the system that val picked; of several runs the best one on val."""
    systems = {}
    for kind, (*read, title) in KINDS.items():
        if alike := [s for s in page.study.systems if [s["inputs"], s["language"]] == read and s["chosen"]]:
            systems[kind] = title, max(alike, key=lambda system: system["val"]["f1_macro"].mean())
    return systems


def gap(page: Page) -> statistics.LanguageGap:
    """The gap between the languages without and with the picture, of the four chosen systems."""
    systems = [chosen(page)[kind][1] for kind in FOUR]
    return page.study.cached(("gap",), lambda: statistics.language_gap(*map(page.study.predictions, systems)))


def tests(page: Page) -> dict[tuple[str, str], statistics.Comparison]:
    """The paired comparisons that the study is about, as far as both sides have run."""
    systems = {kind: system for kind, (_, system) in chosen(page).items()}
    pairs = {(a, b): (systems[a], systems[b]) for a, b in PAIRS if a in systems and b in systems}
    return page.study.cached(("tests",), lambda: page.study.compare(pairs))


def answer(page: Page) -> str:
    """The sentence and the figure of the first screen."""
    result, systems, rows, seen = gap(page), chosen(page), [], []
    text, fused = result.text, result.fused
    for label, kind in (("text only", "text"), ("picture + text", "fusion")):
        dots = {code: dot(page.study.interval(systems[f"{kind}-{code}"][1])) for code in LANGUAGES}
        english, hindi = (side["estimate"] for side in dots.values())
        rows.append({"label": f"{label}: {abs(english - hindi):.1f} points apart", **dots})
        seen.append(f"{rows[-1]['label']}, English {english:.1f}, Hindi {hindi:.1f}")
    figure = plots.paired_dots(rows, LANGUAGES, "macro F1 on test, % (mean over seeds, 95 % interval)")
    gaps = {"gap": percent(text.estimate), "fused_gap": percent(fused.estimate)}
    tests = {"interval": tested(text, percent), "fused_interval": tested(fused, percent)}
    note = NOTES["crisis-answer"].format(data=page.data, text=text, **gaps, **tests)
    image = page.figure("gap", figure, f"Macro F1 in both languages, {'; '.join(seen)}")
    return f"> **{markdown.escape(result.verdict)}**\n\n{image}\n\n{note}"


def results(page: Page) -> str:
    """Source project 1's table: the chosen systems; bold where every paired test says so; chance is marked."""
    columns = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "precision_weighted", "f1_weighted")
    better, rows = {pair for pair, test in tests(page).items() if test.verdict == "better"}, []
    for kind, (title, system) in chosen(page).items():
        cells = {column: spread(system["test"][column]) for column in columns}
        if {(kind, f"text-{kind[-2:]}"), (kind, "image")} <= better:
            cells["f1_macro"] = f"**{cells['f1_macro']}**"
        level = statistics.chance(page.study.predictions(system))["accuracy"]
        chance = " (= chance)" if level >= page.study.interval(system, "accuracy").low else ""
        link = f"{page.record(system['run'], title)}: {markdown.escape(system['system'])}{chance}"
        rows.append([link, *cells.values()])
    return page.table("crisis-results", rows) + diagnostics.failures(page)


def gaps(page: Page) -> str:
    """The gap table."""
    result, rows = gap(page), []
    names = {"text": "Gap, text only", "fused": "Gap, picture + text", "reduction": "Narrowed by the picture"}
    for key, name in (names | {"share": "Share of the gap closed"}).items():
        value = getattr(result, key)
        sign = "inconclusive" if 0 in value else "above 0" if value.low > 0 else "below 0"
        show = points if key in names else lambda share: f"{percent(share, '.0f')} %"
        cells = [show(value.estimate), between(value.low, value.high, show), p_value(value.p_value), sign]
        rows.append([name, *(cells if math.isfinite(value.low + value.high) else ["–", "not bounded", "–", sign])])
    return page.table("crisis-gap", rows)


def comparisons(page: Page) -> str:
    """Paired tests between rows of the result table."""
    verdicts, rows = {"better": "first better", "worse": "second better"}, []
    for pair, test in tests(page).items():
        *cells, verdict = compared(test)
        rows.append([" – ".join(KINDS[kind][2] for kind in pair), *cells, verdicts.get(verdict, verdict)])
    return page.table("crisis-tests", rows) if rows else ""


def audit(page: Page) -> str:
    """Examples of each class and split, and what the audit found twice or in two splits."""
    audits = next(r["extra"]["audit"] for r in page.study.records.values() if r["extra"].get("audit"))
    table = next(iter(audits.values()))
    splits = [key for key in table["counts"][0] if key in ("train", "val", "test")]
    name = next(key for key in table["counts"][0] if key not in splits)
    rows = [[markdown.escape(row[name]), *(f"{row[split]:,}" for split in splits)] for row in table["counts"]]
    repeated = {}
    for kind in ("leaks", "duplicates"):
        counts = sum((Counter({row["what"]: row["values"]}) for row in table[kind]), Counter())
        repeated[kind] = ", ".join(f"{n:,} {AUDITED[what]}" for what, n in counts.items()) or "nothing"
    return page.table("crisis-data", rows, head=markdown.table(["Class", *splits], []), **repeated)


def rescued(page: Page) -> str:
    """Test examples that text alone gets wrong and fusion gets right, and how many there are of the reverse."""
    parts, systems, tables = [], chosen(page), _examples(page)
    for code, language in LANGUAGES.items():
        text, fused = (page.study.averaged(systems[f"{kind}-{code}"][1]) for kind in ("text", "fusion"))
        was, now = text["guess"] == text["label"], fused["guess"] == fused["label"]
        won, rows = text.index[~was & now], []
        truths = [f"p_{label}" for label in text["label"][won]]
        gains = [float(fused.loc[i, p]) - float(text.loc[i, p]) for i, p in zip(won, truths, strict=True)]
        for name in pd.Series(gains, won).nlargest(RESCUED).index if tables else ():
            said = [markdown.escape(table.loc[name, "text"]) for table in tables.values()]
            for means in (text, fused):
                guess = means.loc[name, "guess"]
                said.append(f"{markdown.escape(page.study.classes[guess])} ({means.loc[name, f'p_{guess}']:.2f})")
            rows.append([diagnostics.picture(page, name, tables["en"].loc[name, "image"]), *said])
        title = f"### {language}: {len(won)} rescued, {(was & ~now).sum()} lost"
        parts.append(f"{title}\n\n{page.table('rescued', rows) if rows else ''}")
    return "\n\n".join(parts)


def _examples(page: Page) -> dict[str, pd.DataFrame]:
    """The test examples by language and id; nothing where they did not come with the package: licences differ."""
    run = page.study.systems[0]["run"] if page.study.built_in and page.study.systems else None
    return {language: diagnostics.examples(page, run, language) for language in LANGUAGES} if run else {}


def explorer(page: Page) -> tuple | None:
    """What `explorer_html` shows; None where nothing may be shown."""
    systems = [(title, system, page.study.averaged(system)) for title, system in chosen(page).values()]
    examples = _examples(page)
    return (WARNING.rstrip("."), examples, systems, page.study.classes) if examples else None


SECTIONS = (
    Section("crisis-data", ("data",), audit),
    Section("crisis-answer", FOUR, answer),
    Section("crisis-results", (), results),
    Section("crisis-gap", FOUR, gaps),
    Section("crisis-tests", ("text", "fusion"), comparisons, quiet=True),
    Section("crisis-examples", FOUR, rescued),
    Section("crisis-losses", (), lambda page: diagnostics.losses(page, chosen(page))),
    Section("crisis-confusions", (), lambda page: diagnostics.confusions(page, chosen(page))),
    Section("crisis-classes", (), lambda page: diagnostics.classes(page, chosen(page))),
    Section("crisis-calibration", (), lambda page: diagnostics.calibration(page, chosen(page))),
    Section("crisis-modalities", (), lambda page: diagnostics.modality_use(page, "macro F1"), quiet=True),
    Section("crisis-systems", (), lambda page: diagnostics.systems(page, "macro F1")),
    Section("explorer", (), lambda page: f"## Explorer\n\n{NOTES['explorer']}" if _examples(page) else "", quiet=True),
)
