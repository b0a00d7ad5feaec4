"""The block on each chosen system: how it trained, what it mistakes for what, how far to trust its probabilities."""

import pandas as pd
from matplotlib.figure import Figure

from mmutils import statistics
from mmutils.report import plots, systems
from mmutils.report.page import NOTES, Page, percent, readable
from mmutils.statistics.calibrated import calibrated_error
from mmutils.statistics.panel import probability_columns
from mmutils.statistics.scores import scores


def each(page: Page) -> str:
    """How far the probabilities of each chosen system can be trusted, and figures; of many runs those of the best."""
    named, images = systems.named(page), []
    rows = [[page.record(s["run"], title), *_calibration(page, s)] for title, s in named.values()]
    ranked = sorted(named, key=lambda name: systems.rank(page, named[name][1]))
    for name in named if page.study.name != "memes" else ranked[-1:]:
        for kind, figure in _figures(page, *named[name]).items():
            images.append(page.figure(f"{kind}-{name}", figure, f"{NOTES[f'figure-{kind}']}: {named[name][0]}"))
    return f"{NOTES['each']}\n\n{page.table('calibration', rows)}\n\n" + "\n".join(images) if rows else ""


def _calibration(page: Page, system: dict) -> list[str]:
    """Cells: errors, as trained and scaled, temperature, Brier score, confidence, accuracy, thresholds."""
    table, val = page.study.predictions(system), page.study.predictions(system, "val")
    temperatures = statistics.temperature(val)
    tables = table, statistics.apply_temperature(table, temperatures)
    errors = [f"{percent(statistics.calibration_error(t))} ({percent(calibrated_error(t))})" for t in tables]
    confidence = percent(table[probability_columns(table)].max(axis=1).mean())
    cells = [*errors, f"{temperatures.mean():.2f}", f"{statistics.estimate(table, 'brier'):.3f}", confidence]
    return [*cells, percent(system["test"]["accuracy"].mean()), *_thresholds(page, system, val)]


def _figures(page: Page, title: str, system: dict) -> dict[str, Figure]:
    """Its training beside that of the systems that read the same, its confusion matrix, its reliability."""
    keys = ["inputs", "language", "share", *["run"] * (page.study.name == "memes")]
    alike = [s for s in page.study.systems if all(s.get(key) == system.get(key) for key in keys)]
    alike.sort(key=lambda s: s["run"] == system["run"])  # the same system of other runs gives way to this run's
    history, looks = [], {}
    for s in {s["system"]: s for s in alike}.values():
        label, epochs = readable(s["system"]), page.study.records[s["run"]]["history"]
        history += [epoch | {"system": label} for epoch in epochs if epoch["system"] == s["system"]]
        looks |= {label: page.look(s)} if s.get("start") else {}
    watched = tuple(name for name in ("loss", page.study.score) if any(name in epoch for epoch in history))
    limits = {page.study.score: (0, 1)}
    figures = {"loss": plots.curves(history, watched, title, 1, limits, looks)} if watched else {}
    table = page.study.predictions(system)
    figures["confusion"] = plots.confusion(table, system["classes"], title)
    about = f"{title}: error {percent(statistics.calibration_error(table))} %"
    bins, colour = statistics.reliability(table), page.look(system)["color"]
    return figures | {"reliability": plots.reliability(bins, about, colour)}


def _thresholds(page: Page, system: dict, val: pd.DataFrame) -> list[str]:
    """Of two classes accuracy and macro F1 of the seeds' mean at 0.5, and at the threshold that is best on val."""
    if len(system["classes"]) != 2:
        return ["–", "–"]
    table, best, cells = page.study.averaged(system), statistics.best_threshold(val), []
    for threshold in (0.5, best):
        second = 1.0 * (table["p_1"] > threshold)
        values = scores(table.assign(p_0=1 - second, p_1=second))
        cells.append(f"{percent(values['accuracy'])}, {percent(values['f1_macro'])}")
    return [cells[0], f"{best:.2f}: {cells[1]}"]
