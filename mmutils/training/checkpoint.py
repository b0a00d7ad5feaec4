"""Checkpoints: the whole state of a training on disk, from which it continues exactly.

A checkpoint is one file of tensors, numbers and text (read with weights_only=True), written whole or not at all, with
checksums that are compared when it is read. That of a finished training keeps only the chosen weights. Parameters that
rest in encoders are not in it: a digest of them is.
"""

import hashlib
import math
import re
import time
import zipfile
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from mmutils.models.encoder import Encoder
from mmutils.runs.files import BusyError, lock, sweep, whole_file
from mmutils.runs.identity import digest, of_code, of_network
from mmutils.training.distributed import is_main

NAME = "checkpoint.pt"
INTERVAL = 5.0  # seconds of training between two checkpoints, so that heads do not spend their time on writing
CODE = ("batches", "batches.augment", "training.distributed", "training.loop", "training.precision")  # of any training


def place(folder: str | Path | None, system: str, seed: int) -> Path | None:
    """The folder of a system's checkpoint with this seed, below `folder`; None without one."""
    if folder is None:
        return None
    plain = re.sub(r"[^A-Za-z0-9.,=%+-]+", "-", system).strip("-.")[:80]  # safe in file names; the digest tells apart
    return Path(folder) / f"{plain}-{seed}-{hashlib.sha256(system.encode()).hexdigest()[:6]}"


def locked(folder: str | Path | None) -> ExitStack:
    """A context in which no other process trains with the folder; a second one waits, and then finds the result."""
    stack = ExitStack()
    if folder is not None and is_main():
        Path(folder).mkdir(parents=True, exist_ok=True)
        try:
            held = lock(folder, wait=0)
        except BusyError:
            tqdm.write(f"another process trains with {folder}: waiting until it is done")
            held = lock(folder)
        stack.callback(held.release)
    return stack


def read(file: Path) -> dict:
    """The content of a checkpoint. ValueError where it is damaged, or of a torch that this one cannot read."""
    try:
        with zipfile.ZipFile(file) as archive:
            if damaged := archive.testzip():  # compares the checksum of every entry
                raise zipfile.BadZipFile(f"{damaged} has another checksum")
        return torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # zipfile and torch raise many kinds for damaged files
        problem = f"{file} is damaged ({type(error).__name__}: {str(error)[:200]})".replace("\n", " ")
        raise ValueError(f"{problem}: delete the folder {file.parent}, and this training begins anew") from None


class TrainingState:
    """History (a dict per epoch), weights best by `select`, and their checkpoint; ValueError where it is another's."""

    def __init__(self, method: nn.Module, optimizer, batches, config: dict, select: str | None, folder, evaluated_on):
        self.method, self.select = method, select
        self.optimizer = optimizer  # None once the training is finished
        self.history, self.best, self.saved = [], None, time.monotonic()  # best: a state dict on the CPU
        self.file = Path(folder) / NAME if folder is not None else None
        if not self.file:
            return
        self.identity = {**config, "select": select, "method": type(method).__name__, "torch": str(torch.__version__)}
        self.identity |= of_network(method) | batches.identity()
        self.identity["code"] = [self.identity["code"], of_code(f"mmutils.{name}" for name in CODE)]
        for name, rows in evaluated_on.items():
            self.identity[f"{name} split"] = digest(repr(rows.identity()).encode())
        if is_main():
            sweep(self.file.parent)
        if not self.file.exists():
            return
        state = read(self.file)
        before = state["identity"]
        if changed := [name for name, value in self.identity.items() if before.get(name) != value]:
            differences = "; ".join(f"{name}: {before.get(name)}, now {self.identity[name]}" for name in changed)
            problem = f"{folder} holds the checkpoint of another run, which differs in {', '.join(changed)}"
            raise ValueError(f"{problem} ({differences}): delete this folder, or give the run another one")
        self.history, self.best = state["history"], state["best"]
        method.load_state_dict(method.state_dict() | state["method"])
        self.optimizer = state["optimizer"] and optimizer
        if self.optimizer:
            optimizer.load_state_dict(state["optimizer"])

    def end_epoch(self, row: dict) -> None:
        """Add an epoch's row to the history, keep the weights if they are the best so far, save every INTERVAL."""
        if self.select is not None:
            if self.select not in row:
                raise ValueError(f"select={self.select!r} is no score of an epoch; there are {sorted(row)}")
            if math.isnan(row[self.select]) and not self.history:
                raise ValueError(f"{self.select} is not defined in epoch 1: AUROC needs two classes or more in val")
            earlier = [past[self.select] for past in self.history if not math.isnan(past[self.select])]
            if row[self.select] > max(earlier, default=-math.inf):
                self.best = {name: value.detach().cpu().clone() for name, value in self._changing().items()}
        self.history.append(row)
        if time.monotonic() - self.saved >= INTERVAL:
            self._save()
            self.saved = time.monotonic()

    def finish(self) -> None:
        """Put the best epoch's weights back, if there is a score to select by, and save nothing but these."""
        if self.best is not None:
            self.method.load_state_dict(self.method.state_dict() | self.best)
            self.best = None
        if self.optimizer:
            self.optimizer = None
            self._save()

    def _save(self) -> None:
        if self.file and is_main():
            state = {"identity": self.identity, "history": self.history, "best": self.best}
            state["method"] = self._changing()
            state["optimizer"] = self.optimizer and self.optimizer.state_dict()
            with whole_file(self.file) as draft:
                torch.save(state, draft)

    def _changing(self) -> dict:
        """The state dict without weights that rest in encoders. A teacher gets no gradient either, but it changes."""
        resting = set()
        for path, module in self.method.named_modules():
            if isinstance(module, Encoder) and (module.frozen or module.last_layers >= 0):
                resting |= {f"{path}.{name}" for name, weight in module.named_parameters() if not weight.requires_grad}
        return {name: value for name, value in self.method.state_dict().items() if name not in resting}
