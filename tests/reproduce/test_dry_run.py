"""The dry run: its data is read as the real one is, its weights are found as the real ones are, its records say so."""

import json
import os
import sys
from collections import Counter
from unittest import mock

import dry_run
import pytest
import torch
import yaml

from mmutils import runs as records
from mmutils.batches.images import read_picture
from mmutils.data import crisismmd, hateful_memes
from mmutils.reproduce import experiments
from mmutils.runs import fingerprints


def test_data_in_the_form_on_disk(tmp_path):
    root = dry_run.crisismmd(tmp_path / "crisis")
    tables = {split: crisismmd.examples(root, split) for split in ("train", "val", "test")}
    assert {split: len(table) for split, table in tables.items()} == {"train": 15, "val": 10, "test": 10}
    assert all(set(table["label"]) == set(range(5)) for table in tables.values())
    assert tables["train"]["text"].str.startswith('"').all()
    hindi = crisismmd.examples(root, "test", language="hi")["text"]
    assert hindi.map(lambda text: "\u0900" <= text[0] <= "\u097f").all()
    root = dry_run.hateful_memes(tmp_path / "memes")
    train = hateful_memes.examples(root, "train")
    assert Counter(train["label"]) == {0: 6, 1: 6} and train["id"][0] == "01235"
    assert len(hateful_memes.examples(root, "val")) == len(hateful_memes.examples(root, "test")) == 4
    for path in (tables["train"]["image"][0], train["image"][0]):
        assert read_picture(path, 8).shape == (8, 8, 3)


def test_paper_profile_can_be_read_and_shortened():
    profile = experiments.read(fingerprints.ROOT / "report" / "experiments.yaml", "paper")
    assert profile.roots == ("crisismmd", "hateful_memes") and len(profile.runs) == 21
    short = [dry_run.shortened(run, {"hateful_memes": "DIR"}) for run in profile.runs]
    memes = [run for run in short if run.study == "memes"]
    assert all(run.parameters["root"] == "DIR" and run.parameters["seeds"] == [0] for run in memes)
    assert {run.parameters["epochs"] for run in memes} == {1}


def test_end_to_end(tmp_path, monkeypatch, capsys):
    """Both kinds of weights, by way of the cache: an image and a text model with their real loaders."""
    given = {"data": "crisismmd", "image_encoder": "resnet10t", "text_encoder": "monsoon-nlp/hindi-bert"}
    given |= {"language": "hi", "size": 32, "fusions": ["concatenation"], "train_layers": 0}
    run = {"name": "fusion-hi", "notebook": "notebooks/fusion.ipynb", "study": "crisis", "parameters": given}
    file = tmp_path / "experiments.yaml"
    file.write_text(yaml.safe_dump({"profiles": {"small": {"roots": ["crisismmd"], "runs": [run]}}}))
    command = ["dry_run.py", "--experiments", str(file), "--profile", "small", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", command)
    with mock.patch.dict(os.environ):
        assert dry_run.main() == 0, capsys.readouterr()
    text = (tmp_path / "runs" / "fusion-hi" / "record.json").read_text()
    record = json.loads(text)
    assert [system["weights"] for system in record["systems"]] == [dry_run.WEIGHTS]
    assert record["extra"]["dry_run"] and record["files"] == {} and "mmutils-dry-run-" not in text
    assert record["parameters"]["text_encoder"] == "monsoon-nlp/hindi-bert" and len(record["scores"]) == 2


def test_real_runs_are_left_as_they_are(tmp_path, monkeypatch, capsys):
    """Records and weights of others: with a name that is no run, with real records in the folder, at the end."""

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["dry_run.py", "--out", str(tmp_path), *options])
        with pytest.raises(SystemExit):
            dry_run.main()
        return capsys.readouterr().err

    real = tmp_path / "runs" / "real"
    audit = "notebooks/data_audit.ipynb"
    record = records.save_failure(real, "out of memory", notebook=audit, parameters={})
    (real / "encoder.safetensors").touch()
    assert "no run other in this profile" in run("--only", "other")
    assert "other records, of real: give another folder as --out" in run("--only", "data")
    (tmp_path / "runs" / "made").mkdir()
    dry_run.finish(tmp_path / "runs" / "made")
    assert records.load_record(real) == record and (real / "encoder.safetensors").exists()


def test_text_model_at_its_published_size(tmp_path):
    dry_run.write_text_model("monsoon-nlp/hindi-bert", tmp_path)
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(tmp_path)
    assert sum(parameter.numel() for parameter in model.parameters()) == 13_483_008
    tokens = AutoTokenizer.from_pretrained(tmp_path)(["बाढ़ में मदद"], return_tensors="pt")
    assert model(**tokens).last_hidden_state.shape[-1] == 256 and torch.isfinite(next(model.parameters())).all()
