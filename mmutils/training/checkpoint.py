"""The state of a training run: history, best weights, and a checkpoint on disk from which it goes on exactly.

A checkpoint is one file with nothing but tensors, numbers and text (torch.load with weights_only=True), written whole
or not at all, so that a process killed at any moment leaves one whole checkpoint behind. Its zip entries carry
checksums, which are compared when it is read. Of a finished run it keeps the weights that were chosen and no optimizer,
a quarter of the bytes.
"""

import hashlib
import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import nn
from tqdm.auto import tqdm

from mmutils.runs.files import sweep, whole_file
from mmutils.training.distributed import is_main

NAME = "checkpoint.pt"


def place(folder: str | Path | None, system: str, seed: int) -> Path | None:
    """The folder of a system's checkpoint with this seed, below `folder`; None without one.

    Characters that are not safe in a file's name become dashes, and a digest keeps apart what then looks the same.
    """
    if folder is None:
        return None
    plain = re.sub(r"[^A-Za-z0-9.,=%+-]+", "-", system).strip("-.")[:80]
    return Path(folder) / f"{plain}-{seed}-{hashlib.sha256(system.encode()).hexdigest()[:6]}"


@contextmanager
def locked(folder: str | Path | None) -> Iterator[None]:
    """Meanwhile no other process trains with this folder; one that comes later waits, and then finds the result."""
    if folder is None or not is_main():
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(folder) / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tqdm.write(f"another process trains with {folder}: waiting until it is done")
        lock.acquire()
    except OSError:  # a file system without locks, as some network drives
        pass
    try:
        yield
    finally:
        lock.release()


def read(file: Path) -> dict:
    """The content of a checkpoint. ValueError where it is damaged, or of a torch that this one cannot read."""
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()  # compares the checksum of every entry
        if damaged is None:
            return torch.load(file, map_location="cpu", weights_only=True)
        problem = f"{damaged} has another checksum"
    except OSError:
        raise
    except Exception as error:  # zipfile and torch raise many kinds for damaged files
        problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    raise ValueError(
        f"the checkpoint {file} is damaged ({problem[:200]}): delete it, and the training begins anew; what other "
        "trainings have saved is not touched"
    )


def trained_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The state dict of the method whose checkpoint is in the folder, of its best epoch."""
    state = read(folder / NAME)
    return state["best"] or state["method"]


class TrainingState:
    """History (a dict per epoch), best weights (a state dict on the CPU, or None), their checkpoint in `folder`.

    select: the score of a row by which an epoch is best. identity: what must be equal for a checkpoint to be
    continued; ValueError if it is not.
    """

    def __init__(self, method: nn.Module, optimizer, select: str | None, folder: str | Path | None, identity: dict):
        self.method, self.optimizer, self.select, self.identity = method, optimizer, select, identity
        self.history, self.best = [], None  # best: state dict on the CPU
        self.finished = False  # all that is left of the checkpoint are the chosen weights
        self.file = Path(folder) / NAME if folder is not None else None
        if self.file and is_main():
            sweep(self.file.parent)
        if self.file and self.file.exists():
            self._load()

    def end_epoch(self, row: dict) -> None:
        """Add an epoch's row, keep the weights if they are the best so far, save."""
        if self.select is not None:
            self._choose(row)
        self.history.append(row)
        if self.file and is_main():
            self._save(self.optimizer.state_dict())

    def _choose(self, row: dict) -> None:
        if self.select not in row:
            raise ValueError(f"select={self.select!r} is no score of an epoch; there are {sorted(row)}")
        if math.isnan(row[self.select]) and not self.history:
            raise ValueError(
                f"{self.select} is not defined in epoch {row['epoch']}, so no epoch can be chosen by it: AUROC needs "
                "examples of at least two classes in val"
            )
        earlier = [past[self.select] for past in self.history if not math.isnan(past[self.select])]
        if row[self.select] > max(earlier, default=-math.inf):
            self.best = {name: value.detach().cpu().clone() for name, value in self.method.state_dict().items()}

    def finish(self) -> None:
        """Put the best epoch's weights back, if there is a score to select by, and save nothing but these."""
        if self.best is not None:
            self.method.load_state_dict(self.best)
            self.best = None
        if self.file and is_main() and not self.finished:
            self._save(None)

    def _save(self, optimizer: dict | None) -> None:
        state = {"identity": self.identity, "history": self.history, "best": self.best}
        state |= {"method": self.method.state_dict(), "optimizer": optimizer}
        with whole_file(self.file) as draft:
            torch.save(state, draft)

    def _load(self) -> None:
        state = read(self.file)
        if changed := {name: value for name, value in self.identity.items() if state["identity"].get(name) != value}:
            before = {name: state["identity"].get(name) for name in changed}
            raise ValueError(
                f"{self.file} is of another run, which differs in {', '.join(changed)}: it has {before}, now "
                f"{changed}. Delete it, or give another folder."
            )
        self.history, self.best = state["history"], state["best"]
        self.method.load_state_dict(state["method"])
        self.finished = state["optimizer"] is None
        if not self.finished:
            self.optimizer.load_state_dict(state["optimizer"])
