"""The dry run: every run of the paper profile at full size on a handful of made examples, so that each has run once.

    python tests/dry_run.py [--only NAME ...] [--out DIR]

Notebooks, networks, sizes and precision are the profile's; one epoch of a few steps, one seed. The data is made, in the
form in which CrisisMMD and Hateful Memes lie on disk, and so are the weights: random ones in a Hugging Face cache,
where they are found and loaded as the real ones are, without a network. So the scores mean nothing, and every record
says that its weights are "random (dry run)". What was made is deleted at the end; records and logs stay.
"""

import argparse
import csv
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # mmutils, from wherever this is started

from mmutils import runs
from mmutils.reproduce import experiments
from mmutils.reproduce.__main__ import select
from mmutils.reproduce.experiments import Run
from mmutils.reproduce.runner import Runner
from mmutils.runs import fingerprints
from mmutils.runs.files import claim

WEIGHTS = "random (dry run)"
SHORT = {"seeds": [0], "epochs": 1, "tune_epochs": 1, "batch_size": 8, "shares": [1.0]}
TEXT_MODELS = {  # hub name: type and sizes as published; others are the type's defaults
    "distilbert/distilbert-base-uncased": ("distilbert", {"vocab_size": 30522}),
    "distilbert/distilbert-base-multilingual-cased": ("distilbert", {"vocab_size": 119547}),
    "monsoon-nlp/hindi-bert": (  # ELECTRA-small; with the English one's vocabulary, its own is not known here
        "electra",
        {"vocab_size": 30522, "embedding_size": 128, "hidden_size": 256, "intermediate_size": 1024}
        | {"num_attention_heads": 4},
    ),
}
WORDS = {
    "en": "flood fire storm water help people house road dog cat music food happy sad",
    "hi": "बाढ़ आग तूफ़ान पानी मदद लोग घर सड़क कुत्ता बिल्ली संगीत खाना ख़ुश दुखी",
}
HEADER = "event_name tweet_id image_id tweet_text image label label_text label_image label_text_image"


@contextmanager
def prepared(chosen: list[Run]) -> Iterator[list[Run]]:
    """The runs, shortened, with made data and weights for as long as this lasts."""
    with tempfile.TemporaryDirectory(prefix="mmutils-dry-run-") as folder:
        made = Path(folder)
        roots = {"crisismmd": crisismmd(made / "crisismmd"), "hateful_memes": hateful_memes(made / "hateful_memes")}
        places = {"HF_HOME": made / "hub", "HF_HUB_CACHE": made / "hub", "MMUTILS_CACHE": made / "cache"}
        os.environ |= {name: str(place) for name, place in places.items()} | {"HF_HUB_OFFLINE": "1"}
        write_weights(chosen, made / "hub")
        yield [shortened(run, roots) for run in chosen]


def shortened(run: Run, roots: dict[str, Path]) -> Run:
    """The run with one seed and one epoch, on the made data."""
    planned = fingerprints.planned(run.notebook, run.parameters)
    values = run.parameters | {name: value for name, value in SHORT.items() if name in planned}
    if planned.get("data") in roots:
        values["root"] = str(roots[planned["data"]])
    return replace(run, parameters=values)


def finish(folder: Path) -> None:
    """Say in the record of a run, if there is one, what its weights were, and delete those that it has saved."""
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    if (folder / runs.RECORD).exists():
        record = runs.load_record(folder)
        systems = [system | {"weights": WEIGHTS} for system in record["systems"]]
        runs.update_record(folder, systems=systems, files={}, extra=record["extra"] | {"dry_run": True})


def crisismmd(root: Path, examples: tuple[int, int, int] = (15, 10, 10)) -> Path:
    """CrisisMMD v2.0 in small: TSV files of the agreed split, JPEGs, and a table of translations into Hindi."""
    from mmutils.data.crisismmd import CLASSES

    folder, numbers, translations = root / "crisismmd_datasplit_agreed_label", count(905952332923338752), []
    folder.mkdir(parents=True)
    (root / "translations").mkdir()
    for split, size in zip(("train", "dev", "test"), examples, strict=True):
        rows = []
        for number in range(size):
            tweet, label = str(next(numbers)), CLASSES[number % len(CLASSES)]
            picture = f"data_image/hurricane_harvey/8_9_2017/{tweet}_0.jpg"
            write_picture(root / picture, int(tweet))
            text = f'"{made_text("en", number)} https://t.co/x'  # texts with a quotation mark are never quoted
            rows.append(["hurricane_harvey", tweet, f"{tweet}_0", text, picture, label, label, label, "Positive"])
            translations.append([tweet, made_text("hi", number)])
        write_tsv(folder / f"task_humanitarian_text_img_agreed_lab_{split}.tsv", [HEADER.split(), *rows])
    write_tsv(root / "translations" / "hi.tsv", [["id", "text"], *translations])
    return root


def hateful_memes(root: Path, examples: tuple[int, int, int] = (12, 4, 4)) -> Path:
    """Hateful Memes in small: .jsonl files as officially released, and PNGs."""
    numbers = count(1235)
    for split, size in zip(("train", "dev_unseen", "test_seen"), examples, strict=True):
        rows = []
        for number in islice(numbers, size):
            picture = f"img/{number:05}.png"
            rows.append({"id": number, "img": picture, "label": number % 2, "text": made_text("en", number)})
            write_picture(root / picture, number)
        (root / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return root


def made_text(language: str, seed: int) -> str:
    """Six words."""
    return " ".join(np.random.default_rng(seed).choice(WORDS[language].split(), 6))


def write_picture(file: Path, seed: int) -> None:
    """96 x 64 pixels of noise."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(file)


def write_tsv(file: Path, rows: list[list[str]]) -> None:
    """Tab-separated and never quoted, as CrisisMMD is."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, "excel-tab", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None).writerows(rows)


def write_weights(chosen: list[Run], hub: Path) -> None:
    """Random weights of every model that the runs name, where the hub's cache would have them."""
    import timm

    values = json.dumps([fingerprints.planned(run.notebook, run.parameters) for run in chosen])
    for name in sorted(set(re.findall(r'"([^"]*)"', values))):  # every text in it, keys too
        if name in TEXT_MODELS:
            write_text_model(name, snapshot(hub, name))
        elif timm.is_model(name):
            write_image_model(name, snapshot(hub, timm.get_pretrained_cfg(name).hf_hub_id))


def snapshot(hub: Path, name: str) -> Path:
    """The folder in which Hugging Face's cache keeps the files of a model."""
    folder, revision = hub / f"models--{name.replace('/', '--')}", "0" * 40
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(revision)
    (folder / "snapshots" / revision).mkdir(parents=True, exist_ok=True)
    return folder / "snapshots" / revision


def write_text_model(name: str, folder: Path) -> None:
    """A text model at its published size, and a tokenizer trained on the made texts."""
    import transformers

    from mmutils.models.transformer import train_tokenizer

    tokenizer = train_tokenizer(WORDS.values(), 1000, 512)
    kind, sizes = TEXT_MODELS[name]
    config = transformers.AutoConfig.for_model(kind, **sizes, pad_token_id=tokenizer.pad_token_id)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_image_model(name: str, folder: Path) -> None:
    """A timm model with its classification layer."""
    import timm
    from safetensors.torch import save_model

    save_model(timm.create_model(name), folder / "model.safetensors")


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these runs and what they need")
    parser.add_argument("--out", default="outputs/dry-run", help="folder for runs (default: outputs/dry-run)")
    parser.add_argument("--profile", default="paper", help="profile of the experiments file (default: paper)")
    parser.add_argument("--experiments", default="report/experiments.yaml", help=argparse.SUPPRESS)
    options = parser.parse_args()
    profile = experiments.read(fingerprints.ROOT / options.experiments, options.profile)
    out = Path(options.out).resolve() / "runs"
    try:
        chosen = select(profile.runs, options.only)
        claim(out, wait=0)
        if real := [record["run"] for record in runs.load_records(out) if "dry_run" not in record["extra"]]:
            raise ValueError(f"{out} holds other records, of {', '.join(real)}: give another folder as --out")
    except ValueError as error:
        parser.error(str(error))
    try:
        with prepared(chosen) as short:
            return 0 if Runner(short, out, {run.name for run in short}).run_all() else 1
    finally:
        for run in chosen:
            finish(out / run.name)


if __name__ == "__main__":
    sys.exit(main())
