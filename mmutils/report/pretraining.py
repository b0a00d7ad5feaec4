"""What pretraining learned, from the records of the pretraining notebooks: probes, curves, retrieval.

Their encoders are called "<form>, <network>", beside "random, <network>" or "before, <network>", the same network
before training; each is two systems, one per probe. `extra["probes"]` has scores and rank of collapsed encoders too.
"""

import re
from itertools import groupby

import pandas as pd

from mmutils.report import diagnostics, markdown, plots
from mmutils.report.cells import between, compared, percent
from mmutils.report.sections import LANGUAGES, NOTES, Page

PROBES = {"knn": "neighbours", "linear": "linear probe"}
BEFORE = ("random, ", "before, ")
WATCHED = {"CLIP": ("loss", "effective_rank_image"), "DINO": ("loss", "teacher_entropy", "effective_rank_teacher")}
AGREEMENT = ("agreement", "effective_rank_cnn", "effective_rank_vit")  # CASS and CASS-MM
SETTINGS = {"none": "as published", "plain": "unchanged pictures", "two": "two views", "same": "one view"}


def _records(page: Page) -> dict[str, dict]:
    return {run: record for run, record in page.study.records.items() if record["extra"].get("probes")}


def learned(page: Page) -> str:
    """Each pretrained encoder against the same network before training, by neighbours and by a linear probe."""
    probed = {(s["run"], s["encoder"], s["probe"]): s for s in page.study.systems if "probe" in s}
    pairs, rows = {}, []
    for (run, encoder, probe), system in probed.items():
        starts = [probed.get((run, before + encoder.split(", ")[-1], probe)) for before in BEFORE]
        if any(starts) and not encoder.startswith(BEFORE):
            pairs[run, encoder, probe] = system, starts[0] or starts[1]
    tests, records = page.study.compare(pairs), _records(page)
    trained = [s for r in records.values() for s in r["systems"] if not s["encoder"].startswith(BEFORE)]
    kept = {system["kept"] for system in trained if system.get("kept")}  # epochs, such as "last epoch"
    for run, record in records.items():
        probes = pd.DataFrame(record["extra"]["probes"]).query("split == 'test'")
        ranks = probes.groupby("encoder")["effective_rank"].mean()
        for encoder, epoch in {system["encoder"]: system.get("kept") for system in record["systems"]}.items():
            label = encoder if len(kept) == 1 or not epoch else f"{encoder}, {epoch}"
            label = f"{encoder} ({run})" if encoder.startswith(BEFORE) else label
            cells = [page.record(run, label) + ("" if (run, encoder, "linear") in probed else " **FAILED**")]
            for probe in PROBES:
                score, gain, p_holm = "–", "–", "–"
                if system := probed.get((run, encoder, probe)):
                    interval = page.study.interval(system)
                    score = f"{percent(interval.estimate)} {between(interval.low, interval.high)}"
                if test := tests.get((run, encoder, probe)):
                    *gain, _, p_holm, verdict = compared(test)
                    gain = f"**{' '.join(gain)}**" if verdict == "better" else " ".join(gain)
                cells += [score, gain, p_holm]
            rows.append([*cells, f"{ranks[encoder]:.1f}" if encoder in ranks else "–"])
    epoch = f" Kept of each pretraining: {markdown.escape(min(kept))}." if len(kept) == 1 else ""
    return f"### What pretraining learned\n\n{page.table('learned', rows, kept=epoch)}" if rows else ""


def method(record: dict) -> str:
    """The method of a pretraining run."""
    return next((s["method"] for s in record["systems"] if s["method"] not in ("random", "before")), "")


def ablation(page: Page) -> str:
    """Forms of a method that differ in one thing only, compared in pairs; and the advice that follows from it."""
    pairs = {}
    for run in _records(page):
        forms, systems = [], [(s.get("variant"), s) for s in page.study.systems if s["run"] == run]
        for variant, form in groupby((pair for pair in systems if pair[0]), key=lambda pair: pair[0]):
            by_probe = {(s["encoder"].split(", ")[-1], PROBES[s["probe"]]): s for _, s in form}
            for old, others in forms:
                if change := _change(old, variant):
                    pairs |= {(change, *key): (s, others[key]) for key, s in by_probe.items() if key in others}
            forms.append((variant, by_probe))
    if not pairs:
        return ""
    rows, verdicts = [], {}
    for (change, branch, probe), comparison in page.study.compare(pairs).items():
        change, (estimate, interval, _, p_holm, verdict) = markdown.escape(change), compared(comparison)
        rows.append([change, markdown.escape(f"{branch}, {probe}"), estimate, interval, p_holm, verdict])
        verdicts.setdefault(change, []).append(verdict)
    return f"### What matters in CASS-MM\n\n{_advice(verdicts)}\n\n{page.table('ablation', rows)}"


def _advice(verdicts: dict[str, list[str]]) -> str:
    clear, unclear = [], []
    for change, words in verdicts.items():
        decided = [word for word in ("better", "worse") if word in words]
        clear += [f"{change} is {word} ({words.count(word)} of {len(words)} differences are clear)" for word in decided]
        unclear += [] if decided else [change]
    said = f"**Advice.** {'; '.join(clear)}." if clear else "**No advice:** no difference is clear."
    return f"{said} Nothing can be said of: {'; '.join(unclear)}." if unclear else said


def _change(old: dict, new: dict) -> str:
    """What differs between two forms, where that is one thing; else empty."""
    changed = [key for key in old.keys() | new.keys() if new.get(key) != old.get(key)]
    if len(changed) != 1:
        return ""
    values = (variant[changed[0]] for variant in (new, old))
    after, before = (SETTINGS.get(v, v) if isinstance(v, str) else f"{100 * v:.0f} %" for v in values)
    return f"{changed[0].replace('_', ' ')}: {after} instead of {before}"


def collapse(page: Page) -> str:
    """Loss or agreement, effective rank, and neighbours over the epochs, all forms of a method side by side."""
    parts = []
    for run, record in _records(page).items():
        name, table, images = method(record), pd.DataFrame(record["history"]), []
        table = table.rename(columns=lambda column: re.sub("^knn_([^_]*).*", r"knn \1", column))
        nearest = [column for column in table if column.startswith("knn ") and name == "CASS-MM"]
        for column in [column for column in WATCHED.get(name, AGREEMENT) if column in table] + nearest:
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
        for language, shares in record["extra"].get("retrieval", {}).items():
            for way, words in (("text_to_image", "picture for a text"), ("image_to_text", "text for a picture")):
                label = page.record(run, f"{run}, {LANGUAGES.get(language, language) or 'texts'}: {words}")
                recalls = [percent(shares[f"{way}_r{k}"]) for k in (1, 5, 10)]
                level = " / ".join(percent(k / shares["candidates"]) for k in (1, 5, 10))
                rows.append([label, *recalls, f"{shares['candidates']:,}", level])
        queries = record["extra"].get("queries", {}) if page.study.built_in else {}
        paths = diagnostics.examples(page, run, "en")["image"] if queries else {}
        for query, examples in queries.items():
            answers.append([markdown.escape(query), *(diagnostics.picture(page, i, paths[i]) for i in examples)])
    if not rows:
        return ""
    parts = ["### Retrieval", page.table("retrieval", rows)]
    if answers:
        head = markdown.table(["Text", *map(str, range(1, max(map(len, answers))))], [], slice(0))
        parts.append(page.table("queries", answers, head=head))
    return "\n\n".join(parts)
