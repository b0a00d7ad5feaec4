"""Blocks that several chapters can use: losses, confusion, classes, calibration, rescued examples, use of both sides.

`named` maps a short name for files to a title and a system of the study.
"""

import re
from collections import Counter

import numpy as np
import pandas as pd

from mmutils import data, statistics
from mmutils.report import markdown, plots
from mmutils.report.cells import between, dot, p_value, percent, points, spread
from mmutils.report.explorer import thumbnail
from mmutils.report.sections import LANGUAGES, NOTES, Page
from mmutils.statistics.panel import probability_columns

Named = dict[str, tuple[str, dict]]


def systems(page: Page, score: str) -> str:
    """Figure and table of everything that was trained, chosen or not; of the same input best on val first."""
    measure, rows, dots = page.study.score, [], []
    groups = {"text": "Text", "image": "Picture", "image+text": "Picture + text"}
    best_first = sorted(page.study.systems, key=lambda s: -s["val"][measure].mean())
    names = Counter(system["system"] for system in best_first)
    for system in sorted(best_first, key=lambda s: (s["inputs"], s["language"] or "")):
        interval, language = page.study.interval(system), LANGUAGES.get(system["language"], system["language"])
        title = ", ".join(filter(None, [groups[system["inputs"]], language if "text" in system["inputs"] else ""]))
        look = {"filled": system["chosen"], "colour": plots.LANGUAGE_COLOURS.get(system["language"], plots.PALETTE[2])}
        name = f"{system['system']} ({system['run']})" if names[system["system"]] > 1 else system["system"]
        dots.append({"label": name, "group": title, **dot(interval), **look})
        model = "" if system["model"] in system["system"] else f"{system['model']}; "
        weights = ", ".join(dict.fromkeys(part.split(" ")[0] for part in system["weights"].split("; ")))
        how = markdown.escape(f"{model}trained: {system['trained']}; weights: {weights}")
        numbers = [spread(system["val"][measure]), spread(system["test"][measure])]
        numbers += [between(interval.low, interval.high), spread(system["test"]["accuracy"])]
        link = f"{page.record(system['run'], title)}: {markdown.escape(name)}"
        rows.append([link, how, "yes" if system["chosen"] else "", *numbers])
    if not rows:
        return ""
    chance = 100 * statistics.chance(page.study.predictions(page.study.systems[0]))[measure]
    figure = plots.forest(dots, f"{score} on test, % (95 % intervals; filled: chosen on val)", chance)
    image = page.figure("systems", figure, f"{score} of every system with its interval")
    return f"{image}\n\n{page.table('systems', rows, score=score)}"


def classes(page: Page, named: Named) -> str:
    """F1 of each class."""
    columns = []
    for _, system in named.values():
        seeds = [rows for _, rows in page.study.predictions(system).groupby("seed")]
        counts = np.stack([plots.confusion_counts(rows, len(page.study.classes)) for rows in seeds])  # (S, K, K)
        hits, both = np.diagonal(counts, axis1=1, axis2=2), counts.sum(1) + counts.sum(2)
        columns = columns or [map(markdown.escape, page.study.classes), map("{:,}".format, counts[0].sum(1))]
        columns.append(map(percent, (2 * hits / np.maximum(both, 1)).mean(0)))
    header = ["Class", "Examples", *(title for title, _ in named.values())]
    return page.table("classes", list(zip(*columns, strict=True)), head=markdown.table(header, []))


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
        rows = [row for s in alike for row in page.study.records[s["run"]]["history"] if row["system"] == s["system"]]
        if rows:
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


def examples(page: Page, run: str, language: str) -> pd.DataFrame:
    """The test examples of a run's data set, which is a built-in one, by id."""
    name = page.study.records[run]["data"]["name"]
    key = ("examples", name, language)
    return page.study.cached(key, lambda: data.examples(name, None, "test", language=language).set_index("id"))


def picture(page: Page, name: str, path: str | None) -> str:
    """The thumbnail of the example with that id."""
    file = f"example-{re.sub(r'[^A-Za-z0-9]', '-', name)}.png"
    return "" if path is None else page.file(file, lambda: thumbnail(path), "")


def modality_use(page: Page, score: str) -> str:
    """Bars and a table for each system of which every text was read with every picture; and what follows from it."""
    parts, dots, noise = [], [], []
    for run, record in page.study.records.items():
        extra, where = record["extra"], record["data"].get("language") or run
        for system, rows in extra.get("modality_use", {}).items():
            title, cells = f"{system} ({where})", []
            for row in rows:
                dots.append({"label": row["model"], "group": title, "filled": row["model"] == "full", **_dot(row)})
                estimate = [percent(row["score"]), between(row["low"], row["high"])]
                change = [points(row["change"]), between(row["change_low"], row["change_high"], points)]
                change = ["–"] * 3 if row["model"] == "full" else [*change, p_value(row["p_value"])]
                cells.append([markdown.escape(row["model"]), *estimate, *change])
            row = next(row for row in rows if row["model"] == "additive")
            sentence = f"Without interaction {score} is {percent(row['score'])} {between(row['low'], row['high'])}"
            if score == "AUROC" and row["low"] <= 0.5 <= row["high"]:
                sentence += ": chance. All that it knows lies in how picture and text go together."
            elif row["change_low"] <= 0 <= row["change_high"]:
                sentence += ", no clear change: it may as well add up what picture and text say, each for itself."
            else:
                sentence += f", a change of {points(row['change'])} points: picture and text do interact."
            table = page.table("modalities", cells, link=page.record(run, title), score=score)
            parts += [f"**{markdown.escape(title)}.** {sentence}", table]
        for system, rows in extra.get("noise", {}).items():
            label = f"{system} ({where}), noise on the "
            noise += [{"label": label + row["side"], "level": row["level"], **_dot(row)} for row in rows]
    if not parts:
        return ""
    chance, name = 50 if score == "AUROC" else None, page.study.name
    figure = plots.forest(dots, f"{score}, % (95 % intervals)", chance)
    image = page.figure(f"{name}-modalities", figure, f"{score} of whole, additive and shuffled models")
    parts = ["### Are both modalities used?", NOTES["used"], image, *parts]
    if noise:
        figure = plots.step_curves(noise, "level", "noise, standard deviations of the features", f"{score}, %", chance)
        parts += [NOTES["noise"], page.figure(f"{name}-noise", figure, f"{score} under noise on picture or text")]
    return "\n\n".join(parts)


def _dot(row: dict) -> dict[str, float]:
    return {"estimate": 100 * row["score"], "low": 100 * row["low"], "high": 100 * row["high"]}
