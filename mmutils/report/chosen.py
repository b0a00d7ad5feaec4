"""The block on each chosen system: how it trained, what it mistakes for what, how far to trust its probabilities."""

from collections import Counter

from matplotlib.figure import Figure

from mmutils import statistics
from mmutils.report import plots, systems
from mmutils.report.page import NOTES, Page, percent
from mmutils.statistics.calibrated import calibrated_error
from mmutils.statistics.panel import panel
from mmutils.statistics.scores import scores

DRAWN = 6  # systems in the figures, at most


def each(page: Page) -> str:
    """How far the probabilities of each chosen system can be trusted, and figures of those that are best on val."""
    named, images = systems.named(page), []
    rows = [[page.record(s["run"], title), *_calibration(page, s)] for title, s in named.values()]
    best = sorted(named, key=lambda name: systems.rank(page, named[name][1]))[-DRAWN:]
    shown = dict(named[name] for name in named if name in best)
    for kind, figure in _figures(page, shown).items() if shown else ():
        images.append(page.figure(kind, figure, f"{NOTES['figure-' + kind.partition('-')[0]]}: {', '.join(shown)}"))
    return "\n\n".join([NOTES["each"], page.table("calibration", rows), *images]) if rows else ""


def _calibration(page: Page, system: dict) -> list[str]:
    """Cells: errors, as trained and scaled, temperature, Brier score, confidence, accuracy, thresholds."""
    test, val = page.study.panel(system), page.study.panel(system, "val")
    temperatures = statistics.temperature(val)
    both = test, panel(statistics.apply_temperature(page.study.predictions(system), temperatures))
    errors = [f"{percent(statistics.calibration_error(p))} ({percent(calibrated_error(p))})" for p in both]
    confidence = percent(test.probabilities.max(axis=2).mean())
    cells = [*errors, f"{temperatures.mean():.2f}", f"{statistics.estimate(test, 'brier'):.3f}", confidence]
    return [*cells, percent(system["test"]["accuracy"].mean()), *_thresholds(page, system)]


def _figures(page: Page, shown: dict[str, dict]) -> dict[str, Figure]:
    """Training, confusion and reliability of systems, by title; lines of one colour differ in their dashes."""
    history, looks, used, about, by_classes = [], {}, Counter(), {}, {}
    for title, system in shown.items():
        look, test = page.look(system), page.study.panel(system)
        looks[title] = look | {"dashes": plots.DASHES[used[look["color"]] % len(plots.DASHES)]}
        used.update([look["color"]])
        epochs = page.study.records[system["run"]]["history"]
        history += [epoch | {"system": title} for epoch in epochs if epoch["system"] == system["system"]]
        by_classes.setdefault(tuple(system["classes"]), {})[title] = page.study.predictions(system)
        error = f"{title}: error {percent(statistics.calibration_error(test))} %"
        about[error] = statistics.reliability(test), look["color"]
    watched = tuple(name for name in ("loss", page.study.score) if any(name in epoch for epoch in history))
    figures = {"loss": plots.curves(history, watched, 2, {page.study.score: (0, 1)}, looks)} if watched else {}
    for number, (classes, tables) in enumerate(by_classes.items(), 1):
        figures["confusion" + f"-{number}" * (number > 1)] = plots.confusions(tables, [*classes])
    return figures | {"reliability": plots.reliability(about)}


def _thresholds(page: Page, system: dict) -> list[str]:
    """Of two classes accuracy and macro F1 of the seeds' mean at 0.5, and at the threshold that is best on val."""
    if len(system["classes"]) != 2:
        return ["–", "–"]
    table, cells = page.study.averaged(system), []
    best = statistics.best_threshold(page.study.predictions(system, "val"))
    for threshold in (0.5, best):
        second = 1.0 * (table["p_1"] > threshold)
        values = scores(table.assign(p_0=1 - second, p_1=second))
        cells.append(f"{percent(values['accuracy'])}, {percent(values['f1_macro'])}")
    return [cells[0], f"{best:.2f}: {cells[1]}"]
