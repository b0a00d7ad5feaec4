"""Blocks on examples and on runs: errors, parts of the test split, use of both inputs, collapse, retrieval."""

import re
from collections import Counter
from functools import partial
from itertools import chain, zip_longest

import pandas as pd

from mmutils import statistics
from mmutils.report import markdown, plots, systems
from mmutils.report.explorer import examples, small_picture
from mmutils.report.page import LANGUAGES, NOTES, SCORES, Page, dot, percent, points, readable, recorded, span, tested
from mmutils.report.tables import at_chance

RESCUED = 8  # examples that are shown
AUDITED = {"id": "ids", "group": "groups", "text": "texts", "picture": "pairs of near-identical pictures"}
RIGHT = {(True, True): "both", (True, False): "text", (False, True): "picture", (False, False): "neither"}
NETWORKS = ("encoder", "image_encoder", "text_encoder", "cnn", "vit")  # parameters of notebooks
CHANCE = {"color": plots.GREY, "dashes": (4, 3)}
WATCHED = {"loss", "agreement", "teacher_entropy", *(f"effective_rank_{w}" for w in ("image", "teacher", "cnn", "vit"))}


def counts(page: Page) -> str:
    """The sizes of the splits; of an audit, the examples of each class, and what is there twice or in two splits."""
    sizes, tables, networks = {}, [], {}
    for record in (record for record in page.study.records.values() if record["data"]):  # none of a run that failed
        splits = record["data"]["splits"].items()
        size = ", ".join(f"{size:,} {split}" for split, size in splits) or "none"
        sizes.setdefault(record["data"]["name"], {}).setdefault(size, record["run"])
        networks |= {record["parameters"][key]: None for key in NETWORKS if record["parameters"].get(key)}
        named = (name for s in record["systems"] if s.get("start") for name in systems.networks(page, s))
        networks |= {name.split(",")[0]: None for name in named}  # without the size of pictures
        for audit in [*record["extra"].get("audit", {}).values()][:1]:  # the same in all languages
            name, *splits = (key for key in audit["counts"][0] if key in ("index", "label", "train", "val", "test"))
            names = [markdown.escape(str(row[name]).replace("_", " ")) for row in audit["counts"]]
            counted = [[f"{row[split]:,}" for split in splits] for row in audit["counts"]]
            rows = [[name, *cells] for name, cells in zip(names, counted, strict=True)]
            repeated = {}
            for kind in ("leaks", "duplicates"):
                values = sum((Counter({row["what"]: row["values"]}) for row in audit[kind]), Counter())
                repeated[kind] = ", ".join(f"{n:,} {AUDITED[what]}" for what, n in values.items()) or "nothing"
            tables.append(page.table("examples", rows, head=markdown.table(["Class", *splits], []), **repeated))
    said = [
        f"{size} ({name}{f', run {run}' if number else ''})"  # the first is what most runs have
        for name, counted in sizes.items()
        for number, (size, run) in enumerate(counted.items())
    ]
    said = f"{'; '.join(said)}. Networks: {', '.join(dict.fromkeys(map(readable, networks))) or 'none'}."
    return "\n\n".join([markdown.escape(readable(said)), *tables]) if sizes else ""


def errors(page: Page) -> str:
    """How often both inputs together are right, by which of text and picture alone is; and the examples they rescue."""
    best, parts = systems.kinds(page), []
    for (inputs, language), system in best.items():
        three = [s for s in (best.get(("text", language)), best.get(("image", None)), system) if s]
        if inputs != "image+text" or len(three) < 3 or any(map(partial(at_chance, page), three[:2])):
            continue
        means = [page.study.averaged(s) for s in three]
        correct = [mean["guess"] == mean["label"] for mean in means]
        right = pd.concat(correct, axis=1, join="inner", keys=["text", "picture", "both"])
        rows, shares = [], {}
        for (text, picture), name in RIGHT.items():
            hits = right["both"][(right["text"] == text) & (right["picture"] == picture)]
            ends = statistics.wilson(hits.mean(), len(hits)) if len(hits) else None
            shares[name] = span(ends and statistics.Interval(hits.mean(), *ends, groups=0, seeds=0))
            rows.append([NOTES[f"right-{name}"], f"{len(hits):,}", shares[name]])
        won, lost = right.index[right["both"] & ~right["text"]], right["text"] & ~right["both"]
        counts = {"language": markdown.escape(LANGUAGES.get(language, language)), "won": len(won), "lost": lost.sum()}
        names = [markdown.escape(readable(s["system"])) for s in three]
        parts += [NOTES["errors-found"].format(**counts, **shares), page.table("errors", rows, names=names)]
        parts += [_rescued(page, means[0], means[2], won, system)]
    return "\n\n".join(filter(None, parts))


def _rescued(page: Page, text: pd.DataFrame, both: pd.DataFrame, won: pd.Index, system: dict) -> str:
    """The examples whose true class gains most, where they come with the package: licences of others differ."""
    truths = [f"p_{label}" for label in text["label"][won]]
    gains = [float(both.loc[i, p]) - float(text.loc[i, p]) for i, p in zip(won, truths, strict=True)]
    rows, spoken = [], {code: examples(page, system["run"], code) for code in LANGUAGES} if page.study.built_in else {}
    for name in pd.Series(gains, won, dtype=float).nlargest(RESCUED).index if spoken else ():
        cells = [markdown.escape(table.loc[name, "text"]) for table in spoken.values()]
        for means in (text, both):
            guess = means.loc[name, "guess"]
            cells.append(f"{markdown.escape(system['classes'][guess])} ({means.loc[name, f'p_{guess}']:.2f})")
        rows.append([small_picture(page, name, spoken["en"].loc[name, "image"]), *cells])
    return page.table("rescued", rows)


def slices(page: Page) -> str:
    """Accuracy by the ways in which a notebook has cut the test split."""
    parts = []
    for run, record in page.study.records.items():
        for kind, cuts in record["extra"].get("slices", {}).items():
            names = [markdown.escape(cut["slice"].replace("_", " ")) for cut in cuts]
            rows = [[n, f"{c['examples']:,}", span(_accuracy(c))] for n, c in zip(names, cuts, strict=True)]
            link = page.record(run, f"Accuracy by {kind}")
            parts.append(page.table("slices", rows, kind=markdown.escape(kind.capitalize()), link=link))
    return "\n\n".join(parts)


def _accuracy(cut: dict) -> statistics.Interval:
    """That of a part of test; Wilson's interval where all is right or all wrong: no resample then differs."""
    if cut["score"] not in (0, 1):
        return recorded(cut, "score")
    return statistics.Interval(cut["score"], *statistics.wilson(cut["score"], cut["examples"]), groups=0, seeds=0)


def failures(page: Page) -> str:
    """A list of the runs and of the single trainings that failed or collapsed."""
    records = page.study.records
    lines = [f"run `{r}` failed: {markdown.escape(x['reason'])}" for r, x in records.items() if x["status"] != "ok"]
    for run, failed in ((run, failed) for run, record in records.items() for failed in record["failed"]):
        system, reason = markdown.escape(failed["system"]), markdown.escape(failed["reason"])
        lines.append(f"run `{run}`, {system}, seed {failed['seed']}, failed: {reason}")
    return "\n".join(f"- {line}" for line in lines)


def modality_use(page: Page) -> str:
    """Bars and a table for each system of which every text was read with every picture; and what follows from it."""
    parts, dots, noise, score = [], [], [], SCORES[page.study.score]
    chance = 50 if score == "AUROC" else None
    for run, record in page.study.records.items():
        for system, rows in record["extra"].get("modality_use", {}).items():
            title = f"{readable(system)} ({run})"
            values = {row["model"]: recorded(row, "score") for row in rows}
            changes = {row["model"]: recorded(row, "change", "change_", row["p_value"]) for row in rows}
            dots += [{"label": m, "group": title, "filled": m == "full", **dot(value)} for m, value in values.items()]
            cells = [[markdown.escape(m), span(values[m]), "–" if m == "full" else tested(changes[m])] for m in values]
            value, change = values["additive"], changes["additive"]
            kind = "unclear" if 0 in change else "chance" if chance and 0.5 in value else "clear"
            said = NOTES[f"additive-{kind}"].format(score=score, value=span(value), change=points(change.estimate))
            table = page.table("modalities", cells, link=page.record(run, title))
            parts += [f"**{markdown.escape(title)}.** {said}", table]
        for system, rows in record["extra"].get("noise", {}).items():
            label = f"{readable(system)} ({run}), noise on the "
            noise += [{"label": label + r["side"], "level": r["level"], **dot(recorded(r, "score"))} for r in rows]
    if not parts:
        return ""
    figure = plots.forest(dots, f"{score}, % (95 % intervals)", chance)
    image = page.figure("modalities", figure, f"{score} of whole, additive and shuffled models")
    parts = [NOTES["used"], image, *parts]
    if noise:
        figure = plots.step_curves(noise, "level", "noise, standard deviations of the features", f"{score}, %", chance)
        parts += [NOTES["noise"], page.figure("noise", figure, f"{score} under noise on picture or text")]
    return "\n\n".join(parts)


def collapse(page: Page) -> str:
    """What was watched over the epochs of each pretraining, with all its forms side by side."""
    parts = []
    for run, record in page.study.records.items():
        history = record["history"] if record["extra"].get("probes") else []
        chance = [(f"chance, {row['loss_chance']:.2f}", row) for row in history if "loss_chance" in row]
        looks = {name: CHANCE for name, _ in chance}  # a line for each value: forms with another loss have another
        history = [row | {"system": readable(row["system"])} for row in history]
        history += [{"system": name, "epoch": row["epoch"], "loss": row["loss_chance"]} for name, row in chance]
        table = pd.DataFrame(history).rename(columns=lambda name: readable(re.sub("^knn_", "neighbours, ", name)))
        watched = [name for name in table if name in WATCHED or name.startswith("neighbours, ")]
        groups = {group: [name for name in watched if name.startswith(group)] for group in ("neighbours", "effective")}
        limits = {name: (0, 1.05 * table[names].max(axis=None)) for names in groups.values() for name in names}
        groups = [[name for name in watched if name not in limits], *groups.values()]  # a column of panels for each
        if groups := [names for names in groups if names]:
            name, about = systems.method(record), ", ".join(watched).replace("_", " ")
            figure = plots.curves(table, (*chain(*zip_longest(*groups)),), len(groups), limits, looks)
            image = page.figure(f"pretraining-{run}", figure, f"{about} over the epochs, {name}, run {run}")
            note = "" if any(part.startswith((f"**{name},", f"**{name} ")) for part in parts) else NOTES.get(name, "")
            parts += [f"**{markdown.escape(_pretrained(record))}**. {note}", image]
    return "\n\n".join(parts)


def _pretrained(record: dict) -> str:
    """A run by its method, its network where it has one only, and its name."""
    what = systems.method(record), readable(record["parameters"].get("image_encoder", ""))
    return f"{', '.join(filter(None, what))} ({record['run']})"


def retrieval(page: Page) -> str:
    """CLIP: in what share of the cases the partner is among the first 1, 5 or 10; and the pictures for a text."""
    rows, answers = [], []
    for run, record in page.study.records.items():
        name = _pretrained(record)
        for language, shares in record["extra"].get("retrieval", {}).items():
            for way, words in (("text_to_image", "picture for a text"), ("image_to_text", "text for a picture")):
                label = page.record(run, f"{name}, {LANGUAGES.get(language, language) or 'texts'}: {words}")
                recalls = [percent(shares[f"{way}_r{k}"]) for k in (1, 5, 10)]
                level = " / ".join(percent(k / shares["candidates"]) for k in (1, 5, 10))
                rows.append([label, *recalls, f"{shares['candidates']:,}", level])
        queries = record["extra"].get("queries", {}) if page.study.built_in else {}
        shown = examples(page, run, "en") if queries else {}
        values = record["parameters"]
        hindi = values.get("text_encoder") or "hi" in values.get("languages", ())  # whether it has read any
        for query, ids in ((q, i) for q, i in queries.items() if hindi or not re.search("[\u0900-\u097f]", q)):
            images = [small_picture(page, i, *shown.loc[i, ["image", "text"]]) for i in ids]
            answers.append([markdown.escape(f"{name}: {query}"), *images])
    head = markdown.table(["Text", *map(str, range(1, max(map(len, answers), default=1)))], [], slice(0))
    return f"{page.table('retrieval', rows)}\n\n{page.table('queries', answers, head=head)}"
