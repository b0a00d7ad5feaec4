"""What pretraining learned, from the records of the pretraining notebooks: probes, curves, retrieval.

Their encoders are called "<form>, <network>", beside "random, <network>" or "before, <network>", the same network
before training; each is two systems, one per probe. `extra["probes"]` has scores and rank of collapsed encoders too.
"""

import re
from itertools import groupby

import pandas as pd

from mmutils import statistics
from mmutils.report import diagnostics, markdown, plots
from mmutils.report.sections import LANGUAGES, Page, between, compared, percent

PROBED = ["Encoder", "Neighbours", "Gain", "p, Holm", "Linear probe", "Gain", "p, Holm", "Rank"]
PROBES = {"knn": "neighbours", "linear": "linear probe"}
BEFORE = ("random, ", "before, ")
RESAMPLES = 2_000  # there are many tests; p-values are then at least .001
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
    tests, rows, kept = gains(page), [], _kept(page)
    for run, record in _records(page).items():
        probed = pd.DataFrame(record["extra"]["probes"]).query("split == 'test'").groupby("encoder")
        ranks = probed["effective_rank"].mean()
        for encoder in dict.fromkeys(system["encoder"] for system in record["systems"]):
            label = f"{encoder} ({run})" if encoder.startswith(BEFORE) else encoder
            if len(set(kept.values())) > 1 and (run, encoder) in kept:
                label += f", {kept[run, encoder]}"
            cells = [page.record(run, label)]
            for probe in PROBES:
                system = _system(page, run, encoder, probe)
                cells += [_score(page, system), *_gain(tests.get((run, encoder, probe)))]
            cells[0] += "" if system else " **FAILED**"
            rows.append([*cells, f"{ranks[encoder]:.1f}" if encoder in ranks else "–"])
    caption = (
        "AUROC on test (each class against the rest), percent, mean over seeds with 95 % interval, of the 20 nearest "
        "neighbours and of a linear probe on frozen features; gain over the same network before training, in points, "
        "paired, with Holm's correction over the table; effective rank of the features. FAILED: collapsed or diverged, "
        "in no mean and no test."
    )
    if len(set(kept.values())) == 1:
        caption += f" Kept of each pretraining: {markdown.escape(next(iter(kept.values())))}."
    return f"### What pretraining learned\n\n{page.table(caption, PROBED, rows)}" if rows else ""


def _kept(page: Page) -> dict[tuple[str, str], str]:
    """By run and encoder which epoch of its pretraining was kept, where the record says so."""
    return {
        (run, system["encoder"]): system["kept"]
        for run, record in _records(page).items()
        for system in record["systems"]
        if system.get("kept") and not system["encoder"].startswith(BEFORE)
    }


def gains(page: Page) -> dict[tuple[str, str, str], statistics.Comparison]:
    """By run, encoder and probe: the gain in AUROC over the network before training."""
    pairs = {}
    for system in page.study.systems:
        if "probe" in system and not system["encoder"].startswith(BEFORE):
            run, probe = system["run"], system["probe"]
            starts = [_system(page, run, f"{start}{_branch(system)}", probe) for start in BEFORE]
            if any(starts):
                pairs[run, system["encoder"], probe] = system, starts[0] or starts[1]
    return page.study.cached(("gains",), lambda: page.study.compare(pairs, "auroc", RESAMPLES))


def _branch(system: dict) -> str:
    return system["encoder"].rsplit(", ", 1)[-1]


def _system(page: Page, run: str, encoder: str, probe: str) -> dict | None:
    key = (run, encoder, probe)
    return next((s for s in page.study.systems if (s["run"], s.get("encoder"), s.get("probe")) == key), None)


def _score(page: Page, system: dict | None) -> str:
    if not system:
        return "–"
    interval = page.study.interval(system, "auroc", RESAMPLES)
    return f"{percent(interval.estimate)} {between(interval.low, interval.high)}"


def _gain(test: statistics.Comparison | None) -> list[str]:
    if not test:
        return ["–", "–"]
    estimate, interval, _, p_holm, verdict = compared(test)
    return [f"**{estimate} {interval}**" if verdict == "better" else f"{estimate} {interval}", p_holm]


def _records(page: Page) -> dict[str, dict]:
    """The pretraining runs that went well."""
    return {run: record for run, record in page.study.records.items() if record["extra"].get("probes")}


def method(record: dict) -> str:
    """The method of a pretraining run."""
    return next((s["method"] for s in record["systems"] if s["method"] not in ("random", "before")), "")


def ablation(page: Page) -> str:
    """Forms of a method that differ in one thing only, compared in pairs; and the advice that follows from it."""
    pairs = {}
    for run, record in _records(page).items():
        forms = _forms(page, run, record)
        for k, (new, systems) in enumerate(forms):
            for old, others in forms[:k]:
                if change := _change(old, new):
                    pairs |= {(change, *key): (systems[key], others[key]) for key in systems if key in others}
    if not pairs:
        return ""
    rows, verdicts = [], {}
    for (change, branch, probe), comparison in page.study.compare(pairs, "auroc", RESAMPLES).items():
        change = markdown.escape(change)
        estimate, interval, _, *cells = compared(comparison)
        rows.append([change, markdown.escape(f"{branch}, {probe}"), estimate, interval, *cells])
        verdicts.setdefault(change, []).append(comparison.verdict)
    caption = (
        "CASS-MM: what changes when one thing is changed; paired differences in AUROC on test, points, 95 % intervals, "
        "of neighbours and of a linear probe on each branch; Holm's correction over the table; one pretraining each."
    )
    header = ["Changed", "Branch and probe", "Difference", "95 % interval", "p, Holm", "Verdict"]
    return f"### What matters in CASS-MM\n\n{_advice(verdicts)}\n\n{page.table(caption, header, rows, slice(2, 5))}"


def _advice(verdicts: dict[str, list[str]]) -> str:
    """What is clear for at least one branch and probe, and how often."""
    clear = [
        f"{change} is {word} ({words.count(word)} of {len(words)} differences are clear)"
        for change, words in verdicts.items()
        for word in ("better", "worse")
        if word in words
    ]
    unclear = [change for change, words in verdicts.items() if set(words) == {"inconclusive"}]
    said = f"**Advice.** {'; '.join(clear)}." if clear else "**No advice:** no difference is clear."
    return f"{said} Nothing can be said of: {'; '.join(unclear)}." if unclear else said


def _forms(page: Page, run: str, record: dict) -> list[tuple[dict, dict[tuple[str, str], dict]]]:
    """The settings of each form of a run, and its systems by branch and probe; in their order, without failed ones."""
    systems = [s for s in page.study.systems if s["run"] == run and _variant(s, record)]
    forms = groupby(systems, key=lambda system: _variant(system, record))
    return [(variant, {(_branch(s), PROBES[s["probe"]]): s for s in form}) for variant, form in forms]


def _variant(system: dict, record: dict) -> dict | None:
    """The settings that tell a form from the others of its run; None for networks before training."""
    if "variant" in system:
        return system["variant"]
    # records before the variant field
    for cure, text, views, hidden in record["parameters"].get("variants", ()):
        form = "CASS-MM as published" if cure == "none" else f"CASS-MM {cure}"
        if system["encoder"].startswith(f"{form}, {text} text, {views}, {100 * hidden:.0f} % hidden, "):
            return {"cure": cure, "text_encoders": text, "views": views, "hidden_sides": hidden}
    return None


def _change(old: dict, new: dict) -> str:
    """What differs between two forms, where that is one thing; else empty."""
    changed = [key for key in old.keys() | new.keys() if new.get(key) != old.get(key)]
    if len(changed) != 1:
        return ""
    after, before = (_setting(variant[changed[0]]) for variant in (new, old))
    return f"{changed[0].replace('_', ' ')}: {after} instead of {before}"


def _setting(value: str | float) -> str:
    words = {"none": "as published", "plain": "unchanged pictures", "two": "two views", "same": "one view"}
    return words.get(value, value) if isinstance(value, str) else f"{100 * value:.0f} %"


def collapse(page: Page) -> str:
    """Loss or agreement, effective rank, and neighbours over the epochs, all forms of a method side by side."""
    parts = []
    for run, record in _records(page).items():
        name, table = method(record), pd.DataFrame(record["history"])
        nearest = {column: f"knn {column[4:].split('_')[0]}" for column in table if column.startswith("knn_")}
        table = table.rename(columns=nearest)
        columns = [column for column in WATCHED.get(name, AGREEMENT) if column in table]
        columns += list(nearest.values()) if name == "CASS-MM" else []
        images = []
        for column in columns:
            shown = [table]
            if column == "loss" and "loss_chance" in table:
                chance = table.groupby("epoch", as_index=False)["loss_chance"].mean()
                shown.append(chance.rename(columns={"loss_chance": "loss"}).assign(system="chance", seed=0))
            title, file = column.replace("_", " "), re.sub(r"\W", "-", f"memes-{run}-{column}")
            figure = plots.curves(pd.concat(shown), (column,), title)
            images.append(page.figure(file, figure, f"{title} over the epochs, {name}"))
        if images:
            parts += [f"**{markdown.escape(name)}**. {NOTES.get(name, '')}".strip(), "\n".join(images)]
    return "### Did it collapse?\n\n" + "\n\n".join(parts) if parts else ""


def retrieval(page: Page) -> str:
    """CLIP: in what share of the cases the partner is among the first 1, 5 or 10; and the pictures for a text."""
    rows, answers = [], []
    for run, record in page.study.records.items():
        extra = record["extra"]
        for language, shares in extra.get("retrieval", {}).items():
            for way, words in (("text_to_image", "picture for a text"), ("image_to_text", "text for a picture")):
                label = page.record(run, f"{run}, {LANGUAGES.get(language, language) or 'texts'}: {words}")
                recalls = [percent(shares[f"{way}_{name.lower().replace('@', '')}"]) for name in RECALLS]
                level = " / ".join(percent(int(name[2:]) / shares["candidates"]) for name in RECALLS)
                rows.append([label, *recalls, f"{shares['candidates']:,}", level])
        if page.study.built_in:
            answers += _answers(page, record["data"]["name"], extra.get("queries", {}))
    if not rows:
        return ""
    caption = "Test split, last seed: percent of the cases in which the partner is among the first 1, 5, 10."
    text = f"### Retrieval\n\n{page.table(caption, ['Looked for', *RECALLS, 'Candidates', 'At chance'], rows)}"
    if not answers:
        return text
    caption = "The pictures of test that are nearest to a text which is no picture's name, best first."
    header = ["Text", *map(str, range(1, max(map(len, answers))))]
    return f"{text}\n\n{page.table(caption, header, answers, slice(0))}"


def _answers(page: Page, name: str, queries: dict[str, list[str]]) -> list[list[str]]:
    """A row for each query: its text and the pictures of the examples that are nearest to it."""
    paths = diagnostics.examples_by_id(page, name, "en")["image"] if queries else {}
    return [
        [markdown.escape(query), *(diagnostics.picture(page, example, paths[example]) for example in examples)]
        for query, examples in queries.items()
    ]
