"""The gap between languages in several settings: runs of notebooks/the_gap.ipynb, with many labels or few."""

from functools import partial

from mmutils import statistics
from mmutils.report import plots
from mmutils.report.cells import between, dot, p_value, percent, points
from mmutils.report.sections import Page

SYSTEMS = ("Text, English", "Text, {}", "Picture + text, English", "Picture + text, {}")
SETTINGS = {"in both languages": "Hindi", "in English alone": "English, asked in Hindi"}
SIDES = {"text": "text alone", "fused": "with the picture"}


def settings(page: Page) -> list[tuple[str, int, str, list[dict], statistics.LanguageGap]]:
    """Run, labels of train, where they are, the four systems and the gap; the run with most labels first."""
    rows = []
    for run in page.study.records:
        systems = {system["system"]: system for system in page.study.systems if system["run"] == run}
        for where, second in SETTINGS.items():
            names = [name.format(second) for name in SYSTEMS]
            if systems.keys() >= set(names):
                four = [systems[name] for name in names]
                compute = partial(statistics.language_gap, *map(page.study.predictions, four))
                gap = page.study.cached(("gap", run, where), compute)
                rows.append((run, four[0]["labels"], where, four, gap))
    return sorted(rows, key=lambda row: -row[1])


def table(page: Page) -> str:
    """Figure and table of the gaps of all runs."""
    rows, dots = [], []
    for run, labels, where, four, gap in settings(page):
        means = [percent(system["test"]["f1_macro"].mean()) for system in four]
        spans = [f"{points(side.estimate)} {between(side.low, side.high, points)}" for side in (gap.text, gap.fused)]
        less = f"{points(gap.reduction.estimate)} {between(gap.reduction.low, gap.reduction.high, points)}"
        share = "–" if 0 in gap.text else f"{percent(gap.share.estimate, '.0f')} %"
        label = page.record(run, f"{labels:,}")
        closed = [less, p_value(gap.reduction.p_value), share]
        rows.append([label, where, *means[:2], spans[0], *means[2:], spans[1], *closed])
        dots.append({"label": f"{labels:,} labels {where}", "text": dot(gap.text), "fused": dot(gap.fused)})
    if not rows:
        return ""
    figure = plots.paired_dots(dots, SIDES, "English minus Hindi, points of macro F1 on test (95 % interval)")
    image = page.figure("gaps", figure, "Gap between English and Hindi by number and language of the labels")
    return f"{image}\n\n{page.table('gaps', rows)}"


def answer(page: Page) -> str:
    """For labels in both languages and in one alone: the verdict with most labels, then the gaps with fewer."""
    said = []
    for where in SETTINGS:
        rows = [(f"{labels:,}", gap) for _, labels, place, _, gap in settings(page) if place == where]
        said += [f"With {labels} labels {where}: {gap.verdict.replace(' -', ' −')}" for labels, gap in rows[:1]]
        fewer = [f"{percent(g.text.estimate)} and {percent(g.fused.estimate)} with {labels}" for labels, g in rows[1:]]
        said += [f"Gap without and with the picture, in points: {'; '.join(fewer)} labels."] if fewer else []
    return " ".join(said)
