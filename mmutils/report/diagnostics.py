"""Blocks that every study's chapter can use: curves, confusion, classes, calibration, rescued examples, the explorer.

`named` maps a short name for files to a title and a system of the study.
"""

import re

import numpy as np
import pandas as pd

from mmutils import data, plots, statistics
from mmutils.report import markdown
from mmutils.report.explorer import explorer_html, thumbnail
from mmutils.report.sections import LANGUAGES, Page, percent

Named = dict[str, tuple[str, dict]]


def classes(page: Page, named: Named) -> str:
    """F1 of each class."""
    names = page.study.classes
    scores = [_class_f1(page.study.predictions(system), len(names)) for _, system in named.values()]
    counts = scores[0][0]
    rows = []
    for k, name in enumerate(names):
        rows.append([markdown.escape(name), f"{counts[k]:,}", *(percent(f1[k]) for _, f1 in scores)])
    caption = "F1 of each class on test, percent, mean over seeds."
    return page.table(caption, ["Class", "Examples", *(title for title, _ in named.values())], rows)


def _class_f1(predictions: pd.DataFrame, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Test examples (K,) and mean F1 over seeds (K,) of each class."""
    tables = np.stack([plots.confusion_counts(part, count) for _, part in predictions.groupby("seed")])  # (S, K, K)
    hits = np.diagonal(tables, axis1=1, axis2=2)
    f1 = 2 * hits / np.maximum(tables.sum(1) + tables.sum(2), 1)
    return tables[0].sum(1), f1.mean(0)


def confusions(page: Page, named: Named) -> str:
    """A confusion matrix for each system."""
    images = []
    for name, (title, system) in named.items():
        figure = plots.confusion(page.study.predictions(system), page.study.classes, title)
        images.append(page.figure(f"confusion-{name}", figure, f"Confusion matrix, {title}"))
    return "\n".join(images)


def losses(page: Page, named: Named) -> str:
    """Training loss, a panel for each entry of `named` with all systems of the same inputs and language."""
    images = []
    for name, (title, system) in named.items():
        kind = (system["inputs"], system["language"])
        alike = [s for s in page.study.systems if (s["inputs"], s["language"]) == kind]
        parts = [page.study.history(s).assign(system=s["system"]) for s in alike if len(page.study.history(s))]
        if parts:
            figure = plots.curves(pd.concat(parts), ("loss",), title)
            images.append(page.figure(f"loss-{name}", figure, f"Training loss, {title}"))
    return "\n".join(images)


def calibration(page: Page, named: Named) -> str:
    """Calibration error before and after temperature scaling, Brier score, and reliability diagrams."""
    images, rows = [], []
    for name, (title, system) in named.items():
        table = page.study.predictions(system)
        heat = statistics.temperature(page.study.predictions(system, "val"))
        scaled = statistics.apply_temperature(table, heat)
        error, after = (percent(statistics.calibration_error(t)) for t in (table, scaled))
        sure = percent(table.filter(regex=r"^p_\d+$").max(axis=1).mean())
        brier, right = f"{statistics.brier(table):.3f}", percent(system["test"]["accuracy"].mean())
        rows.append([page.record(system, title), error, after, f"{heat.mean():.2f}", brier, sure, right])
        figure = plots.reliability(statistics.reliability(table), f"{title}: error {error} %")
        images.append(page.figure(f"reliability-{name}", figure, f"Reliability diagram, {title}"))
    caption = (
        "Calibration on test, percent, mean over seeds: expected error in 15 bins, as trained and after scaling by a "
        "temperature T that is fitted on val; Brier score summed over classes."
    )
    header = ["Input", "Error", "Error, scaled", "T", "Brier", "Confidence", "Accuracy"]
    return page.table(caption, header, rows) + "\n\n" + "\n".join(images)


def failures(page: Page) -> str:
    """A list of the runs and of the single trainings that failed or collapsed."""
    lines = [f"run `{r['run']}` failed: {markdown.escape(r['reason'])}" for r in page.study.failed]
    for name, record in page.study.records.items():
        for f in record["failed"] or []:
            reason = markdown.escape(f["reason"])
            lines.append(f"run `{name}`, {markdown.escape(f['system'])}, seed {f['seed']}, failed: {reason}")
    return "".join(f"\n\n- {line}" for line in lines)


def examples(page: Page) -> dict[str, pd.DataFrame]:
    """The test examples by language and id; nothing where they did not come with the package: licences differ."""
    return page.study.once(("examples",), lambda: _examples(page)) if page.study.built_in else {}


def _examples(page: Page) -> dict[str, pd.DataFrame]:
    module = data.load(page.study.records[page.study.systems[0]["run"]]["data"]["name"])
    return {language: module.examples(None, "test", language=language).set_index("id") for language in LANGUAGES}


def rescued(page: Page, before: dict, after: dict, most: int = 8) -> tuple[str, int, int]:
    """Examples that one system gets wrong and another right: a table, their number, and that of the reverse."""
    old, new = page.study.averaged(before), page.study.averaged(after)
    was, now = old["guess"] == old["label"], new["guess"] == new["label"]
    won = old.index[~was & now]
    gain = [_probability(new, i, old["label"][i]) - _probability(old, i, old["label"][i]) for i in won]
    shown = pd.Series(gain, won, dtype=float).sort_values(ascending=False, kind="stable").index[:most]
    table = ""
    if examples(page) and len(won):
        caption = "Those whose true class gains most probability; probabilities are means over seeds."
        header = ["Picture", *LANGUAGES.values(), "Text alone says (wrong)", "With the picture (right)"]
        table = page.table(caption, header, [_example(page, i, old, new) for i in shown], slice(0))
    return table, len(won), int((was & ~now).sum())


def _example(page: Page, name: str, old: pd.DataFrame, new: pd.DataFrame) -> list[str]:
    """A row: picture, texts, and what the two systems say."""
    tables, classes = examples(page), page.study.classes
    path = next(iter(tables.values())).loc[name, "image"]
    picture = ""
    if path is not None:
        file = f"example-{re.sub(r'[^A-Za-z0-9]', '-', name)}.png"
        picture = page.file(file, lambda place: place.write_bytes(thumbnail(path)), "")
    said = []
    for table in (old, new):
        guess = table.loc[name, "guess"]
        said.append(f"{markdown.escape(classes[guess])} ({_probability(table, name, guess):.2f})")
    return [picture, *(markdown.escape(tables[language].loc[name, "text"]) for language in LANGUAGES), *said]


def _probability(table: pd.DataFrame, name: str, label: int) -> float:
    return float(table.loc[name, f"p_{label}"])


def explorer_notice(page: Page) -> str:
    """What stands in report.md where the HTML report has the explorer."""
    if not examples(page):
        return ""
    return (
        "## Explorer\n\nAll test examples with picture, text in both languages and every chosen system's prediction, "
        "to be filtered and searched, are in `report.html`."
    )


def explorer(page: Page, named: Named) -> str:
    """The explorer's HTML, empty where nothing may be shown."""
    if not page.study.systems or not examples(page):
        return ""
    systems = [(title, system, page.study.averaged(system)) for title, system in named.values()]
    return explorer_html(examples(page), systems, page.study.classes)
