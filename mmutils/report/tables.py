"""Tables of a page's systems: their scores, paired tests, few labels, what pretraining learned."""

from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple

import numpy as np

from mmutils import statistics
from mmutils.report import markdown, plots, systems
from mmutils.report.page import NOTES, SCORES, Page, dot, p_value, percent, readable, span, spread, tested
from mmutils.report.results import confusion_counts, on_val
from mmutils.statistics.classical import delong, mcnemar

MORE = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "precision_weighted", "f1_weighted")


class Test(NamedTuple):
    """A paired comparison: what is compared, where, both systems, and what came out."""

    name: str
    where: str
    first: dict
    second: dict
    result: statistics.Comparison


def tests(page: Page, family: Callable[[Page], systems.Pairs]) -> list[Test]:
    """The paired comparisons of a family of pairs, corrected by Holm within it."""
    pairs = family(page)
    results = page.study.cached(("tests", family), lambda: page.study.compare(pairs))
    return [Test(*key, *pairs[key], result) for key, result in results.items()]


def comparisons(page: Page, family: Callable[[Page], systems.Pairs]) -> str:
    """Paired tests of a family, a row each; of forms also how many are clear for each thing that was changed."""
    rows, verdicts = [], {}
    for test in tests(page, family):
        difference, p_holm = test.result
        several = max(system.get("pretrainings") or 1 for system in (test.first, test.second))
        count = difference.seeds if test.first.get("probe") else several
        seeds = f"; {count} pretrainings" if count > 1 else "; one pretraining"
        seeds = seeds if page.study.name == "memes" and family is not systems.inputs else ""
        cells = [markdown.escape(readable(part)) for part in (test.name, test.where + seeds)]
        rows.append([*cells, tested(difference), p_value(p_holm), test.result.verdict])
        verdicts.setdefault(cells[0], []).append(test.result.verdict)
    table = page.table("tests", rows, about=NOTES[f"tests-{family.__name__}"])
    if family is not systems.forms or not rows:
        return table
    said = [f"{what}: {v.count('better')} better, {v.count('worse')} worse of {len(v)}" for what, v in verdicts.items()]
    return f"**Clear differences, of one pretraining each.** {'; '.join(said)}.\n\n{table}"


def single(page: Page) -> str:
    """The pairs of `systems.inputs`, each a mean of its seeds, by McNemar's and DeLong's tests; "" of groups."""
    rows = []
    for (name, _), pair in systems.inputs(page).items():
        means = [page.study.averaged(system) for system in pair]
        groups = page.study.predictions(pair[0]).groupby("id")["group"].first()
        if groups.nunique() < 0.99 * len(groups):
            continue
        p_values = {"accuracy": mcnemar(*((mean["guess"] == mean["label"]).to_numpy() for mean in means))}
        if "p_2" not in means[0]:
            p_values["auroc"] = delong(means[0]["label"].to_numpy(), *(mean["p_1"].to_numpy() for mean in means))
        tables = [mean.drop(columns="guess").assign(group=groups).reset_index() for mean in means]
        for score, p in p_values.items():
            difference = statistics.paired_difference(*tables, score)
            rows.append([markdown.escape(name), SCORES[score], tested(difference), p_value(p)])
    return page.table("single", rows)


def chosen(page: Page) -> str:
    """All scores of the systems that val picked."""
    return _scores(page, "chosen", [system for _, system in systems.named(page).values()], MORE)


def every(page: Page) -> str:
    """Figure and table of everything that was trained, chosen or not; of the same input the best on val first."""
    measure, dots = page.study.score, []
    rows = sorted(systems.shown(page), key=lambda s: (systems.title(s), -on_val(s, measure)))
    for system in rows:
        if systems.share(system) == 1:
            colour = plots.LANGUAGE_COLOURS.get(system["language"], plots.PALETTE[2])
            look = {"group": systems.title(system), "filled": system["chosen"], "colour": colour}
            label = _label(page, system).replace(", 100 % of labels", "")  # as all in the figure
            dots.append({"label": label, **look, **dot(page.study.interval(system))})
    if not dots:
        return ""
    chance, score = 100 * statistics.chance(page.study.predictions(rows[0]))[measure], SCORES[measure]
    figure = plots.forest(dots, f"{score} on test, % (95 % intervals; filled: chosen)", chance)
    image = page.figure("systems", figure, f"{score} of every system with its interval")
    return f"{image}\n\n{_scores(page, 'systems', rows, MORE[:1] if measure == 'auroc' else MORE[::5])}"


def _label(page: Page, system: dict) -> str:
    name = system["system"], systems.title(system)
    alike = [other for other in page.study.systems if (other["system"], systems.title(other)) == name]
    counts = [s["labels"] for s in page.study.systems if s["run"] == system["run"] and s.get("labels")]
    where = f"{counts[0]:,} labels" if page.study.name == "gap" and counts else system["run"]
    return readable(system["system"]) + (f" ({where})" if len(alike) > 1 else "")


def at_chance(page: Page, system: dict) -> bool:
    """Whether the interval of a system's score does not lie above naming the largest class, or guessing."""
    key = "chance", system["run"], system["system"]
    chance = page.study.cached(key, lambda: statistics.chance(page.study.predictions(system)))
    return page.study.interval(system).low <= chance[page.study.score]


def _scores(page: Page, caption: str, rows: list[dict], columns: tuple[str, ...]) -> str:
    """A row for each system; what chance reaches is marked."""
    measure, cells = page.study.score, []
    columns = [column for column in columns if column != measure]
    for system in rows:
        interval, chance = page.study.interval(system), at_chance(page, system)
        label, title = _label(page, system), systems.title(system)
        label = label if label.startswith(title) else f"{title}: {label}"
        link = page.record(system["run"], label) + (" (= chance)" if chance else "")
        what, picked = markdown.escape(systems.description(page, system)), "yes" if system["chosen"] else ""
        test = f"{spread(system['test'][measure])} {span(interval).partition(' ')[2]}"
        others = [spread(system["test"][column]) for column in columns]
        cells.append([link, what, picked, spread(system["val"][measure]), test, *others])
    names = [column.replace("f1", "F1").replace("_", " ").capitalize() for column in columns]
    head = markdown.table(["System", "What it is", "Chosen", "Val", "Test", *names], [], slice(3, None))
    return page.table(caption, cells, head=head)


def shares(page: Page) -> str:
    """The score over the share of labels, a figure for each run that has several."""
    images, score = [], SCORES[page.study.score]
    trained = [s for s in page.study.systems if s.get("share") and not s.get("reference")]  # references: all labels
    for run, group in groupby(trained, key=lambda system: system["run"]):
        rows = []
        for system in group:
            look = {"label": readable(system["start"]), "share": 100 * system["share"], "look": page.look(system)}
            rows.append(look | dot(page.study.interval(system)))
        if len({row["share"] for row in rows}) > 1:
            figure = plots.step_curves(rows, "share", "share of the labels, %", f"{score} on test, %", chance=50)
            images.append(page.figure(f"shares-{run}", figure, f"{score} over the share of labels, run {run}"))
    return "Mean over seeds with 95 % interval.\n\n" + "\n".join(images) if images else ""


def learned(page: Page) -> str:
    """Each pretrained encoder by neighbours and by a linear probe, with its effective rank; then the paired tests."""
    probed, rows = systems.probed(page), []
    for run, record in page.study.records.items():
        for encoder, epoch in {s["encoder"]: s.get("kept") for s in record["systems"] if s.get("probe")}.items():
            pair = [probed.get((run, encoder, probe)) for probe in systems.PROBES]
            link = page.record(run, f"{readable(encoder)} ({run})") + ("" if pair[-1] else " **FAILED**")
            scores = [span(system and page.study.interval(system)) for system in pair]
            probes = [row for row in record["extra"].get("probes", []) if row["encoder"] == encoder]
            ranks = [row["effective_rank"] for row in probes if row["split"] == "test"]
            rank = f"{sum(ranks) / len(ranks):.1f}" if ranks else "–"
            rows.append([link, markdown.escape(epoch or "–"), *scores, rank])
    runs = [record for record in page.study.records.values() if record["extra"].get("probes")]
    data = {f"{record['data']['name']}, {len(record['classes'])} classes" for record in runs}
    table = page.table("learned", rows, data=markdown.escape(readable("; ".join(sorted(data)))))
    return f"{table}\n\n{comparisons(page, systems.pretraining)}"


def classes(page: Page) -> str:
    """F1 of each class, a table for each list of classes."""
    columns: dict[tuple, list] = {}
    for title, system in systems.named(page).values():
        seeds, names = page.study.predictions(system).groupby("seed"), tuple(system["classes"])
        matrices = np.stack([confusion_counts(rows, len(names)) for _, rows in seeds])  # (S, K, K)
        hits, both = np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(1) + matrices.sum(2)
        start = [["Class", *map(markdown.escape, names)], ["Examples", *map("{:,}".format, matrices[0].sum(1))]]
        f1 = map(percent, (2 * hits / np.maximum(both, 1)).mean(0))
        columns.setdefault(names, start).append([markdown.escape(title), *f1])
    tables = [list(zip(*table, strict=True)) for table in columns.values()]
    return "\n\n".join(page.table("classes", rows, head=markdown.table(head, [])) for head, *rows in tables)


def published(page: Page) -> str:
    """What others published on the same data sets."""
    names = dict.fromkeys(f"published-{record['data'].get('name')}" for record in page.study.records.values())
    return "\n\n".join(NOTES[name] for name in names if name in NOTES)
