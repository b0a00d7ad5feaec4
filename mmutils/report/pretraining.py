"""What pretraining learned, from the records of the pretraining notebooks: probes, curves, retrieval.

Their encoders are called "<method>, <network>", beside "random, <network>" or "before, <network>", the same network
before training; each is two systems, one per probe. `extra["probes"]` has scores and rank of collapsed encoders too.
"""

import re

import pandas as pd

from mmutils import data, statistics
from mmutils.report import markdown, plots
from mmutils.report.explorer import thumbnail
from mmutils.report.sections import LANGUAGES, Page, between, p_value, percent, points

PROBED = ["Encoder", "Neighbours", "Gain", "p, Holm", "Linear probe", "Gain", "p, Holm", "Rank"]
BEFORE = ("random, ", "before, ")
RESAMPLES = 2_000
RECALLS = ("R@1", "R@5", "R@10")
WATCHED = {"CLIP": ("loss", "effective_rank_image"), "DINO": ("loss", "teacher_entropy", "effective_rank_teacher")}
AGREEMENT = ("agreement", "effective_rank_cnn", "effective_rank_vit")  # CASS and CASS-MM
NOTES = {
    "CLIP": "The loss at chance is the logarithm of the batch size.",
    "DINO": "The loss at chance is the logarithm of the number of prototypes, a teacher's entropy there a collapse.",
    "CASS": "All forms see two views of each picture, one each; the paper shows both networks the same. As published, "
    "nothing keeps both from saying the same about every picture: a perfect agreement (0) is then a collapse, and the "
    "effective rank of the features shows which it is.",
    "CASS-MM": "Both branches share one loss, the agreement; what each learns differs, as the neighbours show.",
}


def learned(page: Page) -> str:
    """Each pretrained encoder against the same network before training, by neighbours and by a linear probe."""
    tests, rows, epochs = gains(page), [], _kept(page)
    for run, record in _records(page).items():
        probed = pd.DataFrame(record["extra"]["probes"]).query("split == 'test'").groupby("encoder")
        ranks = probed["effective_rank"].mean()
        for encoder in dict.fromkeys(system["encoder"] for system in record["systems"]):
            shown = f"{encoder} ({run})" if encoder.startswith(BEFORE) else encoder
            if len(set(epochs.values())) > 1 and (run, encoder) in epochs:
                shown += f", {epochs[run, encoder]}"
            cells = [page.record({"run": run}, shown)]
            for probe in ("knn", "linear"):
                system = _system(page, run, encoder, probe)
                cells += [_score(page, system), *_gain(*tests.get((run, encoder, probe), (None, None)))]
            cells[0] += "" if system else " **FAILED**"
            rows.append([*cells, f"{ranks[encoder]:.1f}" if encoder in ranks else "–"])
    caption = (
        "AUROC on test (each class against the rest), percent, mean over seeds with 95 % interval, of the 20 nearest "
        "neighbours and of a linear probe on frozen features; gain over the same network before training, in points, "
        "paired, with Holm's correction over the table; effective rank of the features. FAILED: collapsed or diverged, "
        "in no mean and no test."
    )
    if len(set(epochs.values())) == 1:
        caption += f" Kept of each pretraining: {markdown.escape(next(iter(epochs.values())))}."
    return f"### What pretraining learned\n\n{page.table(caption, PROBED, rows)}" if rows else ""


def _kept(page: Page) -> dict[tuple[str, str], str]:
    """By run and encoder which epoch of its pretraining was kept, where the record says so."""
    kept = {}
    for run, record in _records(page).items():
        for system in record["systems"]:
            if system.get("kept") and not system["encoder"].startswith(BEFORE):
                kept[run, system["encoder"]] = system["kept"]
    return kept


def gains(page: Page) -> dict[tuple, tuple[statistics.Interval, float]]:
    """By run, encoder and probe: the gain in AUROC over the network before training, and Holm's p of all of them."""
    return page.study.cached(("gains",), lambda: _gains(page))


def _gains(page: Page) -> dict[tuple, tuple[statistics.Interval, float]]:
    found = {}
    for system in page.study.systems:
        if "probe" in system and not system["encoder"].startswith(BEFORE):
            key = (system["run"], system["encoder"], system["probe"])
            branch = system["encoder"].rsplit(", ", 1)[-1]
            names = (f"{first}{branch}" for first in BEFORE)
            before = next(filter(None, (_system(page, system["run"], name, system["probe"]) for name in names)), None)
            if before:
                found[key] = statistics.paired_difference(
                    *map(page.study.predictions, (system, before)), "auroc", resamples=RESAMPLES
                )
    corrected = statistics.holm([test.p_value for test in found.values()])
    return {key: (test, float(p)) for (key, test), p in zip(found.items(), corrected, strict=True)}


def _system(page: Page, run: str, encoder: str, probe: str) -> dict | None:
    wanted = (run, encoder, probe)
    return next((s for s in page.study.systems if (s["run"], s.get("encoder"), s.get("probe")) == wanted), None)


def _score(page: Page, system: dict | None) -> str:
    if not system:
        return "–"
    found = page.study.interval(system, "auroc", RESAMPLES)
    return f"{percent(found.estimate)} {between(found.low, found.high)}"


def _gain(test: statistics.Interval | None, holm: float | None) -> list[str]:
    if not test:
        return ["–", "–"]
    gain = f"{points(test.estimate)} {between(test.low, test.high, points)}"
    return [f"**{gain}**" if holm < 0.05 and test.estimate > 0 else gain, p_value(holm)]


def _records(page: Page) -> dict[str, dict]:
    """The pretraining runs that went well."""
    return {run: r for run, r in page.study.records.items() if r["extra"].get("probes")}


def method(record: dict) -> str:
    """The method of a pretraining run."""
    return next((s["method"] for s in record["systems"] if s["method"] not in ("random", "before")), "")


def ablation(page: Page) -> str:
    """CASS-MM: variants that differ in one thing only, compared in pairs; and the advice that follows from it."""
    found = {}
    for run, record in _records(page).items():
        for what, old, new in _steps(record["parameters"].get("variants", [])):
            change = f"{what}: {_said(new, what)} instead of {_said(old, what)}"
            found |= {(change, *which): d for which, d in _differences(page, run, old, new).items()}
    if not found:
        return ""
    corrected = statistics.holm([d.p_value for d in found.values()])
    rows, verdicts = [], {}
    for (change, branch, probe), holm in zip(found, corrected, strict=True):
        d = found[change, branch, probe]
        verdict = "inconclusive" if holm >= 0.05 else "better" if d.estimate > 0 else "worse"
        cells = [points(d.estimate), between(d.low, d.high, points), p_value(float(holm)), verdict]
        change = markdown.escape(change)
        rows.append([change, markdown.escape(f"{branch}, {probe}"), *cells])
        verdicts.setdefault(change, []).append(verdict)
    caption = (
        "CASS-MM: what changes when one thing is changed; paired differences in AUROC on test, points, 95 % intervals, "
        "of neighbours and of a linear probe on each branch; Holm's correction over the table; one pretraining each."
    )
    header = ["Changed", "Branch and probe", "Difference", "95 % interval", "p, Holm", "Verdict"]
    return f"### What matters in CASS-MM\n\n{_advice(verdicts)}\n\n{page.table(caption, header, rows, slice(2, 5))}"


def _advice(verdicts: dict[str, list[str]]) -> str:
    """What is clear for at least one branch and probe, and how often."""
    clear = [
        f"{change} is {word} ({found.count(word)} of {len(found)} differences are clear)"
        for change, found in verdicts.items()
        for word in ("better", "worse")
        if word in found
    ]
    open_ = [change for change, found in verdicts.items() if set(found) == {"inconclusive"}]
    said = [f"**Advice.** {'; '.join(clear)}." if clear else "**No advice:** no difference is clear."]
    return " ".join([*said, f"Nothing can be said of: {'; '.join(open_)}."] if open_ else said)


VARIED = ("cure", "text encoders", "views", "hidden sides")  # what a variant of CASS_MM.ipynb lists, in its order


def _steps(variants: list[list]) -> list[tuple[str, list, list]]:
    """What differs, old and new, of each two variants that differ in one thing; the later one is the new."""
    pairs = [(a, b) for k, b in enumerate(variants) for a in variants[:k]]
    differing = [([name for name, x, y in zip(VARIED, a, b, strict=True) if x != y], a, b) for a, b in pairs]
    return [(names[0], a, b) for names, a, b in differing if len(names) == 1]


def _said(variant: list, what: str) -> str:
    value = variant[VARIED.index(what)]
    shown = {"none": "as published", "plain": "unchanged pictures", "two": "two views", "same": "one view"}
    return f"{100 * value:.0f} %" if isinstance(value, float | int) else shown.get(value, value)


def _differences(page: Page, run: str, old: list, new: list) -> dict[tuple[str, str], statistics.Interval]:
    """New minus old for each branch and probe, where neither has failed."""
    found = {}
    for system in page.study.systems:
        if system["run"] == run and system.get("encoder", "").startswith(_prefix(new)):
            branch = system["encoder"].rsplit(", ", 1)[-1]
            before = _system(page, run, f"{_prefix(old)}{branch}", system["probe"])
            if before:
                tables = map(page.study.predictions, (system, before))
                probe = {"knn": "neighbours", "linear": "linear probe"}[system["probe"]]
                found[branch, probe] = statistics.paired_difference(*tables, "auroc", resamples=RESAMPLES)
    return found


def _prefix(variant: list) -> str:
    """How the encoders of a variant are called in CASS_MM.ipynb."""
    cure, sharing, kind, hide = variant
    return f"CASS-MM {'as published' if cure == 'none' else cure}, {sharing} text, {kind}, {100 * hide:.0f} % hidden, "


def collapse(page: Page) -> str:
    """Loss or agreement, effective rank, and neighbours over the epochs, all forms of a method side by side."""
    parts = []
    for run, record in _records(page).items():
        name = method(record)
        table = pd.DataFrame(record["history"])
        nearest = {column: f"knn {column[4:].split('_')[0]}" for column in table if column.startswith("knn_")}
        columns = [c for c in WATCHED.get(name, AGREEMENT) if c in table]
        columns += list(nearest.values()) if name == "CASS-MM" else []
        images = []
        for column in columns:
            shown = [table.rename(columns=nearest)]
            if column == "loss" and "loss_chance" in table:
                chance = table.groupby("epoch", as_index=False)["loss_chance"].mean()
                shown.append(chance.rename(columns={"loss_chance": "loss"}).assign(system="chance", seed=0))
            file = re.sub(r"\W", "-", f"memes-{run}-{column}")
            figure = plots.curves(pd.concat(shown), (column,), column.replace("_", " "))
            images.append(page.figure(file, figure, f"{column.replace('_', ' ')} over the epochs, {name}"))
        if images:
            parts += [f"**{markdown.escape(name)}**. {NOTES.get(name, '')}".strip(), "\n".join(images)]
    return "### Did it collapse?\n\n" + "\n\n".join(parts) if parts else ""


def retrieval(page: Page) -> str:
    """CLIP: in what share of the cases the partner is among the first 1, 5 or 10; and the pictures for a text."""
    rows, grids = [], []
    for run, record in page.study.records.items():
        extra = record["extra"]
        for language, found in extra.get("retrieval", {}).items():
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
    paths = data.dataset(record["data"]["name"]).examples(None, "test").set_index("id")["image"]
    rows = []
    for query, names in queries.items():
        files = {f"example-{re.sub(r'[^A-Za-z0-9]', '-', name)}.png": paths[name] for name in names}
        pictures = [page.file(file, lambda path=path: thumbnail(path), "") for file, path in files.items()]
        rows.append([markdown.escape(query), *pictures])
    return rows
