"""What pretraining learned, from the records of the pretraining notebooks: probes, curves, retrieval.

Their systems are called "<method>, <network>", beside "random, <network>", the same network before training. The
predictions are those of the linear probe; `extra["probes"]` has both probes' scores, of collapsed encoders too.
"""

import re

import pandas as pd

from mmutils import data, plots, statistics
from mmutils.report import markdown
from mmutils.report.explorer import thumbnail
from mmutils.report.sections import LANGUAGES, Page, between, p_value, percent, points, spread

PROBED = ["System", "Neighbours", "Linear", "95 % interval", "Gain over random", "95 % interval", "p, Holm", "Rank"]
RECALLS = ("R@1", "R@5", "R@10")
WATCHED = {"CLIP": ("loss", "effective_rank_image"), "DINO": ("loss", "teacher_entropy", "effective_rank_teacher")}
AGREEMENT = ("agreement", "effective_rank_cnn", "effective_rank_vit")  # CASS and CASS-MM
NOTES = {
    "CLIP": "The loss at chance is the logarithm of the batch size.",
    "DINO": "The loss at chance is the logarithm of the number of prototypes, a teacher's entropy there a collapse.",
    "CASS": "As published, nothing keeps both networks from saying the same about every picture: a perfect agreement "
    "(0) is then a collapse, and the effective rank of the features shows which it is.",
    "CASS-MM": "Both branches share one loss, the agreement; what each learns differs, as the neighbours show.",
}


def learned(page: Page) -> str:
    """Each pretrained encoder against the same network before training, by neighbours and by a linear probe."""
    rows, tests = [], []
    for run, record in _records(page).items():
        probes = pd.DataFrame(record["extra"]["probes"]).query("split == 'test'")
        for system, part in probes.groupby("system", sort=False):
            cells, test = _probed(page, run, system, part)
            rows.append(cells)
            tests.append(test)
    corrected = iter(statistics.holm([test.p_value for test in tests if test]))
    for cells, test in zip(rows, tests, strict=True):
        gain = ["–"] * 3
        if test:
            gain = [points(test.estimate), between(test.low, test.high, points), p_value(next(corrected))]
        cells[4:4] = gain
    caption = (
        "Macro F1 on test, percent, mean ± standard deviation over seeds, of the 20 nearest neighbours and of a linear "
        "probe on frozen features; the probe's gain over the same network before training, in points, paired, with "
        "Holm's correction over the table; effective rank of the features. FAILED: collapsed, in no mean and no test."
    )
    return f"### What pretraining learned\n\n{page.table(caption, PROBED, rows)}" if rows else ""


def _records(page: Page) -> dict[str, dict]:
    """The pretraining runs that went well."""
    return {run: r for run, r in page.study.records.items() if (r["extra"] or {}).get("probes")}


def _method(record: dict) -> str:
    return next((s["method"] for s in record["systems"] if s["method"] != "random"), "")


def _probed(page: Page, run: str, name: str, probes: pd.DataFrame) -> tuple[list[str], statistics.Interval | None]:
    """A row without the gain, and the test of the gain; a system of which every seed failed has no test."""
    system = _system(page, run, name)
    failed = {f["seed"] for f in page.study.records[run]["failed"] or [] if f["system"] == name}
    kept = probes if system is None else probes[~probes["seed"].isin(failed)]
    scores = [spread(kept.loc[kept["probe"] == kind, "f1_macro"]) for kind in ("knn", "linear")]
    shown = f"{name} ({run})" if name.startswith("random") else name
    label = page.record({"run": run}, shown) + (" **FAILED**" if system is None else "")
    found = page.study.interval(system) if system else None
    interval = between(found.low, found.high) if found else "–"
    before = _system(page, run, f"random, {name.rsplit(', ', 1)[-1]}")
    test = None
    if system and before and system["method"] != "random":
        test = statistics.paired_difference(*(page.study.predictions(s) for s in (system, before)))
    return [label, *scores, interval, f"{kept['effective_rank'].mean():.1f}"], test


def _system(page: Page, run: str, name: str) -> dict | None:
    return next((s for s in page.study.systems if (s["run"], s["system"]) == (run, name)), None)


def collapse(page: Page) -> str:
    """Loss or agreement, effective rank, and neighbours over the epochs, all forms of a method side by side."""
    parts = []
    for run, record in _records(page).items():
        method = _method(record)
        table = pd.DataFrame(record["history"])
        nearest = {column: f"knn {column[4:].split('_')[0]}" for column in table if column.startswith("knn_")}
        columns = [c for c in WATCHED.get(method, AGREEMENT) if c in table]
        columns += list(nearest.values()) if method == "CASS-MM" else []
        images = []
        for column in columns:
            shown = [table.rename(columns=nearest)]
            if column == "loss" and "loss_chance" in table:
                chance = table.groupby("epoch", as_index=False)["loss_chance"].mean()
                shown.append(chance.rename(columns={"loss_chance": "loss"}).assign(system="chance", seed=0))
            file = re.sub(r"\W", "-", f"memes-{run}-{column}")
            figure = plots.curves(pd.concat(shown), (column,), column.replace("_", " "))
            images.append(page.figure(file, figure, f"{column.replace('_', ' ')} over the epochs, {method}"))
        if images:
            parts += [f"**{method}**. {NOTES.get(method, '')}".strip(), "\n".join(images)]
    return "### Did it collapse?\n\n" + "\n\n".join(parts) if parts else ""


def retrieval(page: Page) -> str:
    """CLIP: in what share of the cases the partner is among the first 1, 5 or 10; and the pictures for a text."""
    rows, grids = [], []
    for run, record in page.study.records.items():
        extra = record["extra"] or {}
        for language, found in (extra.get("retrieval") or {}).items():
            for way, shown in (("text_to_image", "picture for a text"), ("image_to_text", "text for a picture")):
                label = page.record({"run": run}, f"{run}, {LANGUAGES.get(language, language) or 'texts'}: {shown}")
                recalls = [percent(found[f"{way}_{name.lower().replace('@', '')}"]) for name in RECALLS]
                level = " / ".join(percent(int(name[2:]) / found["candidates"]) for name in RECALLS)
                rows.append([label, *recalls, f"{found['candidates']:,}", level])
        if page.study.built_in and extra.get("queries"):
            grids += _answers(page, record, extra["queries"])
    if not rows:
        return ""
    caption = "Test split, last seed: percent of the cases in which the partner is among the first 1, 5, 10."
    text = f"### Retrieval\n\n{page.table(caption, ['Looked for', *RECALLS, 'Candidates', 'At chance'], rows)}"
    if not grids:
        return text
    caption = "The pictures of test that are nearest to a text which is no picture's name, best first."
    header = ["Text", *map(str, range(1, max(map(len, grids))))]
    return f"{text}\n\n{page.table(caption, header, grids, slice(0))}"


def _answers(page: Page, record: dict, queries: dict[str, list[str]]) -> list[list[str]]:
    """A row for each query: its text and the pictures found."""
    paths = data.load(record["data"]["name"]).examples(None, "test").set_index("id")["image"]
    rows = []
    for query, names in queries.items():
        files = {f"example-{re.sub(r'[^A-Za-z0-9]', '-', name)}.png": paths[name] for name in names}
        pictures = [page.file(file, lambda place, path=path: place.write_bytes(thumbnail(path)), "")
                    for file, path in files.items()]  # fmt: skip
        rows.append([markdown.escape(query), *pictures])
    return rows
