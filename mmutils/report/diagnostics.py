"""Blocks that several chapters can use: losses, confusion, classes, calibration, rescued examples, use of both sides.

`named` maps a short name for files to a title and a system of the study.
"""

import re

import numpy as np
import pandas as pd

from mmutils import data, statistics
from mmutils.report import markdown, plots
from mmutils.report.cells import between, p_value, percent, points
from mmutils.report.explorer import thumbnail
from mmutils.report.sections import LANGUAGES, NOTES, Page
from mmutils.statistics.panel import probability_columns

Named = dict[str, tuple[str, dict]]
RESCUED = 8  # examples that are shown


def classes(page: Page, named: Named) -> str:
    """F1 of each class."""
    columns, counts = [], []
    for _, system in named.values():
        seeds = [rows for _, rows in page.study.predictions(system).groupby("seed")]
        tables = np.stack([plots.confusion_counts(rows, len(page.study.classes)) for rows in seeds])  # (S, K, K)
        hits, both = np.diagonal(tables, axis1=1, axis2=2), tables.sum(1) + tables.sum(2)
        columns.append((2 * hits / np.maximum(both, 1)).mean(0))
        counts.append(tables[0].sum(1))
    rows = [
        [markdown.escape(name), f"{counts[0][k]:,}", *(percent(f1[k]) for f1 in columns)]
        for k, name in enumerate(page.study.classes)
    ]
    header = ["Class", "Examples", *(title for title, _ in named.values())]
    return page.table("classes", rows, head=markdown.table(header, []))


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
        alike = [s for s in page.study.systems if all(s[key] == system[key] for key in ("inputs", "language"))]
        histories = [(page.study.records[s["run"]]["history"], s["system"]) for s in alike]
        if rows := [row for history, trained in histories for row in history if row["system"] == trained]:
            figure = plots.curves(rows, ("loss",), title)
            images.append(page.figure(f"loss-{name}", figure, f"Training loss, {title}"))
    return "\n".join(images)


def calibration(page: Page, named: Named) -> str:
    """Calibration error before and after temperature scaling, Brier score, and reliability diagrams."""
    images, rows = [], []
    for name, (title, system) in named.items():
        table = page.study.predictions(system)
        temperatures = statistics.temperature(page.study.predictions(system, "val"))
        scaled = statistics.apply_temperature(table, temperatures)
        error, after = (percent(statistics.calibration_error(t)) for t in (table, scaled))
        confidence = percent(table[probability_columns(table)].max(axis=1).mean())
        brier, accuracy = f"{statistics.estimate(table, 'brier'):.3f}", percent(system["test"]["accuracy"].mean())
        label = page.record(system["run"], title)
        rows.append([label, error, after, f"{temperatures.mean():.2f}", brier, confidence, accuracy])
        figure = plots.reliability(statistics.reliability(table), f"{title}: error {error} %")
        images.append(page.figure(f"reliability-{name}", figure, f"Reliability diagram, {title}"))
    return "\n\n".join([page.table("calibration", rows), "\n".join(images)])


def failures(page: Page) -> str:
    """A list of the runs and of the single trainings that failed or collapsed."""
    lines = [f"run `{r['run']}` failed: {markdown.escape(r['reason'])}" for r in page.study.failed]
    for name, record in page.study.records.items():
        for f in record["failed"]:
            system, reason = markdown.escape(f["system"]), markdown.escape(f["reason"])
            lines.append(f"run `{name}`, {system}, seed {f['seed']}, failed: {reason}")
    return "".join(f"\n\n- {line}" for line in lines)


def examples(page: Page) -> dict[str, pd.DataFrame]:
    """The test examples by language and id; nothing where they did not come with the package: licences differ."""
    if not page.study.built_in:
        return {}
    name = page.study.records[page.study.systems[0]["run"]]["data"]["name"]
    return {language: examples_by_id(page, name, language) for language in LANGUAGES}


def examples_by_id(page: Page, name: str, language: str) -> pd.DataFrame:
    """The test examples of a built-in data set, by id."""
    key = ("examples", name, language)
    return page.study.cached(key, lambda: data.examples(name, None, "test", language=language).set_index("id"))


def picture(page: Page, name: str, path: str | None) -> str:
    """The thumbnail of the example with that id."""
    if path is None:
        return ""
    return page.file(f"example-{re.sub(r'[^A-Za-z0-9]', '-', name)}.png", lambda: thumbnail(path), "")


def rescued(page: Page, before: dict, after: dict) -> tuple[str, int, int]:
    """Examples that one system gets wrong and another right: a table, their number, and that of the reverse."""
    old, new = page.study.averaged(before), page.study.averaged(after)
    was, now = old["guess"] == old["label"], new["guess"] == new["label"]
    won, tables = old.index[~was & now], examples(page)
    if not tables or won.empty:
        return "", len(won), int((was & ~now).sum())
    truths = [f"p_{label}" for label in old["label"][won]]
    gain = [float(new.loc[i, p]) - float(old.loc[i, p]) for i, p in zip(won, truths, strict=True)]
    rows = []
    for name in pd.Series(gain, won).sort_values(ascending=False, kind="stable").index[:RESCUED]:
        image = picture(page, name, next(iter(tables.values())).loc[name, "image"])
        said = []
        for means in (old, new):
            guess = means.loc[name, "guess"]
            said.append(f"{markdown.escape(page.study.classes[guess])} ({means.loc[name, f'p_{guess}']:.2f})")
        rows.append([image, *(markdown.escape(table.loc[name, "text"]) for table in tables.values()), *said])
    return page.table("rescued", rows), len(won), int((was & ~now).sum())


def modality_use(page: Page, score: str) -> str:
    """Bars and a table for each system of which every text was read with every picture; and what follows from it."""
    parts, dots, noise = [], [], []
    for run, record in page.study.records.items():
        extra, where = record["extra"], record["data"].get("language") or run
        for system, rows in extra.get("modality_use", {}).items():
            title = f"{system} ({where})"
            for row in rows:
                dots.append({"label": row["model"], "group": title, "filled": row["model"] == "full", **_dot(row)})
            parts += _models(page, rows, page.record(run, title), markdown.escape(title), score)
        for system, rows in extra.get("noise", {}).items():
            label = f"{system} ({where}), noise on the "
            noise += [{"label": label + row["side"], "level": row["level"], **_dot(row)} for row in rows]
    if not parts:
        return ""
    level = 50 if score == "AUROC" else None
    figure = plots.forest(dots, f"{score}, % (95 % intervals)", chance=level)
    text = f"{score} of whole, additive and shuffled models"
    shown = [NOTES["used"], page.figure(f"{page.study.name}-modalities", figure, text), *parts]
    if noise:
        figure = plots.step_curves(noise, "level", "noise, standard deviations of the features", f"{score}, %", level)
        text = f"{score} under noise on picture or text"
        shown += [NOTES["noise"], page.figure(f"{page.study.name}-noise", figure, text)]
    return "### Are both modalities used?\n\n" + "\n\n".join(shown)


def _dot(row: dict) -> dict[str, float]:
    return {"estimate": 100 * row["score"], "low": 100 * row["low"], "high": 100 * row["high"]}


def _models(page: Page, rows: list[dict], link: str, name: str, score: str) -> list[str]:
    """What the additive model says, in words; and the table of a system's whole, additive and shuffled models."""
    cells = []
    for row in rows:
        interval = between(row["change_low"], row["change_high"], points)
        change = [points(row["change"]), interval, p_value(row["p_value"])]
        estimate = [percent(row["score"]), between(row["low"], row["high"])]
        cells.append([markdown.escape(row["model"]), *estimate, *(["–"] * 3 if row["model"] == "full" else change)])
    row = next(row for row in rows if row["model"] == "additive")
    said = f"**{name}.** Without interaction {score} is {percent(row['score'])} {between(row['low'], row['high'])}"
    if score == "AUROC" and row["low"] <= 0.5 <= row["high"]:
        said += ": chance. All that it knows lies in how picture and text go together."
    elif row["change_low"] <= 0 <= row["change_high"]:
        said += ", no clear change: it may as well add up what picture and text say, each for itself."
    else:
        said += f", a change of {points(row['change'])} points: picture and text do interact."
    return [said, page.table("modalities", cells, link=link, score=score)]
