"""Files that are cut, empty, have a flipped bit or are of another version: healed or named, never silently wrong.

What can be made again is made again, with the same result. Of anything else the error names the file. Bits are flipped
at several places, since no place of a file may be the one that nobody looks at.
"""

import json
import os
import random
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from mmutils import data, runs
from mmutils.batches import Batches, images
from mmutils.data import emoji_topics
from mmutils.data.tools import archive
from mmutils.evaluation import export
from mmutils.methods.supervised import Supervised
from mmutils.models import saving
from mmutils.models.classifier import Classifier
from mmutils.models.encoder import CachedEncoder
from mmutils.models.features import features
from mmutils.models.image import ImageEncoder
from mmutils.models.text import TextEncoder
from mmutils.runs import files, identity
from mmutils.training.loop import TrainConfig, fit

FLIPS = 12  # places


def examples(folder: Path) -> pd.DataFrame:
    for number in range(4):
        Image.new("RGB", (20, 20), (60 * number, 9, 99)).save(folder / f"{number}.png")
    paths = [str(folder / f"{number}.png") for number in range(4)]
    return pd.DataFrame(
        {"id": list("abcd"), "group": list("abcd"), "image": paths, "text": "a text", "label": [0, 1] * 2}
    )


class CachedPictures:
    """The decoded pictures of a table."""

    heals, version = True, (images.PIL, "__version__")

    def make(self, folder):
        self.paths = examples(folder)["image"].tolist()
        self.result()
        return list((files.cache_dir() / "images").iterdir())

    def result(self):
        return images.decode(self.paths, 8).tolist()


class CachedFeatures:
    """Features of a frozen encoder."""

    heals, version = True, (identity, "versions")

    def make(self, folder):
        torch.manual_seed(0)
        self.encoder, self.rows = ImageEncoder("resnet10t", frozen=True, size=32), examples(folder)
        self.result()
        return list((files.cache_dir() / "features").iterdir())

    def result(self):
        return features(self.encoder, Batches(self.rows, 2, image_size=32))["features"].tolist()


class UnpackedArchive:
    """A data set that was an archive."""

    heals, version = True, None

    def make(self, folder):
        self.packed = folder / "set.zip"
        with zipfile.ZipFile(self.packed, "w") as packed:
            packed.writestr("set/train.tsv", "id\ttext\n" + "1\tsome words\n" * 40)
            packed.writestr("set/more/other.tsv", "id\ttext\n")
        return [Path(archive.folder(self.packed), "train.tsv")]

    def result(self):
        return Path(archive.folder(self.packed), "train.tsv").read_text()


class BuiltInPictures:
    """The emoji, unpacked: a few of them, since all take two seconds, each time."""

    heals, version = True, None

    def make(self, folder):
        return sorted((files.cache_dir() / "emoji").rglob("*.png"), key=str)[:1] if self.result() else []

    def result(self):
        paths = data.examples("emoji_topics", None, "val")["image"].tolist()[:3]
        return [Path(path).read_bytes() for path in paths]


class Checkpoint:
    """The state of a training."""

    heals, version = False, (torch, "__version__")

    def make(self, folder):
        self.folder = folder / "checkpoint"
        self.result()
        return [self.folder / "checkpoint.pt"]

    def result(self):
        torch.manual_seed(0)
        rows = pd.DataFrame({"id": list("abcd"), "label": [0, 1] * 2})
        method = Supervised(Classifier(CachedEncoder("x", 4), 2))
        batches = Batches(rows, 2, extra={"x": torch.eye(4)})
        losses = [row["loss"] for row in fit(method, batches, TrainConfig(2), checkpoint=self.folder)]
        return [losses, {name: value.tolist() for name, value in method.state_dict().items()}]


class SavedEncoder:
    """What a pretraining run leaves to fine-tuning: weights, description, tokenizer."""

    heals, version = False, None

    def make(self, folder):
        self.folder = folder / "run"
        encoder = TextEncoder.small(["some words", "and others"], width=16, heads=2, layers=1)
        saving.save_encoders({"text": encoder}, self.folder)
        text = self.folder / "text-text"
        return [
            self.folder / "text.safetensors",
            self.folder / "text.json",
            text / "tokenizer.json",
            text / "config.json",
        ]

    def result(self):
        encoder = saving.load_encoder(self.folder, "text")
        batch = Batches(pd.DataFrame({"id": ["a", "b"], "text": ["some words", "others"], "label": 0}), 2,
                        tokenizer=encoder.tokenizer)  # fmt: skip
        return encoder.eval()(next(batch.epoch())).tolist()


class Record(SavedEncoder):
    """A run's record and predictions, as the report reads them."""

    def make(self, folder):
        self.folder = folder / "toy"
        table = pd.concat(
            pd.DataFrame({"system": "head", "seed": 0, "split": split, "id": list("abcd"), "group": list("abcd"),
                          "label": [0, 1, 0, 1], "p_0": [0.7, 0.2, 0.6, 0.4], "p_1": [0.3, 0.8, 0.4, 0.6]})
            for split in ("val", "test")
        )  # fmt: skip
        keys = ("inputs", "language", "method", "model", "weights", "trained")
        system = dict.fromkeys(keys, "x") | {"system": "head", "chosen": True}
        about = {"name": "emoji_topics", "fingerprint": "f", "splits": {"val": 4}, "built_in": True}
        content = {"study": "crisis", "data": about, "classes": ["a", "b"], "systems": [system], "history": []}
        runs.save_record(self.folder, notebook="CASS/CASS.ipynb", parameters={}, predictions=table, **content)
        return [self.folder / runs.RECORD, self.folder / runs.PREDICTIONS]

    def result(self):
        record = runs.load_record(self.folder)
        return [record | {"fingerprints": ""}, runs.load_predictions(self.folder).to_dict("records")]


KINDS = (CachedPictures, CachedFeatures, UnpackedArchive, BuiltInPictures, Checkpoint, SavedEncoder, Record)


def cut(path: Path):
    os.truncate(path, path.stat().st_size * 2 // 3)
    yield


def empty(path: Path):
    os.truncate(path, 0)
    yield


def flipped(path: Path):
    whole, draw = path.read_bytes(), random.Random(0)
    for place in draw.sample(range(len(whole)), min(FLIPS, len(whole))):
        content = bytearray(whole)
        content[place] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        yield


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMUTILS_CACHE", str(tmp_path / "cache"))
    pd.read_parquet(emoji_topics.LABELLED).groupby("split").head(9).to_parquet(tmp_path / "emoji.parquet")
    monkeypatch.setattr(emoji_topics, "LABELLED", tmp_path / "emoji.parquet")


@pytest.mark.parametrize("damage", [cut, empty, flipped])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_damage_heals_or_is_named(kind, damage, tmp_path):
    case = kind()
    paths = case.make(tmp_path)
    expected = case.result()
    for path in paths:
        whole = path.read_bytes()
        for _ in damage(path):
            files._checksum_once.cache_clear()  # as a new process
            try:
                assert case.result() == expected, f"{path.name} is wrong, and nobody says so"
            except (ValueError, OSError) as error:
                assert not case.heals and path.name in str(error), f"{path.name} is not named: {error}"
        path.write_bytes(whole)
    files._checksum_once.cache_clear()
    assert case.result() == expected


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.version], ids=lambda kind: kind.__name__)
def test_another_version_of_a_library_is_noticed(kind, tmp_path, monkeypatch):
    """Caches are made again under another key; a training is not continued."""
    case = kind()
    (path,) = case.make(tmp_path)
    module, name = case.version
    monkeypatch.setattr(module, name, (lambda: {"torch": "0.1"}) if callable(getattr(module, name)) else "0.1")
    if case.heals:
        case.result()
        assert len(list(path.parent.iterdir())) == 2
    else:
        with pytest.raises(ValueError, match=r"another run, which differs in torch"):
            case.result()


def test_an_export_with_another_description_is_named(tmp_path):
    saving.save_encoders({export.NAME: ImageEncoder("resnet10t", size=32)}, tmp_path)
    path = tmp_path / f"{export.NAME}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": 64}))
    with pytest.raises(ValueError, match=r"classifier\.json is damaged"):
        export.load_classifier(tmp_path)
