"""A training run in processes that are killed: python killed_run.py FOLDER; test_train.py starts it.

The network is trained once undisturbed and once in processes that end by SIGKILL at random moments, in the middle of
writing a checkpoint and just before and after its renaming, each followed by a new one. Processes are forked to save
the imports.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path
from unittest import mock

import pandas as pd
import torch
from torch import nn

from mmutils.batches import Batches
from mmutils.methods import Method
from mmutils.training import checkpoint
from mmutils.training.loop import TrainConfig, fit

COUNT, EPOCHS = 48, 16


class Noisy(Method):
    """Everything that could go astray: dropout, batch norm's buffers, a buffer that after_step moves, schedules."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(20, 256), nn.BatchNorm1d(256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 256)
        )
        self.head = nn.Linear(256, 3)
        self.register_buffer("average", torch.zeros(3, 256))

    def loss(self, batch, progress):
        return nn.functional.cross_entropy(self.head(self.encoder(batch["features"])), batch["label"])

    def after_step(self, progress):
        self.average.lerp_(self.head.weight.detach(), 0.1 + progress / 2)

    def encoders(self):
        return {"encoder": self.encoder}


def train(folder: Path) -> None:
    checkpoint.INTERVAL = 0  # after each epoch: there is more to be killed in
    torch.manual_seed(0)
    method = Noisy()
    ids = [str(number) for number in range(COUNT)]
    features = torch.randn(COUNT, 20, generator=torch.Generator().manual_seed(0))
    examples = pd.DataFrame({"id": ids, "label": [number % 3 for number in range(COUNT)]})
    batches = Batches(examples, 8, extra={"features": features}, shuffle=True)
    config = TrainConfig(EPOCHS, encoder_learning_rate=1e-4)

    def evaluate(method):  # up and down: the best epoch is neither first nor last, nor that of the last restart
        return {"score": -abs(float(method.average.norm()) - 1.0)}

    history = fit(method, batches, config, evaluate=evaluate, select="score", checkpoint=folder)
    torch.save({"method": method.state_dict(), "losses": [row["loss"] for row in history]}, folder / "final.pt")


def die(*args, **keywords):
    os.kill(os.getpid(), signal.SIGKILL)


def torn_save(state, file):
    Path(file).write_bytes(b"half a checkpoint")
    die()


def attempt(folder: Path, seconds: float | None = None, patch=None) -> bool:
    """Train in a process that is killed after some seconds, or dies where `patch` says; whether it came to its end."""
    if not (child := os.fork()):
        with patch or mock.patch.object(os, "sep", os.sep):
            train(folder)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == 0


def rename_and_die(source, target, rename=os.replace):
    rename(source, target)
    die()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    whole, killed = folder / "whole", folder / "killed"
    started = time.perf_counter()
    assert attempt(whole)
    duration = time.perf_counter() - started
    for patch in (("torch.save", torn_save), ("os.replace", die), ("os.replace", rename_and_die), ("os.fsync", die)):
        assert not attempt(killed, patch=mock.patch(*patch))
    draw, kills = random.Random(0), 4
    while not attempt(killed, draw.uniform(0.05, 0.4) * duration * (1 + kills / 20)):  # longer and longer: it must end
        kills += 1
        assert kills < 200, "no progress between the kills"
    first, second = (torch.load(path / "final.pt", weights_only=True) for path in (whole, killed))
    for name, value in first["method"].items():
        assert torch.equal(value, second["method"][name]), name
    assert first["losses"] == second["losses"] and len(first["losses"]) == EPOCHS
    assert attempt(killed)  # once more: finished, nothing changes
    print(f"equal after {kills} kills")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
