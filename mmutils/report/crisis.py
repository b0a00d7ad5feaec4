"""The chapter on crisis tweets: how much of the gap between English and Hindi does the picture close?"""

import math
from functools import partial

from mmutils import statistics
from mmutils.report import diagnostics, markdown, plots
from mmutils.report.explorer import Explorer
from mmutils.report.sections import LANGUAGES, Page, Section, between, p_value, percent, points, spread

KINDS = {
    "text-en": ("text", "en", "Text, English"),
    "text-hi": ("text", "hi", "Text, Hindi"),
    "image": ("image", None, "Picture"),
    "fusion-en": ("image+text", "en", "Picture + text, English"),
    "fusion-hi": ("image+text", "hi", "Picture + text, Hindi"),
}
WARNING = "Emoji data, not crisis tweets."
FOUR = ("text-en", "text-hi", "fusion-en", "fusion-hi")
FOUND = {"id": "ids", "group": "groups", "text": "texts", "picture": "pairs of near-identical pictures"}
AUDIT = {"leaks": "In two splits: ", "duplicates": "More than once in a split: "}
PAIRS = (("fusion-en", "text-en"), ("fusion-en", "image"), ("fusion-hi", "text-hi"), ("fusion-hi", "image"),
         ("text-en", "text-hi"), ("fusion-en", "fusion-hi"))  # fmt: skip


def chosen(page: Page) -> dict[str, dict]:
    """The system that val picked for each kind of input, in the order of KINDS, where there is one."""
    found = {kind: page.study.chosen(inputs, language) for kind, (inputs, language, _) in KINDS.items()}
    return {kind: system for kind, system in found.items() if system}


def gap(page: Page) -> statistics.LanguageGap:
    """The gap between the languages without and with the picture, of the four chosen systems."""
    systems = [chosen(page)[kind] for kind in FOUR]
    return page.study.cached(("gap",), lambda: statistics.language_gap(*map(page.study.predictions, systems)))


def tests(page: Page) -> list[dict]:
    """The paired comparisons that the study is about, as far as both sides have run, with Holm's correction."""
    return page.study.cached(("tests",), lambda: _tests(page))


def _tests(page: Page) -> list[dict]:
    systems = chosen(page)
    pairs = [(a, b) for a, b in PAIRS if a in systems and b in systems]
    found = [statistics.paired_difference(*(page.study.predictions(systems[k]) for k in pair)) for pair in pairs]
    corrected = statistics.holm([d.p_value for d in found]) if found else []
    return [{"pair": q, "difference": d, "holm": float(p)} for q, d, p in zip(pairs, found, corrected, strict=True)]


def answer(page: Page) -> str:
    """The sentence and the figure of the first screen."""
    found = gap(page)
    on = f"the built-in data ({WARNING[0].lower()}{WARNING[1:-1]})" if page.study.built_in else "the test split"
    note = (
        f"Macro F1 on {on}: {found.text.groups:,} groups of test examples, {found.text.seeds} seeds for each system, "
        f"systems chosen on val. English is ahead of Hindi by {percent(found.text.estimate)} points from text alone "
        f"({_tested(found.text)}), by {percent(found.fused.estimate)} with the picture ({_tested(found.fused)}). "
        "Intervals and two-sided p-values come from a bootstrap over groups and seeds at once."
    )
    return f"> **{markdown.escape(found.verdict)}**\n\n{_gap_figure(page)}\n\n{note}"


def _tested(value: statistics.Interval) -> str:
    p = p_value(value.p_value)
    return f"95 % interval {percent(value.low)} to {percent(value.high)}, p {p if p.startswith('<') else '= ' + p}"


def _gap_figure(page: Page) -> str:
    systems, rows = chosen(page), []
    for label, kinds in (("text only", FOUR[:2]), ("picture + text", FOUR[2:])):
        row = {"label": label}
        for kind in kinds:
            found = page.study.interval(systems[kind])
            row[kind[-2:]] = tuple(100 * v for v in (found.estimate, found.low, found.high))
        rows.append(row | {"label": f"{label}: {abs(row['en'][0] - row['hi'][0]):.1f} points apart"})
    figure = plots.paired_dots(rows, LANGUAGES, "macro F1 on test, % (mean over seeds, 95 % interval)")
    text = "; ".join(f"{r['label']}, English {r['en'][0]:.1f}, Hindi {r['hi'][0]:.1f}" for r in rows)
    return page.figure("gap", figure, f"Macro F1 in both languages, {text}")


def results(page: Page) -> str:
    """Source project 1's table: the chosen systems; bold where every paired test says so; chance is marked."""
    systems, best = chosen(page), _bold(page)
    columns = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "precision_weighted", "f1_weighted")
    rows = []
    for kind, system in systems.items():
        cells = {c: spread(system["test"][c]) for c in columns}
        if kind in best:
            cells["f1_macro"] = f"**{cells['f1_macro']}**"
        label = f"{page.record(system, KINDS[kind][2])}: {markdown.escape(system['system'])}"
        level = statistics.chance(page.study.predictions(system))["accuracy"]
        if level >= page.study.interval(system, "accuracy").low:
            label += " (= chance)"
        rows.append([label, *cells.values()])
    header = ["Input", *(c.replace("_", " ").capitalize() for c in columns)]
    caption = (
        "Test split, percent, mean ± standard deviation over seeds; for each input the system that val picked. Bold: "
        "macro F1 significantly above those of the text alone and of the picture alone (paired tests, Holm, .05). "
        '"= chance": the interval of accuracy holds the share of the largest class. Weighted recall equals accuracy. '
        "Each input links to its record."
    )
    return page.table(caption, header, rows) + diagnostics.failures(page)


def _bold(page: Page) -> set[str]:
    won = {t["pair"]: t["holm"] < 0.05 and t["difference"].estimate > 0 for t in tests(page)}
    return {k for k in ("fusion-en", "fusion-hi") if won.get((k, f"text-{k[-2:]}")) and won.get((k, "image"))}


def gaps(page: Page) -> str:
    """The gap table."""
    found = gap(page)
    named = {
        "Gap, text only": found.text,
        "Gap, picture + text": found.fused,
        "Narrowed by the picture": found.reduction,
    }
    rows = [
        [name, points(v.estimate), between(v.low, v.high, points), p_value(v.p_value), _verdict(v)]
        for name, v in named.items()
    ]
    share = found.share
    if math.isfinite(share.low + share.high):
        cells = [f"{percent(share.estimate, 0)} %", between(share.low, share.high, lambda v: f"{percent(v, 0)} %")]
        rows.append(["Share of the gap closed", *cells, p_value(share.p_value), _verdict(share)])
    else:
        rows.append(["Share of the gap closed", "–", "not bounded", "–", "inconclusive"])
    caption = "English minus Hindi, points of macro F1 on test; bootstrap over groups and seeds, 10,000 resamples."
    return page.table(caption, ["Quantity", "Estimate", "95 % interval", "p", "Verdict"], rows, slice(1, -1))


def _verdict(value: statistics.Interval) -> str:
    return "inconclusive" if value.low <= 0 <= value.high else "above 0" if value.low > 0 else "below 0"


def comparisons(page: Page) -> str:
    """Paired tests between rows of the result table."""
    rows = []
    for test in tests(page):
        names, d = [KINDS[kind][2] for kind in test["pair"]], test["difference"]
        clear = test["holm"] < 0.05
        verdict = ("first better" if d.estimate > 0 else "second better") if clear else "inconclusive"
        rows.append([" – ".join(names), points(d.estimate), between(d.low, d.high, points), p_value(d.p_value),
                     p_value(test["holm"]), verdict])  # fmt: skip
    if not rows:
        return ""
    caption = (
        "Paired differences in macro F1 on the same test examples, in points. Holm corrects for the table's tests."
    )
    return page.table(
        caption, ["First – second", "Difference", "95 % interval", "p", "p, Holm", "Verdict"], rows, slice(1, -1)
    )


def audit(page: Page) -> str:
    """Examples of each class and split, and what the audit found twice or in two splits."""
    extra = next(r for r in page.study.records.values() if r["extra"].get("audit"))["extra"]
    found = next(iter(extra["audit"].values()))
    splits = [key for key in found["counts"][0] if key in ("train", "val", "test")]
    name = next(key for key in found["counts"][0] if key not in splits)
    rows = [[markdown.escape(r[name]), *(f"{r[split]:,}" for split in splits)] for r in found["counts"]]
    caption = "Examples of each class. " + " ".join(f"{_total(found[kind], text)}" for kind, text in AUDIT.items())
    return page.table(caption, ["Class", *splits], rows)


def _total(rows: list[dict], text: str) -> str:
    """One sentence: how many values of each kind (id, text, picture, ...) are concerned."""
    counts = {}
    for row in rows:
        counts[row["what"]] = counts.get(row["what"], 0) + row["values"]
    return text + (", ".join(f"{n:,} {FOUND[what]}" for what, n in counts.items() if n) or "nothing") + "."


def all_systems(page: Page) -> str:
    """Forest plot and table of everything that was trained, chosen or not."""
    titles = {(inputs, language): title for inputs, language, title in KINDS.values()}
    systems = [s for pair in titles for s in page.study.systems if (s["inputs"], s["language"]) == pair]
    dots, rows = [], []
    for system in systems:
        found, title = page.study.interval(system), titles[system["inputs"], system["language"]]
        estimate, low, high = (100 * v for v in (found.estimate, found.low, found.high))
        colour = plots.LANGUAGE_COLOURS[system["language"]]
        dots.append({"label": system["system"], "group": title, "estimate": estimate, "low": low, "high": high,
                     "filled": system["chosen"], "colour": colour})  # fmt: skip
        f1 = [spread(system[split]["f1_macro"]) for split in ("val", "test")]
        link = f"{page.record(system, title)}: {markdown.escape(system['system'])}"
        model = "" if system["model"] == system["system"] else f"{system['model']}; "
        how = markdown.escape(f"{model}trained: {system['trained']}; weights: {system['weights']}")
        mark, accuracy = "yes" if system["chosen"] else "", spread(system["test"]["accuracy"])
        rows.append([link, how, mark, *f1, between(found.low, found.high), accuracy])
    majority = statistics.chance(page.study.predictions(systems[0]))["f1_macro"]
    figure = plots.forest(dots, "macro F1 on test, % (95 % intervals; filled: chosen on val)", chance=100 * majority)
    image = page.figure("systems", figure, "Macro F1 of every system with its interval")
    header = ["System", "What it is", "Chosen", "F1 val", "F1 test", "95 % interval", "Accuracy"]
    caption = "Every system, percent, mean ± standard deviation over seeds; F1 is macro. Chosen on val, never on test."
    return f"{image}\n\n{page.table(caption, header, rows, slice(3, None))}"


def named(page: Page) -> dict[str, tuple[str, dict]]:
    """For each kind of input its title and the chosen system."""
    return {kind: (KINDS[kind][2], system) for kind, system in chosen(page).items()}


def rescued(page: Page, language: str) -> str:
    """Test examples that text alone gets wrong and fusion gets right, and how many there are of the reverse."""
    systems = chosen(page)
    table, won, lost = diagnostics.rescued(page, systems[f"text-{language}"], systems[f"fusion-{language}"])
    return f"### {LANGUAGES[language]}: {won} rescued, {lost} lost\n\n{table}"


def explorer(page: Page) -> Explorer | None:
    """What the explorer shows, None where nothing may be shown."""
    return diagnostics.explorer(page, named(page), WARNING)


SECTIONS = (
    Section("crisis-data", ("data",), audit),
    Section("crisis-answer", FOUR, answer),
    Section("crisis-results", (), results),
    Section("crisis-gap", FOUR, gaps),
    Section("crisis-tests", ("text", "fusion"), comparisons, quiet=True),
    Section("crisis-examples", FOUR, lambda page: "\n\n".join(map(partial(rescued, page), LANGUAGES))),
    Section("crisis-losses", (), lambda page: diagnostics.losses(page, named(page))),
    Section("crisis-confusions", (), lambda page: diagnostics.confusions(page, named(page))),
    Section("crisis-classes", (), lambda page: diagnostics.classes(page, named(page))),
    Section("crisis-calibration", (), lambda page: diagnostics.calibration(page, named(page))),
    Section("crisis-modalities", (), lambda page: diagnostics.modality_use(page, "macro F1"), quiet=True),
    Section("crisis-systems", (), all_systems),
    Section("explorer", (), diagnostics.explorer_notice, quiet=True),
)
