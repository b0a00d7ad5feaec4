"""Blocks that every study's chapter can use: curves, confusion, classes, calibration, rescued examples, the explorer.

`named` maps a short name for files to a title and a system of the study.
"""

import re

import numpy as np
import pandas as pd

from mmutils import data, statistics
from mmutils.report import markdown, plots
from mmutils.report.explorer import Explorer, thumbnail
from mmutils.report.sections import LANGUAGES, Page, between, p_value, percent, points

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
        brier, right = f"{statistics.estimate(table, "brier"):.3f}", percent(system["test"]["accuracy"].mean())
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
        for f in record["failed"]:
            reason = markdown.escape(f["reason"])
            lines.append(f"run `{name}`, {markdown.escape(f['system'])}, seed {f['seed']}, failed: {reason}")
    return "".join(f"\n\n- {line}" for line in lines)


def examples(page: Page) -> dict[str, pd.DataFrame]:
    """The test examples by language and id; nothing where they did not come with the package: licences differ."""
    return page.study.cached(("examples",), lambda: _examples(page)) if page.study.built_in else {}


def _examples(page: Page) -> dict[str, pd.DataFrame]:
    module = data.dataset(page.study.records[page.study.systems[0]["run"]]["data"]["name"])
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
        picture = page.file(file, lambda: thumbnail(path), "")
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
        "## Explorer\n\nTest examples with picture, texts and what the chosen systems say, to be filtered and "
        "searched, are in `report.html`."
    )


def explorer(page: Page, named: Named, warning: str) -> Explorer | None:
    """What the explorer shows, None where nothing may be shown."""
    if not page.study.systems or not examples(page):
        return None
    systems = [(title, system, page.study.averaged(system)) for title, system in named.values()]
    return Explorer(warning.rstrip("."), examples(page), systems, page.study.classes)


def modality_use(page: Page, score: str) -> str:
    """Bars and a table for each system of which every text was read with every picture; and what follows from it."""
    parts, dots, noise = [], [], []
    for run, record in page.study.records.items():
        for system, models in record["extra"].get("modality_use", {}).items():
            title = f"{system} ({record['data'].get('language') or run})"
            rows = {row["model"]: row for row in models}
            dots += [
                {"label": name, "group": title, "filled": name == "full"}
                | {key: 100 * row[source] for key, source in (("estimate", "score"), ("low", "low"), ("high", "high"))}
                for name, row in rows.items()
            ]
            cells = [
                [markdown.escape(name), percent(row["score"]), between(row["low"], row["high"]), *_change(row)]
                for name, row in rows.items()
            ]
            header = ["Model", score, "95 % interval", "Change", "95 % interval", "p"]
            caption = f"{page.record({'run': run}, title)}, {score} on a part of test, percent."
            parts += [_interaction(rows["additive"], title, score), page.table(caption, header, cells)]
        for system, levels in record["extra"].get("noise", {}).items():
            noise += [
                {"label": f"{system} ({record['data'].get('language') or run}), noise on the {row['side']}"}
                | {"level": row["level"], "estimate": 100 * row["score"], "low": 100 * row["low"]}
                | {"high": 100 * row["high"]}
                for row in levels
            ]
    if not parts:
        return ""
    level = 50 if score == "AUROC" else None
    figure = plots.forest(dots, f"{score}, % (95 % intervals)", chance=level)
    image = page.figure(f"{page.study.name}-modalities", figure, f"{score} of whole, additive and shuffled models")
    parts += _noise(page, noise, score, level)
    return "### Are both modalities used?\n\n" + "\n\n".join([USED, image, *parts])


def _noise(page: Page, rows: list[dict], score: str, chance: int | None) -> list[str]:
    """The curve of the score over the noise on one side."""
    if not rows:
        return []
    figure = plots.step_curves(rows, "level", "noise, standard deviations of the features", f"{score}, %", chance)
    return [NOISE, page.figure(f"{page.study.name}-noise", figure, f"{score} under noise on picture or text")]


USED = (
    "Every text of test is read with every picture. `additive`: the best approximation of the model in which text and "
    "picture cannot interact ([EMAP](https://arxiv.org/abs/2010.06572)); shuffled: one side comes from another example "
    "([perceptual score](https://arxiv.org/abs/2110.14375)); averaged out: the mean over that side, as if missing."
)


NOISE = (
    "Gaussian noise on the features of one side before they are fused, the other side as it is; mean over seeds with "
    "95 % interval. The steeper the fall, the more the model leans on that side."
)


def _change(row: dict) -> list[str]:
    if row["model"] == "full":
        return ["–"] * 3
    return [points(row["change"]), between(row["change_low"], row["change_high"], points), p_value(row["p_value"])]


def _interaction(row: dict, title: str, score: str) -> str:
    """What the additive model says, in words."""
    name = markdown.escape(title)
    left = f"Without interaction {score} is {percent(row['score'])} {between(row['low'], row['high'])}"
    if score == "AUROC" and row["low"] <= 0.5 <= row["high"]:
        return f"**{name}.** {left}: chance. All that it knows lies in how picture and text go together."
    if row["change_low"] <= 0 <= row["change_high"]:
        return f"**{name}.** {left}, no clear change: it may as well add up what picture and text say, each for itself."
    return f"**{name}.** {left}, a change of {points(row['change'])} points: picture and text do interact."
