"""The chapter on crisis tweets: how much of the gap between English and Hindi does the picture close?"""

import math
from functools import partial

from mmutils import statistics
from mmutils.report import diagnostics, markdown, plots
from mmutils.report.explorer import Explorer
from mmutils.report.sections import (
    COMPARED,
    LANGUAGES,
    Page,
    Section,
    between,
    compared,
    dot,
    p_value,
    percent,
    points,
    spread,
    tested,
)

KINDS = {
    "text-en": ("text", "en", "Text, English"),
    "text-hi": ("text", "hi", "Text, Hindi"),
    "image": ("image", None, "Picture"),
    "fusion-en": ("image+text", "en", "Picture + text, English"),
    "fusion-hi": ("image+text", "hi", "Picture + text, Hindi"),
}
WARNING = "Emoji data, not crisis tweets."
FOUR = ("text-en", "text-hi", "fusion-en", "fusion-hi")
PAIRS = (
    ("fusion-en", "text-en"),
    ("fusion-en", "image"),
    ("fusion-hi", "text-hi"),
    ("fusion-hi", "image"),
    ("text-en", "text-hi"),
    ("fusion-en", "fusion-hi"),
)
AUDITED = {"id": "ids", "group": "groups", "text": "texts", "picture": "pairs of near-identical pictures"}
AXIS = "macro F1 on test, %"


def chosen(page: Page) -> dict[str, dict]:
    """The system that val picked for each kind of input, in the order of KINDS, where there is one."""
    systems = {kind: page.study.chosen(inputs, language) for kind, (inputs, language, _) in KINDS.items()}
    return {kind: system for kind, system in systems.items() if system}


def gap(page: Page) -> statistics.LanguageGap:
    """The gap between the languages without and with the picture, of the four chosen systems."""
    systems = [chosen(page)[kind] for kind in FOUR]
    return page.study.cached(("gap",), lambda: statistics.language_gap(*map(page.study.predictions, systems)))


def tests(page: Page) -> dict[tuple[str, str], statistics.Comparison]:
    """The paired comparisons that the study is about, as far as both sides have run."""
    systems = chosen(page)
    pairs = {(a, b): (systems[a], systems[b]) for a, b in PAIRS if a in systems and b in systems}
    return page.study.cached(("tests",), lambda: page.study.compare(pairs))


def answer(page: Page) -> str:
    """The sentence and the figure of the first screen."""
    result = gap(page)
    text, fused = result.text, result.fused
    on = f"the built-in data ({WARNING[0].lower()}{WARNING[1:-1]})" if page.study.built_in else "the test split"
    note = (
        f"Macro F1 on {on}: {text.groups:,} groups of test examples, {text.seeds} seeds for each system, "
        f"systems chosen on val. English is ahead of Hindi by {percent(text.estimate)} points from text alone "
        f"({tested(text, percent)}), by {percent(fused.estimate)} with the picture ({tested(fused, percent)}). "
        "Intervals and two-sided p-values come from a bootstrap over groups and seeds at once."
    )
    return f"> **{markdown.escape(result.verdict)}**\n\n{_gap_figure(page)}\n\n{note}"


def _gap_figure(page: Page) -> str:
    systems, rows = chosen(page), []
    for label, kinds in (("text only", FOUR[:2]), ("picture + text", FOUR[2:])):
        dots = {kind[-2:]: tuple(dot(page.study.interval(systems[kind])).values()) for kind in kinds}
        rows.append({"label": f"{label}: {abs(dots['en'][0] - dots['hi'][0]):.1f} points apart", **dots})
    figure = plots.paired_dots(rows, LANGUAGES, f"{AXIS} (mean over seeds, 95 % interval)")
    text = "; ".join(f"{r['label']}, English {r['en'][0]:.1f}, Hindi {r['hi'][0]:.1f}" for r in rows)
    return page.figure("gap", figure, f"Macro F1 in both languages, {text}")


def results(page: Page) -> str:
    """Source project 1's table: the chosen systems; bold where every paired test says so; chance is marked."""
    columns = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "precision_weighted", "f1_weighted")
    better, rows = {pair for pair, test in tests(page).items() if test.verdict == "better"}, []
    for kind, system in chosen(page).items():
        cells = {column: spread(system["test"][column]) for column in columns}
        if {(kind, f"text-{kind[-2:]}"), (kind, "image")} <= better:
            cells["f1_macro"] = f"**{cells['f1_macro']}**"
        label = f"{page.record(system['run'], KINDS[kind][2])}: {markdown.escape(system['system'])}"
        level = statistics.chance(page.study.predictions(system))["accuracy"]
        label += " (= chance)" if level >= page.study.interval(system, "accuracy").low else ""
        rows.append([label, *cells.values()])
    header = ["Input", *(column.replace("_", " ").capitalize() for column in columns)]
    caption = (
        "Test split, percent, mean ± standard deviation over seeds; for each input the system that val picked. Bold: "
        "macro F1 significantly above those of the text alone and of the picture alone (paired tests, Holm, .05). "
        '"= chance": the interval of accuracy holds the share of the largest class. Weighted recall equals accuracy. '
        "Each input links to its record."
    )
    return page.table(caption, header, rows) + diagnostics.failures(page)


def gaps(page: Page) -> str:
    """The gap table."""
    result, share = gap(page), gap(page).share
    named = {
        "Gap, text only": result.text,
        "Gap, picture + text": result.fused,
        "Narrowed by the picture": result.reduction,
    }
    rows = [
        [name, points(v.estimate), between(v.low, v.high, points), p_value(v.p_value), _sign(v)]
        for name, v in named.items()
    ]
    cells = ["–", "not bounded", "–", "inconclusive"]
    if math.isfinite(share.low + share.high):
        interval = between(share.low, share.high, lambda value: f"{percent(value, 0)} %")
        cells = [f"{percent(share.estimate, 0)} %", interval, p_value(share.p_value), _sign(share)]
    rows.append(["Share of the gap closed", *cells])
    caption = "English minus Hindi, points of macro F1 on test; bootstrap over groups and seeds, 10,000 resamples."
    return page.table(caption, ["Quantity", "Estimate", "95 % interval", "p", "Verdict"], rows, slice(1, -1))


def _sign(value: statistics.Interval) -> str:
    return "inconclusive" if 0 in value else "above 0" if value.low > 0 else "below 0"


def comparisons(page: Page) -> str:
    """Paired tests between rows of the result table."""
    verdicts = {"better": "first better", "worse": "second better"}
    rows = []
    for pair, test in tests(page).items():
        *cells, verdict = compared(test)
        rows.append([" – ".join(KINDS[kind][2] for kind in pair), *cells, verdicts.get(verdict, verdict)])
    caption = (
        "Paired differences in macro F1 on the same test examples, in points. Holm corrects for the table's tests."
    )
    return page.table(caption, ["First – second", *COMPARED], rows, slice(1, -1)) if rows else ""


def audit(page: Page) -> str:
    """Examples of each class and split, and what the audit found twice or in two splits."""
    extra = next(r for r in page.study.records.values() if r["extra"].get("audit"))["extra"]
    result = next(iter(extra["audit"].values()))
    splits = [key for key in result["counts"][0] if key in ("train", "val", "test")]
    name = next(key for key in result["counts"][0] if key not in splits)
    rows = [[markdown.escape(row[name]), *(f"{row[split]:,}" for split in splits)] for row in result["counts"]]
    leaks, duplicates = _total(result["leaks"]), _total(result["duplicates"])
    caption = f"Examples of each class. In two splits: {leaks}. More than once in a split: {duplicates}."
    return page.table(caption, ["Class", *splits], rows)


def _total(rows: list[dict]) -> str:
    """How many values of each kind (id, text, picture, ...) are concerned."""
    counts = {}
    for row in rows:
        counts[row["what"]] = counts.get(row["what"], 0) + row["values"]
    return ", ".join(f"{count:,} {AUDITED[what]}" for what, count in counts.items() if count) or "nothing"


def all_systems(page: Page) -> str:
    """Forest plot and table of everything that was trained, chosen or not."""
    titles = {(inputs, language): title for inputs, language, title in KINDS.values()}
    systems = [s for kind in titles for s in page.study.systems if (s["inputs"], s["language"]) == kind]
    dots, rows = [], []
    for system in systems:
        interval, title = page.study.interval(system), titles[system["inputs"], system["language"]]
        look = {"filled": system["chosen"], "colour": plots.LANGUAGE_COLOURS[system["language"]]}
        dots.append({"label": system["system"], "group": title, **dot(interval), **look})
        link = f"{page.record(system['run'], title)}: {markdown.escape(system['system'])}"
        model = "" if system["model"] == system["system"] else f"{system['model']}; "
        how = markdown.escape(f"{model}trained: {system['trained']}; weights: {system['weights']}")
        f1 = [spread(system[split]["f1_macro"]) for split in ("val", "test")]
        accuracy = spread(system["test"]["accuracy"])
        mark = "yes" if system["chosen"] else ""
        rows.append([link, how, mark, *f1, between(interval.low, interval.high), accuracy])
    majority = statistics.chance(page.study.predictions(systems[0]))["f1_macro"]
    figure = plots.forest(dots, f"{AXIS} (95 % intervals; filled: chosen on val)", chance=100 * majority)
    image = page.figure("systems", figure, "Macro F1 of every system with its interval")
    header = ["System", "What it is", "Chosen", "F1 val", "F1 test", "95 % interval", "Accuracy"]
    caption = "Every system, percent, mean ± standard deviation over seeds; F1 is macro. Chosen on val, never on test."
    return f"{image}\n\n{page.table(caption, header, rows, slice(3, None))}"


def named(page: Page) -> diagnostics.Named:
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
