"""The state of a training run: history, best weights, and a checkpoint on disk from which it goes on exactly.

A checkpoint is one file with nothing but tensors, numbers and text (torch.load with weights_only=True). It is written
beside the old one and renamed, so that a process killed at any moment leaves one whole checkpoint behind. Of a finished
run it keeps the weights that were chosen and no optimizer, a quarter of the bytes.
"""

import math
import os
import tempfile
from pathlib import Path

import torch
from torch import nn

from mmutils.distributed import is_main


class TrainingState:
    """History (a dict per epoch), best weights (a state dict on the CPU, or None), their checkpoint in `folder`.

    select: the score of a row by which an epoch is best. identity: what must be equal for a checkpoint to be
    continued; ValueError if it is not.
    """

    def __init__(self, method: nn.Module, optimizer, select: str | None, folder: str | Path | None, identity: dict):
        self.method, self.optimizer, self.select, self.identity = method, optimizer, select, identity
        self.history, self.best = [], None  # best: state dict on the CPU
        self.finished = False  # all that is left of the checkpoint are the chosen weights
        self.file = Path(folder) / "checkpoint.pt" if folder is not None else None
        if self.file and self.file.exists():
            self._load()

    def end_epoch(self, row: dict) -> None:
        """Add an epoch's row, keep the weights if they are the best so far, save."""
        if self.select is not None:
            if self.select not in row:
                raise ValueError(f"select={self.select!r} is no score of an epoch; there are {sorted(row)}")
            earlier = [past[self.select] for past in self.history if not math.isnan(past[self.select])]
            if not self.history or row[self.select] > max(earlier, default=-math.inf):
                self.best = {name: value.detach().cpu().clone() for name, value in self.method.state_dict().items()}
        self.history.append(row)
        if self.file and is_main():
            self._save(self.optimizer.state_dict())

    def finish(self) -> None:
        """Put the best epoch's weights back, if there is a score to select by, and save nothing but these."""
        if self.best is not None:
            self.method.load_state_dict(self.best)
            self.best = None
        if self.file and is_main() and not self.finished:
            self._save(None)

    def _save(self, optimizer: dict | None) -> None:
        """Write beside the old checkpoint, wait for the disk, rename: at any moment there is one whole checkpoint."""
        state = {"identity": self.identity, "history": self.history, "best": self.best}
        state |= {"method": self.method.state_dict(), "optimizer": optimizer}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        for leftover in self.file.parent.glob("checkpoint-*.tmp"):  # of a killed run
            leftover.unlink()
        with tempfile.NamedTemporaryFile(
            dir=self.file.parent, prefix="checkpoint-", suffix=".tmp", delete=False
        ) as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, self.file)

    def _load(self) -> None:
        state = torch.load(self.file, map_location="cpu", weights_only=True)
        if changed := {name: value for name, value in self.identity.items() if state["identity"].get(name) != value}:
            before = {name: state["identity"].get(name) for name in changed}
            raise ValueError(
                f"{self.file} is of another run: it has {before}, now {changed}. Delete it, or give another folder."
            )
        self.history, self.best = state["history"], state["best"]
        self.method.load_state_dict(state["method"])
        self.finished = state["optimizer"] is None
        if not self.finished:
            self.optimizer.load_state_dict(state["optimizer"])
