"""Two processes on a CPU (gloo) train what one process trains; a notebook runs in two and leaves one record."""

import os
import socket
import subprocess
import sys
from functools import partial

import forks
import pytest
import torch
import two_processes
from torch import nn

from mmutils import runs
from mmutils.models.image import ImageEncoder
from mmutils.reproduce import launch
from mmutils.runs.fingerprints import ROOT
from mmutils.training import distributed

EQUAL = [name for name in two_processes.METHODS if name != "batch_norm"]


def in_processes(count: int, *command: str) -> str:
    """What `count` processes print together; they must end well."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count), *command]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(start, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> dict:
    """What two processes found that were started as torchrun starts them."""
    file = str(tmp_path_factory.mktemp("two") / "found.pt")
    with socket.create_server(("127.0.0.1", 0)) as free:
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    found = partial(forks.started, two_processes.main, [*two_processes.METHODS], file, LOCAL_WORLD_SIZE="2", **shared)
    assert forks.ended(*[found(RANK=rank, LOCAL_RANK=rank) for rank in "01"]) == [0, 0]
    return torch.load(file)


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_train_what_one_does(name, together):
    losses, weights, same = together[name]
    expected, alone = two_processes.train(name)
    assert same, "the two processes ended with different weights"
    assert losses == pytest.approx(expected, abs=1e-5) and losses[-1] != pytest.approx(losses[0], abs=1e-3)
    for key, weight in alone.items():
        torch.testing.assert_close(
            weights[key], weight, atol=1e-5, rtol=1e-5, msg=lambda text, key=key: f"{key}: {text}"
        )


def test_batch_norm_is_refused_on_a_cpu(together):
    assert "2 processes on a CPU cannot share a batch norm" in together["batch_norm"]


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "regnety_002", "inception_v3", "resnet10t"])
def test_shared_batch_norms_compute_what_they_did(name, monkeypatch):
    """timm's own batch norms hold an activation, which torch's conversion forgets."""
    monkeypatch.setattr(distributed, "processes", lambda: 2)
    torch.manual_seed(0)
    encoder, batch = ImageEncoder(name, size=96), {"image": torch.rand(2, 3, 96, 96)}
    expected = encoder.eval()(batch)
    distributed.share_statistics([encoder.train()], torch.device("cuda"))
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in encoder.modules()) > 5
    torch.testing.assert_close(encoder.eval()(batch), expected)


def test_a_notebook_in_two_processes_leaves_one_record(tmp_path):
    given = {"epochs": 1, "limit": 28, "batch_size": 14, "size": 32, "image_encoder": "vit_tiny_patch16_224"}
    given |= {"languages": "[en]", "text_encoder": "", "queries": "[a dog]", "seeds": "[0]", "out": tmp_path / "clip"}
    options = [part for name, value in given.items() for part in ("-p", name, str(value))]
    output = in_processes(2, "-m", "mmutils.reproduce.launch", "CLIP/CLIP.ipynb", *options)
    assert output.count("28 pairs without labels") == 1  # the second process is silent
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]
    record = runs.load_record(tmp_path / "clip")
    assert record["parameters"]["languages"] == ["en"] and record["history"][0]["epoch"] == 1
    saved = [f"{side}-0{end}.safetensors" for side in ("image", "text") for end in ("", ".start")]
    assert sorted(record["files"]) == sorted(saved)
    assert (tmp_path / "clip" / "checkpoints").is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["CLIP/CLIP.ipynb", "-p", "epoch", "3"], "did you mean 'epochs'"),
        (["CLIP/CLIP.ipynb", "-p", "epochs", "three"], "epochs is int, given 'three'"),
        (["CLIP/CLIP.ipynb", "-p", "epochs", "0.5", "-p", "seeds", "3"], "seeds is list"),
        (["CLIP/CLIP.ipynb", "-p", "queries", "[a, {"], "'[a, {' is no list or dict in YAML"),
        (["CLIP.ipynb"], "no notebook"),
    ],
)
def test_wrong_use_is_said(arguments, message, capsys):
    with pytest.raises(SystemExit):
        launch.main(arguments)
    assert message in capsys.readouterr().err


def test_parameters_are_read_as_papermill_does(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.setattr(launch, "run", lambda notebook, values: seen.update(values))
    monkeypatch.chdir(launch.ROOT)
    given = {"precision": "no", "learning_rate": "1e-3", "text_encoder": "", "languages": "[en]", "out": tmp_path / "x"}
    launch.main(["CLIP/CLIP.ipynb", *(part for name, value in given.items() for part in ("-p", name, str(value)))])
    del seen["out"]
    assert seen == {"precision": "no", "learning_rate": 0.001, "text_encoder": "", "languages": ["en"]}


def test_what_a_user_can_cause_ends_with_its_place_and_no_traceback(monkeypatch, tmp_path):
    monkeypatch.chdir(launch.ROOT)
    with pytest.raises(SystemExit, match=r"^DINO/DINO.ipynb, code cell \d, line 1 > .*: .*no_data"):
        launch.main(["DINO/DINO.ipynb", "-p", "data", "no_data", "-p", "out", str(tmp_path / "x")])
