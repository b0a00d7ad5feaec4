"""The report, from made-up records: its numbers are those of the predictions, data never becomes markup, same bytes."""

import base64
import hashlib
import html.parser
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support, roc_auc_score, roc_curve

from mmutils import data, runs, statistics
from mmutils.report import answers, chosen, diagnostics, markdown, plots, questions, results, systems, tables
from mmutils.report import rendering as report
from mmutils.report.curves import threshold_curves
from mmutils.report.page import NOTES, Page, p_value, span
from mmutils.report.results import Study

CLASSES = ["Animals & Nature", "Food & Drink", "<b>People</b>"]
HOSTILE = "<script>alert(1)</script> | $x$ *y* [z](javascript:1) #चेतावनी"
KINDS = {
    "text-en": ("text", "en"),
    "text-hi": ("text", "hi"),
    "image": ("image", None),
    "fusion-en": ("image+text", "en"),
    "fusion-hi": ("image+text", "hi"),
}
SHIFT = {"text-en": 1.2, "text-hi": 0.5, "image": 0.8, "fusion-en": 2.4, "fusion-hi": 2.2}
LISTS = ("classes", "systems", "failed", "scores", "history")
EMPTY = dict.fromkeys(runs.KEYS) | {key: [] for key in LISTS} | {"schema": runs.SCHEMA, "status": "ok", "notebook": ""}
EMPTY |= {key: {} for key in ("parameters", "extra", "files", "needs", "environment")}
EXAMPLES = data.examples
USE = {"score": 0.6, "low": 0.5, "high": 0.7, "change": -0.1, "change_low": -0.2, "change_high": 0.1, "p_value": 0.5}
DATA = {"name": "emoji_topics", "fingerprint": "f", "splits": {}, "built_in": True}
PRINTS = {"notebook": "n", "files": {}}


def _examples(folder: Path, language: str, count: int) -> pd.DataFrame:
    words = {"en": "dog face", "hi": "कुत्ते का चेहरा क्षत्रिय"}[language]
    texts = [f"{words} {i}" for i in range(count - 1)] + [HOSTILE]
    pictures = []
    for i in range(count):
        pictures.append(str(folder / f"{i % 20}.png"))
        if i < 20:
            Image.new("RGBA", (40, 40), (12 * i, 90, 255 - 12 * i, 255)).save(pictures[-1])
    ids = [f"u{i:03}" for i in range(count)]
    return pd.DataFrame({"id": ids, "group": ids, "image": pictures, "text": texts, "label": np.arange(count) % 3})


def _predictions(strength: float, system: str, seeds: int, tables: dict[str, pd.DataFrame], generator) -> pd.DataFrame:
    parts = []
    for split, examples in tables.items():
        labels = examples["label"].to_numpy()
        classes = labels.max() + 1
        hard = generator.normal(size=(len(labels), classes))  # what all seeds find hard
        for seed in range(seeds):
            logits = strength * np.eye(classes)[labels] * 1.5 + hard + 0.3 * generator.normal(size=hard.shape)
            p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            table = examples[["id", "group", "label"]].assign(system=system, seed=seed, split=split)
            parts.append(table.assign(**{f"p_{k}": p[:, k].astype(np.float32) for k in range(classes)}))
    return pd.concat(parts, ignore_index=True)


def _scores(table: pd.DataFrame) -> list[dict]:
    rows = []
    for (system, seed, split), part in table.groupby(["system", "seed", "split"]):
        y, guess = part["label"], part.filter(regex="^p_").to_numpy().argmax(1)
        row = {"system": system, "seed": int(seed), "split": split, "accuracy": accuracy_score(y, guess)}
        for kind in ("macro", "weighted"):
            values = precision_recall_fscore_support(y, guess, average=kind)
            row |= {f"{name}_{kind}": float(x) for name, x in zip(("precision", "recall", "f1"), values, strict=False)}
        rows.append(row)
    return rows


def _write_run(folder: Path, name: str, tables: dict[str, pd.DataFrame], classes: list[str], seeds: int) -> None:
    kind = "image" if name.startswith("image") else name
    inputs, language = KINDS[kind]
    generator = np.random.default_rng(len(name))
    parts, systems = [], []
    for number, system in enumerate(("plain", "tuned")):
        parts.append(_predictions(SHIFT[kind] + 0.15 * number, system, seeds, tables, generator))
        what = {"system": system, "inputs": inputs, "language": language, "method": "supervised", "chosen": number == 1}
        systems.append(what | {"model": f"net {system}", "weights": "none", "trained": "all of it"})
    predictions = pd.concat(parts, ignore_index=True)
    history = [{"system": s["system"], "seed": seed, "epoch": e + 1, "loss": 1.1 / (e + 1 + seed / 9)}
               for s in systems for seed in range(seeds) for e in range(5)]  # fmt: skip
    place = folder / "runs" / name
    place.mkdir(parents=True)
    predictions.to_parquet(place / runs.PREDICTIONS)
    record = {
        "run": name,
        "study": "crisis",
        "classes": classes,
        "systems": systems,
        "data": DATA,
        "scores": _scores(predictions),
        "history": history,
        "fingerprints": PRINTS | {"predictions": runs.file_digest(place / runs.PREDICTIONS)},
    }
    (place / runs.RECORD).write_text(json.dumps(EMPTY | record))


def _write_audit(folder: Path, classes: list[str]) -> None:
    counts = [{"label": name, "train": 10, "val": 40, "test": 40} for name in classes]
    found = {"counts": counts, "leaks": [{"what": "text", "values": 7}], "duplicates": []}
    record = EMPTY | {"run": "data", "study": "crisis", "fingerprints": PRINTS}
    record |= {"classes": classes, "data": DATA, "extra": {"audit": {"en": found, "hi": found}}}
    (folder / "runs" / "data").mkdir(parents=True)
    (folder / "runs" / "data" / runs.RECORD).write_text(json.dumps(record))


def make_records(folder: Path, tables: dict[str, pd.DataFrame], classes: list[str], seeds: int = 3) -> None:
    _write_audit(folder, classes)
    for name in ("text-en", "text-hi", "fusion-en", "fusion-hi", "image-small"):
        _write_run(folder, name, tables, classes, seeds)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A report of five made-up runs, rendered once."""
    folder = tmp_path_factory.mktemp("report")
    pictures = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "examples", lambda name, root, split, language: _examples(pictures, language, 120))
        examples = data.examples("emoji", None, "test", language="en")
        make_records(folder, {"val": examples, "test": examples}, CLASSES)
        problems = []
        report.render(folder, problems=problems)
        assert problems == []
        yield folder


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_second_render_has_the_same_bytes(rendered):
    before = _bytes(rendered)
    for name in ("left-over.svg", "own.svg"):
        (rendered / "figures" / name).write_text("not of this report")
    with (rendered / "report.md").open("a") as text:
        text.write("![a figure of the report before](figures/left-over.svg)\n")
    report.render(rendered)
    (rendered / "figures" / "own.svg").unlink()  # what no report has drawn stays
    assert _bytes(rendered) == before
    drawn = {"gap", "systems", "loss", "confusion", "reliability"}
    assert {f"figures/1-{name}.svg" for name in drawn} <= set(before)


def test_table_holds_what_the_predictions_give(rendered):
    predictions = pd.read_parquet(rendered / "runs" / "text-en" / "predictions.parquet")
    rows = predictions[(predictions["system"] == "tuned") & (predictions["split"] == "test")]
    found = [
        f1_score(p["label"], p[["p_0", "p_1", "p_2"]].to_numpy().argmax(1), average="macro")
        for _, p in rows.groupby("seed")
    ]
    text = (rendered / "report.md").read_text()
    line = next(line for line in text.splitlines() if "| [Text, English: tuned](runs/text-en/" in line)
    assert "In two splits: 7 texts. More than once in a split: nothing." in text
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[5].startswith(f"{100 * np.mean(found):.1f} ± {100 * np.std(found, ddof=1):.1f} [")


def test_every_generated_table_begins_with_the_warning(rendered):
    text = (rendered / "report.md").read_text()
    blocks = re.findall(r"<!-- begin: [\w-]+ -->\n(.*?)<!-- end", text, re.DOTALL)
    for block in blocks:
        for before in re.findall(r"([^\n]*)\n\n\| [^\n]*\n\| [-:]", block):
            assert before.startswith("***Emoji data, not crisis tweets.**")


class _Reader(html.parser.HTMLParser):
    """Checks nesting, and collects what the page would load and what it shows."""

    EMPTY = {"meta", "img", "input", "br", "hr", "link"}

    def __init__(self):
        super().__init__()
        self.open, self.loads, self.links, self.ids = [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag not in self.EMPTY:
            self.open.append(tag)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag in ("img", "script", "link", "iframe", "source", "image", "use"):
            self.loads += [attributes[k] for k in ("src", "href", "xlink:href") if k in attributes]
        elif tag == "a":
            self.links.append(attributes["href"])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_whole_and_loads_nothing(rendered):
    page = (rendered / "report.html").read_text()
    reader = _Reader()
    reader.feed(page)
    assert not reader.open
    assert all(address.startswith(("data:", "#")) for address in reader.loads)
    assert "@import" not in page
    assert all(a.startswith(("data:", "#")) for a in re.findall(r"url\(([^)]+)\)", page))
    assert len(reader.ids) == len(set(reader.ids))
    assert all(link[1:] in reader.ids for link in reader.links if link.startswith("#"))
    assert len(page) < 3_000_000


def test_data_cannot_become_markup(rendered):
    page = (rendered / "report.html").read_text()
    assert "<script>alert" not in page
    assert "<b>People</b>" not in page
    assert "&lt;b&gt;People&lt;/b&gt;" in page
    shown = markdown.parser().render(markdown.table(["a", "b"], [[markdown.escape(HOSTILE), "1"]]))
    assert shown.count("<td") == 2
    assert "<script" not in shown
    assert "<a " not in shown
    assert "<em>" not in shown
    assert "math" not in shown


def test_pdf_has_pages(rendered):
    content = (rendered / "report.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 3


def test_two_runs_make_a_report_and_the_rest_is_not_run_yet(rendered, tmp_path):
    for name in ("text-en", "image-small"):
        shutil.copytree(rendered / "runs" / name, tmp_path / "runs" / name)
    text = report.render(tmp_path).with_suffix(".md").read_text()
    assert "*Not run yet: data, text-hi, fusion-en, fusion-hi, finetuning.*" in text
    assert "| [Text, English: tuned](runs/text-en/record.json)" in text
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def _memes_run(folder: Path, name: str, table: pd.DataFrame, systems: dict[str, tuple[float, dict]], **entries) -> None:
    """A run of the memes study: for each system how good it is, and what its description says beside the usual."""
    generator = np.random.default_rng(1)
    tables = {"val": table, "test": table}
    predictions = pd.concat(_predictions(s, k, 3, tables, generator) for k, (s, _) in systems.items())
    predictions = predictions[~predictions["system"].isin([f["system"] for f in entries.get("failed", ())])]
    rows = _scores(predictions)
    for row in rows:
        part = predictions.query("system == @row['system'] and seed == @row['seed'] and split == @row['split']")
        p = part.filter(regex="^p_").to_numpy(float)
        p = p / p.sum(1, keepdims=True)
        row["auroc"] = roc_auc_score(part["label"], p[:, 1] if p.shape[1] == 2 else p, multi_class="ovr")
    place = folder / "runs" / name
    place.mkdir(parents=True)
    predictions.to_parquet(place / runs.PREDICTIONS)
    usual = {"inputs": "image+text", "language": "en", "method": "supervised", "weights": "none", "trained": "head"}
    described = [usual | {"system": k, "model": k, "chosen": False} | more for k, (_, more) in systems.items()]
    record = EMPTY | {
        "run": name, "study": "memes", "systems": described, "scores": rows,
        "classes": [str(k) for k in range(table["label"].max() + 1)], "data": DATA | {"name": "emoji"},
        "fingerprints": PRINTS | {"predictions": runs.file_digest(place / runs.PREDICTIONS)},
    }  # fmt: skip
    (place / runs.RECORD).write_text(json.dumps(record | entries))


def make_memes_records(folder: Path, examples: pd.DataFrame, gain: float = 1.0) -> None:
    """CLIP, CASS (its published form collapsed), and fine-tuning from CLIP, which is better by `gain`."""
    row = {"seed": 0, "split": "test", "f1_macro": 0.4, "effective_rank": 1.2}
    images = {"inputs": "image", "language": None}
    for name, kept in (("clip", "CLIP, net"), ("cass", "CASS, variance, net")):
        method = name.upper()
        encoders, systems, failed = {"random, net": 0.2, kept: 1.0}, {}, []
        encoders |= {"CASS as published, net": 0.2} if name == "cass" else {}
        for encoder, strength in encoders.items():
            for probe in ("knn", "linear"):
                by = "random" if encoder.startswith("random") else method
                systems[f"{encoder}: {probe}"] = (strength, images | {"method": by, "encoder": encoder, "probe": probe})
                if "published" in encoder:
                    entry = {"system": f"{encoder}: {probe}", "reason": "collapsed: rank 1.2"}
                    failed += [entry | {"seed": seed} for seed in range(3)]
        probes = [row | {"encoder": e, "probe": kind} for e in encoders for kind in ("knn", "linear")]
        watched = {"loss": 1.0, "loss_chance": 2.0, "agreement": 0.1, "effective_rank_cnn": 2.0}
        history = [watched | {"system": s, "seed": 0, "epoch": e} for s in encoders for e in (1, 2, 3)]
        recalls = {f"{way}_r{k}": k / 20 for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)}
        extra = {"probes": probes}
        if name == "clip":
            extra |= {"retrieval": {"en": recalls | {"candidates": 120}}, "queries": {HOSTILE: ["u001", "u002"]}}
        parameters = {"image_encoder": "resnet", "size": 48, "cnn": "resnet", "cnn_size": 48, "vit": "vit"}
        _memes_run(folder, name, examples, systems, failed=failed, history=history, extra=extra, parameters=parameters)
    starts = {
        "random and e5": (0.0, "start:clip:image", "resnet", None),
        "random, ViT": (0.3, "start:cass:vit", "vit", None),
        "CLIP and e5": (1.0, "clip:image", "resnet", "random and e5"),
        "CASS and e5": (0.3, "cass:cnn", "resnet", "random and e5"),
        "CASS, ViT": (0.3, "cass:vit", "vit", "random, ViT"),
        "DINO": (0.2, "dino:unknown", "resnet", "random, ViT"),
        "packages": (1.0, "b0", "b0", None),
    }
    tuned = {}
    for start, (strength, model, network, baseline) in starts.items():
        for share in (0.1, 1.0):
            more = {"start": start, "share": share, "model": f"{model} and e5", "networks": [network, "e5"]}
            more["weights"] = f"{'random' if model.startswith('start') else 'package b0'}; package e5"
            more |= {"baseline": baseline, "labels": round(1200 * share), "val_labels": round(90 * share)}
            tuned[f"{start}, {100 * share:g} % of labels"] = ((0.1 + gain * strength) * (0.5 + share / 2), more)
    pairs = pd.concat([examples, examples.assign(id=examples["id"] + "b")])
    pairs["label"] = np.arange(len(pairs)) % 2
    _memes_run(folder, "finetuning", pairs.reset_index(drop=True), tuned)


@pytest.fixture(scope="module")
def memes(rendered, tmp_path_factory):
    """A report of the memes study alone, on the examples of the other report."""
    folder = tmp_path_factory.mktemp("memes")
    make_memes_records(folder, data.examples("emoji", None, "test", language="en"))
    report.render(folder)
    return folder


def test_pretraining_is_compared_with_the_same_network_untrained(memes):
    text = (memes / "report.md").read_text()
    table = pd.read_parquet(memes / "runs" / "finetuning" / "predictions.parquet").query("split == 'test'")
    means = {}
    for start in ("CLIP and e5", "random and e5"):
        rows = table[table["system"] == f"{start}, 100 % of labels"]
        means[start] = 100 * np.mean([roc_auc_score(p["label"], p["p_1"]) for _, p in rows.groupby("seed")])
    gain = f"{means['CLIP and e5'] - means['random and e5']:+.1f} ["
    first = text[: text.index("<!-- end: answers")]
    assert f"; the best of them on val, “CLIP and e5”, differs by {gain}" in first
    assert re.search(r"points with all labels \((not )?clear\)\. Each was pretrained once", first)
    assert "p =" not in first and "p <" not in first
    table = text.partition("### Pretrained or not")[2].partition("\n### ")[0]
    verdicts = re.findall(r"\| (?:all labels|10 % of the labels) \([^)]*\); one pretraining \|.*\| (\w+) \|\n", table)
    better, worse = map(verdicts.count, ("better", "worse"))
    assert better and not worse
    assert f"- **On emoji** **Sometimes:** in {better} of {len(verdicts)} comparisons a pretrained start" in first
    assert "inconclusive" in verdicts
    row = next(x for x in text.splitlines() if "CLIP and e5, 100 % of labels](runs/finetuning/record.json)" in x)
    assert f"| {means['CLIP and e5']:.1f} ± " in row and "; weights: CLIP, published |" in row
    assert "| CLIP and e5 – random and e5 | 10 % of the labels (120 of train, 9 of val); one pretraining |" in text
    assert "| CASS and e5 – random and e5 | all labels (1,200 of train, 90 of val); one pretraining |" in text
    assert "| CASS, ViT – random, ViT | all labels (" in text
    assert "| DINO – random, ViT (other networks) | all labels (" in text
    assert "packages – random and e5" not in text


def test_the_weights_of_a_start_say_what_pretrained_it(memes):
    page = Page(Study(memes, "memes"), draw=False)
    system = {"system": "s", "trained": "head", "start": "s", "networks": ["net"]}
    said = {
        ("clip:image and e5", "clip/image; package e5 1.0"): "CLIP, published",
        ("start:clip:image and e5", "random; package e5 1.0"): "untrained, published",
        ("start:clip:image and e5", "package net 1.0; package e5 1.0"): "published",
        ("random:clip:image and e5", "random; package e5 1.0"): "untrained, published",
        ("start:cass-mm:cnn", "random, package e5 1.0"): "published",
        ("net", "net: package net 1.0; e5: package e5 1.0"): "published",
    }
    for (model, weights), expected in said.items():
        told = systems.description(page, system | {"model": model, "weights": weights})
        assert told == f"net; trained: head; weights: {expected}"


def test_several_pretrainings_are_said_where_tests_stand(memes, tmp_path):
    shutil.copytree(memes / "runs", tmp_path / "runs")
    path = tmp_path / "runs" / "finetuning" / runs.RECORD
    record = json.loads(path.read_text())
    for system in record["systems"]:
        system["pretrainings"] = 5 if system["start"].startswith("CLIP") else 1
    path.write_text(json.dumps(record))
    page = Page(Study(tmp_path, "memes"), draw=False)
    table = tables.comparisons(page, systems.finetuning)
    assert "| all labels (1,200 of train, 90 of val); 5 pretrainings |" in table
    assert "; one pretraining |" in table and "Several: each seed has a pretraining of its own" in table
    assert "points with all labels (" in (said := questions.pretraining(page)) and "pretrained once" not in said


def test_a_page_that_another_process_writes_is_the_same(made, monkeypatch):
    monkeypatch.setattr(data, "examples", EXAMPLES)  # the fixture has put made-up data in its place
    folder, _ = made("smoke")
    records = [record for record in runs.load_records(folder / "runs") if record["study"] == "gap"]
    [here] = report.pages_of(folder, records)
    monkeypatch.setattr(report, "MANY", 0)
    [there] = report.pages_of(folder, records)
    assert (there.chapter, there.answer, there.made) == (here.chapter, here.answer, here.made)
    assert len(here.made) > 3 and "### Chosen systems" in here.chapter and here.answer[1]


def test_the_best_fine_tuned_system_is_named_with_its_scores(memes):
    page = Page(Study(memes, "memes"), draw=False)
    tuned = [system for system in page.study.systems if system.get("share") == 1]
    best = max(tuned, key=lambda system: system["val"]["auroc"].mean())
    auroc, accuracy = (f"{100 * best['test'][score].mean():.1f}" for score in ("auroc", "accuracy"))
    _, said, _ = questions.answer(page)
    about = f"“{best['start']}” ({' and '.join(best['networks'])}; trained: head), the best on val"
    assert f"**To use:** {about}" in said and f": AUROC {auroc} [" in said and f", accuracy {accuracy} %." in said


def test_every_failure_is_in_the_report_of_ones_own_runs(memes, tmp_path):
    """Of trainings, of runs, and of runs that failed before they had a data set; whatever chapter they belong to."""
    shutil.copytree(memes / "runs", tmp_path / "runs")
    early = EMPTY | {"run": "early", "status": "failed", "reason": "no | root", "data": {}, "fingerprints": PRINTS}
    late = early | {"run": "late", "reason": "out of memory", "study": "gap", "data": DATA | {"fingerprint": "other"}}
    for record in (early, late):
        (tmp_path / "runs" / record["run"]).mkdir()
        (tmp_path / "runs" / record["run"] / runs.RECORD).write_text(json.dumps(record))
    text = report.filled(tmp_path, "demo", alone=True, draw=False)[0]
    assert text.count("run `early` failed: no \\| root") == text.count("run `late` failed: out of memory") == 1
    assert text.count("CASS as published, net: knn, seed 2, failed: collapsed: rank 1.2") == 1


def test_threshold_curves_are_those_of_the_probabilities():
    generator = np.random.default_rng(0)
    rows = pd.DataFrame({"label": np.arange(60) % 2, "p_1": generator.random(60)})
    rows["p_0"] = 1 - rows["p_1"]
    roc, precision = threshold_curves(rows, ["good", "bad"]).axes
    expected = roc_curve(rows["label"], rows["p_1"])
    np.testing.assert_allclose(roc.lines[0].get_xydata().T, np.stack(expected[:2]))
    assert len(precision.lines) == 1 and "bad" in precision.get_legend().get_texts()[0].get_text()
    rows["p_2"], rows["label"] = 0.1, np.arange(60) % 3
    assert len(threshold_curves(rows, ["a", "b", "c"]).axes[0].lines) == 3


def test_collapsed_training_is_listed_and_in_no_test(memes):
    text = (memes / "report.md").read_text()
    assert "- run `cass`, CASS as published, net: knn, seed 2, failed: collapsed: rank 1.2" in text
    row = next(x for x in text.splitlines() if x.startswith("| [CASS as published, net (cass)]"))
    assert "**FAILED** | – | – | – | 1.2 |" in row
    assert "-pretraining-cass.svg" in text


def test_memes_tables_begin_with_the_warning_and_hold_no_markup(memes):
    text = (memes / "report.md").read_text()
    tables = re.findall(r"([^\n]*)\n\n\| [^\n]*\n\| [-:][^\n]*\n(?=\|[^\n]*(?:runs/| – |figures/))", text)
    assert len(tables) >= 4
    assert all(before.startswith("***Emoji data, not memes.**") for before in tables)
    page = (memes / "report.html").read_text()
    assert "<script>alert" not in page
    assert (memes / "report.pdf").read_bytes().startswith(b"%PDF")
    assert report.filled(memes, "report", draw=False)[0] == text


def test_readme_shows_the_second_answer(memes):
    markers = "# x\n<!-- begin: results -->\n<!-- end: results -->\n"
    text = report.readme(markers, (memes / "report.md").read_text())
    assert "- **On emoji** **Sometimes:**" in text and "**Asked: Does pretraining" in text


def test_pretraining_that_changes_nothing_is_not_clear(tmp_path):
    make_memes_records(tmp_path, _examples(tmp_path, "en", 60), gain=0.0)
    page = Page(Study(tmp_path, "memes"), draw=False)
    said = questions.pretraining(page)
    assert said.startswith("**Not clearly:** in none of 8 comparisons is")
    assert tables.every(page).count("(= chance)") >= 2


def test_without_memes_runs_there_is_one_line(rendered):
    text = (rendered / "report.md").read_text()
    assert text.count("Not run yet") == 1
    assert "fine-tuning and pretraining" not in text


def test_a_run_with_other_classes_is_left_out(rendered, tmp_path):
    shutil.copytree(rendered / "runs", tmp_path / "runs")
    path = tmp_path / "runs" / "text-en" / runs.RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": ["a", "b", "c"]}))
    with pytest.warns(UserWarning, match="run text-en is left out: its classes"):
        assert "text-en" not in Study(tmp_path, "crisis").records


def test_a_run_without_val_is_left_out(rendered, tmp_path):
    shutil.copytree(rendered / "runs" / "text-en", tmp_path / "runs" / "text-en")
    table = pd.read_parquet(tmp_path / "runs" / "text-en" / runs.PREDICTIONS)
    _change(tmp_path / "runs" / "text-en", table[table["split"] == "test"])
    path = tmp_path / "runs" / "text-en" / runs.RECORD
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"scores": [row for row in record["scores"] if row["split"] == "test"]}))
    with pytest.warns(UserWarning, match="text-en is left out: ValueError: it has no predictions on val"):
        assert not Study(tmp_path, "crisis").records


def test_the_prose_of_the_repository_s_report_stays_where_its_own_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "REPOSITORY", tmp_path)
    names = ("answers", "real", "emoji", "explorer", "notebooks")
    prose = "# Title\n\nProse.\n\n" + "\n".join(f"<!-- begin: {name} -->\n<!-- end: {name} -->" for name in names)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md").write_text(prose)
    assert "Prose." in report.render(tmp_path / "report", alone=True).with_suffix(".md").read_text()


def test_only_a_folder_with_runs_gets_a_report(tmp_path):
    command = [sys.executable, "-m", "mmutils.report", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "there is no folder runs in it" in done.stderr and not list(tmp_path.iterdir())


def test_no_run_at_all_makes_a_report(tmp_path):
    text = report.render(tmp_path).with_suffix(".md").read_text()
    assert "Not run yet" in text


def test_a_write_that_fails_leaves_the_report_as_it_was(rendered, monkeypatch):
    before = _bytes(rendered)

    def full(stream):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmutils.runs.files.os.fsync", full)
    with pytest.raises(OSError, match=r"(?i)no space"):
        report.render(rendered)
    assert _bytes(rendered) == before


def test_a_run_that_cannot_be_shown_is_left_out_and_the_others_are_shown(rendered, tmp_path):
    shutil.copytree(rendered / "runs", tmp_path / "runs")
    odd = {
        "text-en": {"history": [{"system": "plain", "loss": [1]}]},
        "fusion-en": {"systems": [{"system": "plain"}]},
    }
    for name, change in odd.items():
        path = tmp_path / "runs" / name / runs.RECORD
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    table = pd.read_parquet(tmp_path / "runs" / "text-hi" / runs.PREDICTIONS)
    table.loc[3, "p_0"] = np.nan
    _change(tmp_path / "runs" / "text-hi", table)
    with pytest.warns(UserWarning) as caught:
        study = Study(tmp_path, "crisis")
    assert list(study.records) == ["data", "fusion-hi", "image-small"]
    said = " ".join(str(warning.message) for warning in caught)
    assert all(f"run {name} is left out" in said for name in (*odd, "text-hi"))


def _change(folder: Path, table: pd.DataFrame) -> None:
    """Put other predictions into a run, which its record agrees with."""
    table.to_parquet(folder / runs.PREDICTIONS)
    record = json.loads((folder / runs.RECORD).read_text())
    record["fingerprints"]["predictions"] = runs.file_digest(folder / runs.PREDICTIONS)
    (folder / runs.RECORD).write_text(json.dumps(record))


def test_a_strange_extra_leaves_only_its_run_out_of_a_section(rendered, tmp_path):
    extras = {
        "fusion-en": {"modality_use": {"x": [{"model": "additive"}]}},
        "fusion-hi": {"modality_use": {HOSTILE: [USE | {"model": model} for model in ("full", "additive")]}},
    }
    for name, extra in extras.items():
        shutil.copytree(rendered / "runs" / name, tmp_path / "runs" / name)
        path = tmp_path / "runs" / name / runs.RECORD
        path.write_text(json.dumps(json.loads(path.read_text()) | {"extra": extra}))
    page = Page(Study(tmp_path, "crisis"), draw=False)
    text = report.chapter(page)
    assert "*Cannot be shown, Are both modalities used?: KeyError" in text and "### Chosen systems" in text
    assert page.problems[0].startswith("emoji, Are both modalities used?: KeyError")
    shutil.rmtree(tmp_path / "runs" / "fusion-en")
    text = diagnostics.modality_use(Page(Study(tmp_path, "crisis"), draw=False))
    assert "Without interaction macro F1 is 60.0" in text and "<script" not in text


def test_each_loss_has_its_own_line_of_chance(memes, tmp_path, monkeypatch):
    shutil.copytree(memes / "runs" / "cass", tmp_path / "runs" / "cass")
    path = tmp_path / "runs" / "cass" / runs.RECORD
    record = json.loads(path.read_text())
    for row in record["history"]:
        row["loss_chance"] = 4.852 if row["system"] == "CASS, variance, net" else 2.0
    path.write_text(json.dumps(record))
    drawn = []
    monkeypatch.setattr(plots, "curves", lambda *given, **_: drawn.append(given) or plots.new_figure(1, 1)[0])
    diagnostics.collapse(Page(Study(tmp_path, "memes"), draw=False))
    [(table, columns, across, limits, _)] = drawn
    chance = table[table["system"].str.startswith("chance")].groupby("system")["loss"].unique()
    assert {name: list(values) for name, values in chance.items()} == {"chance, 2.00": [2.0], "chance, 4.85": [4.852]}
    assert columns == ("loss", "effective_rank_cnn", "agreement", None) and across == 2  # a column for each scale
    assert list(limits) == ["effective_rank_cnn"]


def test_each_row_of_a_figure_stands_under_the_name_of_its_own_group():
    look = {"filled": True, "estimate": 1, "low": 0, "high": 2}
    rows = [{"label": f"row {number}", "group": group, **look} for number, group in enumerate("aba")]
    [axis] = plots.forest(rows, "x").axes
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["a", "row 0", "b", "row 1", "a", "row 2"]


def test_the_same_system_of_two_runs_is_two_groups_where_the_use_of_inputs_is_shown(rendered, tmp_path, monkeypatch):
    for name in ("fusion-en", "fusion-hi"):
        shutil.copytree(rendered / "runs" / name, tmp_path / "runs" / name)
        path = tmp_path / "runs" / name / runs.RECORD
        used = {"modality_use": {"both": [USE | {"model": model} for model in ("full", "additive")]}}
        path.write_text(json.dumps(json.loads(path.read_text()) | {"extra": used}))
    drawn = []
    monkeypatch.setattr(plots, "forest", lambda rows, *_: drawn.extend(rows) or plots.new_figure(1, 1)[0])
    text = diagnostics.modality_use(Page(Study(tmp_path, "crisis"), draw=False))
    assert [row["group"] for row in drawn] == ["both (fusion-en)"] * 2 + ["both (fusion-hi)"] * 2
    assert "**both (fusion-en).**" in text and "**both (fusion-hi).**" in text


def test_interaction_is_claimed_only_where_its_change_is_clear(memes, tmp_path):
    shutil.copytree(memes / "runs" / "finetuning", tmp_path / "runs" / "finetuning")
    path = tmp_path / "runs" / "finetuning" / runs.RECORD
    use = {"modality_use": {"weak": [USE | {"model": model} for model in ("full", "additive")]}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extra": use}))
    text = diagnostics.modality_use(Page(Study(tmp_path, "memes"), draw=False))
    assert "no sign that picture and text interact" in text and "lies in how" not in text


def test_runs_elsewhere_get_a_report_that_speaks_of_them_alone(rendered, tmp_path):
    """Two data sets that share a study and names of runs' kinds stay apart; nothing is said of what did not run."""
    shutil.copytree(rendered / "runs", tmp_path / "runs")
    for name in ("image-small", "text-en"):
        path = tmp_path / "runs" / f"{name}-own"
        shutil.copytree(rendered / "runs" / name, path)
        record = json.loads((path / runs.RECORD).read_text()) | {"run": path.name}
        record["data"] |= {"name": f"table {HOSTILE}", "fingerprint": "other", "built_in": False}
        (path / runs.RECORD).write_text(json.dumps(record))
    problems = []
    text = report.render(tmp_path, problems=problems, alone=True).with_suffix(".md").read_text()
    assert not problems and "Not run yet" not in text and "source project" not in text and "<script>" not in text
    first, second = text.split("\n## ")[1:3]
    answer = text.split("\n## ")[0]
    assert answer.count("- **On") == 1
    assert re.search(r"- \*\*On emoji\*\* (\(\d+ examples in test\S*: )?English is ahead", answer)
    assert second.startswith("Emoji") and "Emoji data" in second and "### The gap between the languages" in second
    assert first.startswith("Table") and "### The gap" not in first and "Emoji data" not in first
    assert "-own/record.json" not in second
    assert set(re.findall(r"runs/([\w-]+)/record", first)) == {"image-small-own", "text-en-own"}
    assert (tmp_path / "figures" / "1-systems.svg").exists() and (tmp_path / "figures" / "2-systems.svg").exists()


def _gap_run(folder: Path, name: str, labels: int, tables: dict[str, pd.DataFrame]) -> None:
    generator, parts, systems = np.random.default_rng(labels), [], []
    for system in dict.fromkeys(
        name.format(second) for second in questions.PLACES.values() for name in questions.SYSTEMS
    ):
        strength = 2.0 - 1.2 * ("Hindi" in system) + 0.6 * ("Picture" in system)
        parts.append(_predictions(strength, system, 2, tables, generator))
        about = {"inputs": "image+text" if "Picture" in system else "text", "chosen": "asked" not in system}
        about |= {"language": "hi" if "Hindi" in system else "en", "labels": labels, "method": "supervised"}
        systems.append({"system": system, "model": system, "weights": "none", "trained": "head", **about})
    record = {"run": name, "study": "gap", "classes": CLASSES, "systems": systems}
    record |= {
        "data": DATA | {"name": "table", "built_in": False, "splits": {"val": 80, "test": 90}},
        "scores": _scores(pd.concat(parts)),
    }
    place = folder / "runs" / name
    place.mkdir(parents=True)
    pd.concat(parts, ignore_index=True).to_parquet(place / runs.PREDICTIONS)
    record["fingerprints"] = PRINTS | {"predictions": runs.file_digest(place / runs.PREDICTIONS)}
    (place / runs.RECORD).write_text(json.dumps(EMPTY | record))


def test_gaps_are_those_of_the_predictions_and_open_both_reports(rendered, tmp_path):
    examples = _examples(tmp_path, "en", 90)
    for name, labels in (("photos-few", 30), ("photos", 900)):
        _gap_run(tmp_path, name, labels, {"val": examples, "test": examples})
    table = pd.read_parquet(tmp_path / "runs" / "photos" / runs.PREDICTIONS).query("split == 'test'")
    names = ("Text, English", "Text, Hindi", "Picture + text, English", "Picture + text, Hindi")
    parts = [table[table["system"] == name] for name in names]
    expected = statistics.language_gap(*parts, resamples=results.RESAMPLES)
    problems = []
    text = report.render(tmp_path, problems=problems, alone=True).with_suffix(".md").read_text()
    answer = text.split("\n## ")[0]
    assert not problems and "** (90 examples in test): learning from 900 labels in both languages, " in answer
    assert f"{100 * expected.text.estimate:+.1f} [" in answer and "p =" not in answer and "p <" not in answer
    rows = re.findall(r"^\| \[(\d+) labels (in [\w ]+)\]\(runs/[\w-]+/record.json\) \|(.*)", text, re.MULTILINE)
    places = ("in both languages", "in English alone")
    assert [row[:2] for row in rows] == [(labels, place) for labels in ("900", "30") for place in places]
    for side in (expected.text, expected.fused, expected.reduction):
        assert (
            f" {100 * side.estimate:+.1f} [{100 * side.low:+.1f}, {100 * side.high:+.1f}], p ".replace("-", "−")
            in rows[0][2]
        )
    shutil.copytree(rendered / "runs", tmp_path / "runs", dirs_exist_ok=True)
    whole = report.filled(tmp_path, "demo", draw=False)[0]
    assert whole.index("- **On photographs** (") < whole.index("- **On emoji** ")
    assert whole.index("## Photographs: the gap between languages") < whole.index("## Emoji: one input and both")


def _wilson(hits: int, count: int) -> tuple[float, float]:
    share, z = hits / count, 1.959963984540054
    middle, half = share + z**2 / 2 / count, z * np.sqrt(share * (1 - share) / count + (z / 2 / count) ** 2)
    return (middle - half) / (1 + z**2 / count), (middle + half) / (1 + z**2 / count)


def test_errors_by_kind_are_those_of_the_averaged_predictions(rendered):
    right = {}
    for name in ("text-hi", "image-small", "fusion-hi"):
        table = pd.read_parquet(rendered / "runs" / name / "predictions.parquet").query("split == 'test'")
        means = table[table["system"] == "tuned"].groupby("id")[["p_0", "p_1", "p_2", "label"]].mean()
        right[name] = means[["p_0", "p_1", "p_2"]].to_numpy().argmax(1) == means["label"]
    text, picture, both = right.values()
    said = diagnostics.errors(Page(Study(rendered, "crisis"), draw=False))
    said = said[said.index("**Hindi") :]
    assert f"**Hindi: {(both & ~text).sum()} rescued, {(text & ~both).sum()} lost**" in said
    for alone, hits in {"text, not the picture": both[text & ~picture], "neither": both[~text & ~picture]}.items():
        low, high = _wilson(hits.sum(), len(hits))
        assert f"| {alone} | {len(hits)} | {100 * hits.mean():.1f} [{100 * low:.1f}, {100 * high:.1f}] |" in said


def test_the_usual_tests_stand_beside_the_bootstrap_where_examples_are_independent(rendered):
    page, right = Page(Study(rendered, "crisis"), draw=False), []
    for run in ("fusion-en", "text-en"):
        table = page.study.predictions(next(s for s in page.study.systems if s["run"] == run and s["chosen"]))
        means = table.groupby("id")[["p_0", "p_1", "p_2", "label"]].mean()
        right.append(means[["p_0", "p_1", "p_2"]].to_numpy().argmax(1) == means["label"])
    only, gain = (right[0] & ~right[1]).sum(), right[0].mean() - right[1].mean()
    p = binomtest(only, (right[0] ^ right[1]).sum()).pvalue
    row = next(line for line in tables.single(page).splitlines() if line.startswith("| Picture + text, English – Text"))
    assert f"| accuracy | {100 * gain:+.1f} [" in row and row.endswith(f"| {p_value(p)} |")
    for key, table in page.study._tables.items():
        page.study._tables[key] = table.assign(group=table["id"].str[:-1])  # ten examples to a group
    assert tables.single(page) == ""


def test_of_two_classes_the_best_threshold_on_val_stands_beside_one_half(memes, rendered):
    page = Page(Study(memes, "memes"), draw=False)
    system = next(s for s in page.study.systems if s.get("share") == 1)
    for other in page.study.systems:
        other["chosen"] = other is system
    level = statistics.best_threshold(page.study.predictions(system, "val"))
    means = page.study.predictions(system).groupby("id")[["p_1", "label"]].mean()
    scores = [
        [
            f"{100 * score:.1f}"
            for score in (accuracy_score(means["label"], guess), f1_score(means["label"], guess, average="macro"))
        ]
        for guess in (means["p_1"] > 0.5, means["p_1"] > level)
    ]
    row = next(line for line in chosen.each(page).splitlines() if line.startswith("| [finetuning: "))
    assert row.endswith(f"| {', '.join(scores[0])} | {level:.2f}: {', '.join(scores[1])} |")
    assert "| – | – |" in chosen.each(Page(Study(rendered, "crisis"), draw=False))


def test_a_figure_with_more_than_shapes_is_shown_as_its_text():
    for inside in (
        "<script>1</script>",
        '<image href="data:,"/>',
        '<a href="javascript:1"><rect/></a>',
        "<foreignObject/>",
    ):
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="9pt">{inside}</svg>'.encode()
        page = report.html.render("# T\n\n![what it <shows>](figures/a.svg)", {"a.svg": svg})
        body = page[page.index("<main>") : page.index("</main>")]
        assert "what it &lt;shows&gt;" in body and "<svg" not in body


def test_no_name_in_a_figure_becomes_markup():
    row = {"label": f"--><script>1</script>{HOSTILE}", "share": 1, "estimate": 1, "low": 1, "high": 1}
    figure = plots.step_curves([row], "share", "</svg><script>2</script>", "]]>")
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    page = report.html.render("# T\n\n![x](figures/a.svg)", {"a.svg": content.getvalue()})
    body = page[page.index("<main>") : page.index("</main>")]
    assert body.count("<svg ") == body.count("</svg>") == 1
    assert not re.findall(r"<(?:script|style|metadata|!--)", body)


def test_our_own_figures_stay_figures(rendered):
    page = (rendered / "report.html").read_text()
    shown = len(re.findall(r"!\[[^\n]*\]\(figures/[\w-]+\.svg\)", (rendered / "report.md").read_text()))
    assert len(re.findall(r'<span role="img"[^>]*><svg ', page)) == shown > 5


def test_a_picture_is_one_that_was_drawn_and_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "figures").mkdir()
    secret = b"what only the user may read"
    names = ("figures/plain.png", "figures/drawn.svg", "key.png")
    for name in names:
        (tmp_path / name).write_bytes(secret)
    others = ("figures/../key.png", str(tmp_path / "key.png"), "figures/%2e%2e/key.png", "https://example.org/a.png")
    for address in (*names, *others):
        text = f"# T\n\n![its text]({address})"
        page = report.html.render(text, {"other.png": b""})
        body = page[page.index("<main>") : page.index("</main>")]
        assert "its text" in body and "<img" not in body and "data:" not in body, address
        assert report.pdf.render(text, {}).startswith(b"%PDF")


def test_on_paper_a_text_stays_with_the_picture_below_and_pictures_part(monkeypatch):
    sources = []
    monkeypatch.setattr(report.pdf.typst, "compile", lambda source, **_: sources.append(source.decode()) or b"")
    report.pdf.render("# T\n\nsome words\n\n![a](figures/a.svg)\n\n![b](figures/b.svg)\n\n![c](figures/c.svg)", {})
    assert re.findall(r"#block\(sticky: true\)\[(.*)\]", sources[0]) == ['#"some words";']


def test_the_page_allows_its_own_script_alone(rendered):
    page = (rendered / "report.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)[1]
    scripts = [text for kind, text in re.findall(r"<script([^>]*)>(.*?)</script>", page, re.DOTALL) if not kind]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert policy.startswith("default-src 'none';")
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert "unsafe-inline" not in re.search(r"script-src ([^;]+)", policy)[1]


@pytest.mark.parametrize("name", ["a $x$ b", "$$", r"\$\frac{1}$", "`$a` $b$", "x [31m $", "- [a](b) <i> ![c](d)"])
def test_a_name_is_shown_as_it_is_everywhere(tmp_path, name):
    page = Page(Study(tmp_path, "crisis"), draw=False)
    link, picture = page.record({"run": "r"}, name), page.file("a.png", None, name)
    text = f"{markdown.table(['h', name and markdown.escape(name)], [[link, picture]])}\n\n**{markdown.escape(name)}**"
    tokens = markdown.parser().parse(text)
    inline = [child for token in tokens for child in token.children or []]
    assert not [child for child in inline if child.type.startswith(("math", "code", "html"))]
    shown = markdown.visible(" ".join(name.split()))
    assert [markdown.words(child) for child in inline if child.type == "image"] == [shown]
    assert sum(markdown.words(token).count(shown) for token in tokens if token.type == "inline") == 4
    figure = plots.step_curves(
        [{"label": f"_{name}", "share": 1, "estimate": 1, "low": 1, "high": 1}], "share", name, name
    )
    figure.savefig(io.BytesIO(), format="svg")
    assert [entry.get_text() for entry in figure.legends[0].get_texts()] == [f" _{name}"]


def test_readme_shows_the_answer_and_the_table_with_links_from_the_root(rendered):
    markers = "# x\n<!-- begin: results -->\n<!-- end: results -->\n"
    text = report.readme(markers, (rendered / "report.md").read_text())
    assert re.search(r"\]\(report/figures/\d-gap.svg\)", text)
    assert "| [Text, English: tuned](report/runs/text-en/record.json)" in text
    assert report.readme(text, (rendered / "report.md").read_text()) == text


def test_an_interval_stays_on_one_line():
    page = report.html.render("# x\n\n77 [41, 102] % of +5.7 [−2.3, +9.4], p < .01, [one, two]", {})
    assert "77 [41,\u00a0102]\u00a0% of +5.7 [−2.3,\u00a0+9.4], p\u00a0<\u00a0.01, [one, two]" in html.unescape(page)


def test_fill_names_a_marker_without_a_block():
    text = "<!-- begin: a -->\nold\n<!-- end: a -->\n"
    assert markdown.fill(text, {"a": r"new \1"}) == "<!-- begin: a -->\n\nnew \\1\n\n<!-- end: a -->\n"
    with pytest.raises(ValueError, match="no block 'a'"):
        markdown.fill(text, {"b": ""})
    with pytest.raises(ValueError, match="end"):
        markdown.fill("<!-- begin: a -->\n", {"a": ""})


@pytest.mark.skipif(not (report.REPOSITORY / "report" / "runs").is_dir(), reason="no committed records")
def test_committed_report_is_what_its_records_give(monkeypatch):
    monkeypatch.setattr(data, "examples", EXAMPLES)  # the fixture has put made-up data in its place
    folder = report.REPOSITORY / "report"
    committed = (folder / "report.md").read_text(encoding="utf-8")
    text, pages = report.filled(folder, "demo", draw=False)
    assert text == committed, "run: python -m mmutils.report"
    assert not [problem for page in pages for problem in page.problems]
    readme = (report.REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert report.readme(readme, committed) == readme


@pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")), reason="needs Chromium and its driver"
)
def test_a_reader_can_filter_examples_and_sort_a_table(rendered):
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.support.ui import Select

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as browser:
        phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        browser.get((rendered / "report.html").as_uri())
        find = lambda selector: browser.find_elements("css selector", selector)  # noqa: E731
        assert find(".explorer output")[0].text == "", "it is closed until someone asks for it"
        browser.execute_script("for (const box of document.querySelectorAll('details')) box.open = true")
        assert find(".explorer output")[0].text == "120 of 120 examples"
        browser.execute_script("document.querySelector('.explorer').scrollIntoView()")
        Select(find("[name=language]")[0]).select_by_value("hi")
        Select(find("[name=agreement]")[0]).select_by_value("rescued")
        expected = int(re.search(r"\*\*Hindi: (\d+) rescued", (rendered / "report.md").read_text())[1])
        assert find(".explorer output")[0].text == f"{expected} of 120 examples"
        Select(find("[name=agreement]")[0]).select_by_value("")
        find("[name=words]")[0].send_keys("alert(1)")
        assert HOSTILE in find(".card")[0].text
        head = find("main .scroll > table th button")[1]
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", head)
        column = [
            float(cell.text.split()[0])
            for cell in find("main .scroll > table")[0].find_elements("css selector", "td:nth-child(2)")
        ]
        assert column == sorted(column)
        assert browser.execute_script("return document.documentElement.scrollWidth") == 390
        assert not browser.get_log("browser")


def test_a_run_of_which_everything_failed_has_no_systems(tmp_path):
    entry = {"system": "M, net: knn", "inputs": "image", "language": None, "chosen": False, "method": "M"}
    entry |= {"model": "net", "weights": "random", "trained": "neighbours"}
    more = {"run": "m", "study": "memes", "systems": [entry], "classes": ["a", "b"], "data": DATA}
    (tmp_path / "runs" / "m").mkdir(parents=True)
    (tmp_path / "runs" / "m" / runs.RECORD).write_text(json.dumps(EMPTY | more | {"fingerprints": PRINTS}))
    study = Study(tmp_path, "memes")
    assert list(study.records) == ["m"]
    assert study.systems == []


def test_forms_are_compared_that_differ_in_one_thing():
    published = {"cure": "none", "text_encoders": "two", "views": "plain", "hidden_sides": 0.0}
    cured, hidden = published | {"cure": "contrastive"}, published | {"hidden_sides": 1.0}
    assert systems.changed(published, cured) == "cure: contrastive instead of as published"
    assert systems.changed(published, hidden) == "hidden sides: 100 % instead of 0 %"
    assert systems.changed(cured, hidden) == systems.changed(cured, cured) == ""


@pytest.mark.parametrize(
    ("sign", "verdict"), [(1, "English is ahead"), (-1, "Hindi is ahead"), (0, "there is no clear gap")]
)
def test_transfer_names_who_is_ahead(tmp_path, sign, verdict):
    low, high = sorted((0.1 * sign, 0.3 * sign)) if sign else (-0.1, 0.3)
    row = {"score": "f1_macro", "estimate": 0.2 * sign, "low": low, "high": high, "p_value": 0.001}
    row |= {f"{language}_{key}": 0.5 for language in ("en", "hi") for key in ("estimate", "low", "high")}
    page = Page(Study(tmp_path, "transfer"), draw=False)
    extra = {"gap": [row], "paired": 98, "encoder": "e5"}
    page.study.records = {
        "run": {"status": "failed", "data": {"name": "crisismmd"}, "extra": extra, "classes": [*"abc"]}
    }
    said, text = questions.languages(page), questions.gaps(page)
    name = "one classifier trained in English and asked in both, 98 examples (macro F1)"
    assert f"(98 examples in test): one classifier, trained in English, is asked in both languages: {verdict} (" in said
    assert "what it adds is untested. **To use:** This classifier for English;" in said
    assert f"| [{name}](runs/run/record.json) | 50.0 | 50.0 |" in text


def _said_of(monkeypatch, tmp_path, *gaps: tuple[str, float, float, float]) -> str:
    """What is found of gaps, each by the name of its setting: text alone, with the picture, half of the intervals."""
    rows = []
    for name, text, fused, half in gaps:
        sides = [statistics.Interval(x, x - half, x + half, 9, 2, 0.5) for x in (text, fused, text - fused)]
        share = statistics.Interval((text - fused) / text, 0.2, 0.9, 9, 2, 0.5) if sides[0].low > 0 else None
        rows.append(("posts", name, ["80.0", "70.0"], statistics.LanguageGap(*sides, share, "")))
    monkeypatch.setattr(questions, "settings", lambda page: rows)
    study = Study(tmp_path, "gap")
    study.records = {"posts": EMPTY | {"data": {"name": "table"}, "classes": ["a", "b", "c"]}}
    return questions.languages(Page(study, draw=False)).partition(". **To use:**")[0]


@pytest.mark.parametrize(
    ("text", "fused", "verdict"),
    [
        (0.09, 0.02, "English is ahead (*; gap +9.0 [*]), and adding the picture closes 78 [20, 90] % of the gap"),
        (0.02, 0.09, "no clear gap (English 80.0, *), and the picture clearly widens the gap, to +9.0 [*]"),
        (-0.09, -0.02, "Hindi is ahead (*; gap −9.0 [*]), and the picture clearly narrows the gap, to −2.0 [*]"),
        (-0.04, -0.12, "Hindi is ahead (*; gap −4.0 [*]), and the picture clearly widens the gap, to −12.0 [*]"),
        (0.04, -0.12, "English is ahead (*; gap +4.0 [*]), and the picture clearly widens the gap, to −12.0 [*]"),
        (0.09, 0.08, "English is ahead (*; gap +9.0 [*]), and adding the picture does not clearly change that"),
    ],
)
def test_losses_are_said_as_gains_are_whoever_is_ahead(monkeypatch, tmp_path, text, fused, verdict):
    said = _said_of(monkeypatch, tmp_path, ("9 labels", text, fused, 0.03))
    assert re.search(re.escape(verdict).replace(r"\*", ".*") + "$", said)


def test_what_to_use_is_where_picture_and_text_score_better(tmp_path, monkeypatch):
    examples = _examples(tmp_path, "en", 90)
    for labels in (30, 900):
        _gap_run(tmp_path, f"photos-{labels}", labels, {"val": examples, "test": examples})
    page = Page(Study(tmp_path, "gap"), draw=False)
    differences, asked = iter([0.0, 0.1, 0.1, 0.1, 0.0, -0.1]), []  # English and both kinds of Hindi, 900 labels first

    def compare(pairs):
        asked.extend((key[0], *(system["system"] for system in pair), pair[0]["labels"]) for key, pair in pairs.items())
        sizes = dict(zip(pairs, differences, strict=True))
        return {k: statistics.Comparison(statistics.Interval(d, d, d, 9, 2), 1 - 10 * abs(d)) for k, d in sizes.items()}

    monkeypatch.setattr(page.study, "compare", compare)
    use = questions.languages(page).partition("**To use:** ")[2]
    assert use == (
        "In English, picture and text together: clearly better than text alone in 2 of 4 settings. "
        "In Hindi, it depends: picture and text together score clearly higher than text alone in 2 of 4 settings, "
        "clearly lower in 1 of 4 settings."
    )
    assert len(asked) == len(set(asked)) == 6 and all(both == f"Picture + text{text[4:]}" for _, both, text, _ in asked)


def test_the_question_about_own_data_names_their_classes(memes, tmp_path):
    assert "help to tell whether a picture and a name belong together?" in (memes / "report.md").read_text()
    shutil.copytree(memes / "runs", tmp_path / "runs")
    for path in tmp_path.glob("runs/*/record.json"):
        record = json.loads(path.read_text())
        record["data"] |= {"name": "table", "built_in": False}
        path.write_text(json.dumps(record))
    for classes, name in ((["ad", "news"], "table"), (["not harmful", "harmful"], "harmeme")):
        page = Page(Study(tmp_path, "memes"), draw=False)
        for record in page.study.records.values():
            record["classes"], record["data"] = classes, record["data"] | {"name": name}
        page.answer = questions.answer(page)
        first = questions.answers([page]).split("\n")[0]
        assert ("tell ad and news apart?" in first) == (name == "table")
        assert ("harmful memes" in first) == (name == "harmeme")


def test_runs_without_pretraining_are_asked_what_text_picture_and_both_reach(memes):
    page = Page(Study(memes, "memes"), draw=False)
    for system in page.study.systems:
        system["baseline"] = None
    page.answer = kind, said, _ = questions.answer(page)
    assert kind == "inputs"
    assert questions.answers([page]).startswith("- **Asked: How well does a classifier, trained to tell whether ")
    for system in systems.kinds(page).values():
        assert f"“{systems.title(system)}”: {span(page.study.interval(system))}" in said
    tests = [test for test in tables.tests(page, systems.inputs) if test.second["inputs"] == "text"]
    assert all(NOTES[f"inputs-{test.result.verdict}"].partition(" ({")[0] in said for test in tests)
    assert "**To use:** “" in said and "baseline" not in questions.answers([page])


def test_views_are_a_row_for_each_picture():
    views = [np.random.default_rng(0).random((6, 3, side, side), np.float32) for side in (32, 32, 12)]
    figure = plots.views(views, count=2)
    shown = [axis.images[0].get_array().shape for axis in figure.axes]
    assert shown == 2 * [(32, 32, 3), (32, 32, 3), (12, 12, 3)]


def test_every_system_of_a_figure_has_a_line_of_its_own():
    history = [{"system": str(s), "seed": 0, "epoch": e, "loss": s + 1 / e} for s in range(18) for e in (1, 2)]
    lines = plots.curves(history).legends[0].get_lines()
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == len(lines) == 18
    assert len({line.get_color() for line in lines[:10]}) == 10


def test_a_place_for_no_column_stays_empty():
    shown = [
        axis.get_visible()
        for axis in plots.curves([{"epoch": 1, "loss": 1, "auroc": 0.5}], ("loss", None, "auroc")).axes
    ]
    assert shown == [True, False, True, False]


def test_panels_have_one_scale_and_numbers_only_at_the_edge():
    table = pd.DataFrame({"label": [0, 1, 1], "p_0": [0.9, 0.2, 0.6], "p_1": [0.1, 0.8, 0.4]})
    figure = plots.confusions(dict.fromkeys("abcde", table), ["yes", "no"])
    figure.draw_without_rendering()
    *panels, empty = figure.axes
    assert [axis.get_title("left") for axis in panels] == list("abcde") and not empty.get_visible()
    assert [text.get_text() for text in panels[3].texts] == ["100", "50", "50"]  # no cell for what never happens
    numbered = [axis.xaxis.get_tick_params()["labelbottom"] for axis in panels]
    assert numbered == [False, False, True, True, True]
    assert [axis.yaxis.get_tick_params()["labelleft"] for axis in panels] == [True, False, False, True, False]
    assert len({axis.get_xlim() for axis in panels}) == len({axis.get_ylim() for axis in panels}) == 1


def test_lines_of_one_colour_differ_in_their_dashes(tmp_path, monkeypatch):
    table = _examples(tmp_path, "en", 60)
    for run, inputs in (("text-en", "text"), ("fusion-en", "image+text")):
        _write_run(tmp_path, run, {"val": table, "test": table}, CLASSES, 2)
        record = json.loads((tmp_path / "runs" / run / runs.RECORD).read_text())
        assert {system["inputs"] for system in record["systems"]} == {inputs}
    looks = {}
    monkeypatch.setattr(plots, "curves", lambda *given, **_: looks.update(given[4]) or plots.new_figure(1, 1)[0])
    chosen.each(Page(Study(tmp_path, "crisis"), draw=False))
    assert len({look["color"] for look in looks.values()}) == 1
    assert len(looks) == len({str(look["dashes"]) for look in looks.values()}) == 2


def test_a_single_epoch_is_seen_as_dots_over_a_whole_number():
    figure = plots.curves([{"system": "a", "seed": seed, "epoch": 1, "loss": 0.5} for seed in (0, 1)])
    [axis] = figure.axes
    assert [line.get_marker() for line in axis.lines] == ["o"]
    low, high = axis.get_xlim()
    assert [tick for tick in axis.get_xticks() if low <= tick <= high] == [1]


def test_curves_are_those_of_the_chosen_run_where_others_have_systems_of_its_name(tmp_path, monkeypatch):
    table = _examples(tmp_path, "en", 120)
    for number, name in enumerate(("image", "image-few")):
        _write_run(tmp_path, name, {"val": table, "test": table}, CLASSES, 2)
        path = tmp_path / "runs" / name / runs.RECORD
        record = json.loads(path.read_text())
        record["history"] = [entry | {"loss": number} for entry in record["history"]]
        path.write_text(json.dumps(record))
    drawn = []
    monkeypatch.setattr(plots, "curves", lambda history, *_, **__: drawn.append(history) or plots.new_figure(1, 1)[0])
    page = Page(Study(tmp_path, "crisis"), draw=False)
    chosen.each(page)
    [(_, system)] = systems.named(page).values()
    [history] = drawn
    assert len(history) == 10  # two seeds, five epochs
    assert {entry["loss"] for entry in history} == {float(system["run"] == "image-few")}


def test_a_score_stands_beside_its_interval(monkeypatch):
    interval = answers.statistics.Interval(0.5, 0.6, 0.7, groups=3, seeds=1)
    monkeypatch.setattr(answers.statistics, "bootstrap_interval", lambda *_, **__: interval)
    (axis,) = answers.bars({"text": None, "_both": None}).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["text", "_both"]
    assert [bar.get_width() for bar in axis.patches] == [50, 50]
    assert [line[:, 0].tolist() for part in axis.collections for line in part.get_segments()] == [[60, 70]] * 2


def test_networks_without_an_untrained_counterpart_have_nothing_to_compare(tmp_path, capsys):
    table = _examples(tmp_path, "en", 30)
    predictions = pd.concat(
        _predictions(1, name, 2, {"test": table}, np.random.default_rng(0)) for name in ("A, net: knn", "B, net: knn")
    )
    for name in ("A, net: knn", None):
        assert answers.before_and_after(predictions, name) is None
        assert "nothing to compare" in capsys.readouterr().out
    predictions["system"] = predictions["system"].replace("B, net: knn", "random, net: knn")
    assert answers.before_and_after(predictions, "A, net: knn") is not None
