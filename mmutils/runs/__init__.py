"""Records: what a run did, with what, and what came out; `record.json` and `predictions.parquet` in the run's folder.

The record is small readable JSON (nan is null); predictions hold one float32 probability per class for every example,
system and seed. A notebook calls `begin` after its parameters, and `save` of what that returns in its last cell.
"""

import copy
import json
import os
import platform
import re
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mmutils.runs import fingerprints, storage
from mmutils.runs.files import claim, write
from mmutils.runs.fingerprints import IMPORTED, digest, file_digest
from mmutils.runs.parameters import all_typed, printable
from mmutils.runs.storage import KEYS, NAME, SCHEMA

RECORD, PREDICTIONS = "record.json", "predictions.parquet"
LONGEST = 100_000_000  # bytes of a record that is read
NETWORKS = ("torch", "torchvision", "timm", "transformers", "tokenizers", "sentencepiece", "safetensors", "accelerate")
NUMBERS = ("scikit-learn", "scipy", "numpy", "pandas", "pyarrow", "pillow", "ftfy")
_clock = {"begun": time.monotonic()}  # of the run


class Run(NamedTuple):
    """A run that has begun, and what there was when it did."""

    notebook: str | Path
    namespace: dict
    values: dict  # of the parameters
    weights: dict[str, tuple[int, ...]]  # in its folder
    cell: int  # number in IPython's history

    def save(self, **entries) -> dict:
        """`save_record` in the folder `out`, with the values that the parameters began with; ValueError: one changed.

        Beside it, of a table of one's own, split.csv: each example's split, which may have been made here.
        A warning names cells that ran with other code than the notebook's file has: the record then counts as stale.
        """
        now, before = parameters(self.notebook, self.namespace), self.values
        if changed := [f"{name} {before[name]!r} -> {now[name]!r}" for name in before if before[name] != now[name]]:
            raise ValueError(f"{self.notebook}: {', '.join(changed)} since it began: run it again from its parameters")
        entries |= {"notebook": self.notebook, "parameters": before, "weights_before": self.weights}
        record, history = save_record(before["out"], **entries), _history()
        if before.get("data") == "table" and (tables := self.namespace.get("tables")):
            tables = tables if "train" in tables else next(iter(tables.values()))  # or of each language
            splits = [table[["id"]].assign(split=split) for split, table in tables.items()]
            write(Path(before["out"], "split.csv"), pd.concat(splits).to_csv(index=False))
        cells = fingerprints.not_run(self.notebook, history, self.cell, IMPORTED) if history else []
        if cells:
            update_record(before["out"], fingerprints=record["fingerprints"] | {"notebook": "other cells ran"})
            lines = "; ".join(repr(cell.splitlines()[0]) for cell in cells)
            message = f"cells that did not run as {self.notebook} has them: {lines}; so the record counts as stale"
            warnings.warn(f"{message}. Save the notebook, restart its kernel and run all its cells", stacklevel=2)
        return load_record(before["out"]) if cells else record


def _history() -> list[str]:
    """What this process has run as cells, in IPython; nothing elsewhere."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return list(shell.history_manager.input_hist_raw) if shell else []


def _weights(folder: str | Path) -> dict[str, tuple[int, ...]]:
    """The weights in a folder: name -> what changes when the file is written again."""
    states = {path.name: path.stat() for path in sorted(Path(folder).glob("*.safetensors"))}
    return {name: (state.st_ino, state.st_size, state.st_mtime_ns) for name, state in states.items()}


def begin(notebook: str | Path, namespace: dict) -> Run:
    """Begin a run: call with `globals()` right after the notebook's parameters.

    Converts every parameter in place to its declared type, claims the folder `out`, seeds torch with the first of
    `seeds` and starts the record's clock. ValueError lists all wrong parameters, or says why `out` cannot be used.
    """
    _clock["begun"] = time.monotonic()
    declared, values = fingerprints.defaults(notebook, IMPORTED), parameters(notebook, namespace)
    try:
        namespace |= all_typed(values, declared)
    except ValueError as error:
        raise ValueError(f"{notebook}: {error}") from None
    if not namespace["out"] or not re.fullmatch(NAME, _name(namespace["out"])):
        raise ValueError(f"{notebook}: parameter out is {namespace['out']!r}: the name of a folder matches {NAME}")
    claim(namespace["out"])
    import torch  # takes seconds: not before the parameters are checked

    torch.manual_seed(next(iter(namespace.get("seeds") or ()), 0))
    values = copy.deepcopy(parameters(notebook, namespace))
    return Run(notebook, namespace, values, _weights(values["out"]), len(_history()) - 1)


def parameters(notebook: str | Path, namespace: dict) -> dict:
    """Values that the notebook's parameters have now; call with `globals()`."""
    names = fingerprints.defaults(notebook, IMPORTED)
    if missing := [name for name in names if name not in namespace]:
        raise ValueError(f"{notebook}: no value for the parameters {', '.join(missing)}; give globals()")
    return {name: namespace[name] for name in names}


def save_record(
    folder: str | Path,
    *,
    notebook: str,
    parameters: dict,
    study: str,
    data: dict,
    classes: Sequence[str],
    systems: Sequence[dict],
    history: Sequence[dict],
    predictions: pd.DataFrame | None,
    extra: dict | None = None,
    failed: Sequence[dict] = (),
    weights_before: Mapping[str, tuple[int, ...]] = {},
) -> dict:
    """Write predictions.parquet, then record.json with the scores, and return the record.

    A warning names files that were edited since they were imported. ValueError says what breaks the contract; then
    nothing is written. Weights (*.safetensors) in the folder that were not there before are listed with their hash.

    Args:
        predictions: columns system, seed, split ("val" or "test"), id, group, label, p_0 .. p_{K-1}; every system on
            the same examples of a split. None, with no systems, for a notebook that trains nothing.
        failed: dicts with system, seed and reason of what collapsed or diverged; no score counts their predictions.
    """
    from mmutils.statistics.scores import scores  # needs scikit-learn, which readers of records do not

    folder = Path(folder)
    entries = {"study": study, "data": data, "classes": classes, "systems": systems, "failed": failed}
    entries |= {"history": history, "extra": extra or {}}
    written = [name for name, state in _weights(folder).items() if state != weights_before.get(name)]
    entries["files"] = {name: file_digest(folder / name) for name in written}
    record = storage.plain(_record(folder, notebook, parameters) | {"status": "ok"} | entries)
    storage.check_record(record)
    table = storage.check_predictions(predictions, len(record["classes"]), record["systems"], record["failed"])
    record["scores"] = [
        {"system": system, "seed": int(seed), "split": split, "examples": len(rows), **scores(rows)}
        for (system, seed, split), rows in table.groupby(["system", "seed", "split"], sort=False)
    ]
    record["environment"]["precision"] = sorted({row["precision"] for row in history if row.get("precision")}) or None
    content = storage.to_parquet(table) if len(table) else None
    if content:
        record["fingerprints"]["predictions"] = digest(content)
    _write(folder, record, content)
    if edited := fingerprints.changed_files(record["fingerprints"], record["notebook"], record["parameters"]):
        message = f"edited while this ran: {', '.join(edited)}; the record names the code that ran, and counts as stale"
        warnings.warn(message, stacklevel=2)
    return load_record(folder)


def save_failure(folder: str | Path, reason: str, *, notebook: str, parameters: dict, **entries) -> dict:
    """Write a record with status "failed", the reason and other entries of it; delete earlier predictions."""
    record = _record(folder, notebook, parameters) | {"status": "failed", "reason": str(reason)}
    _write(Path(folder), record | entries)
    return load_record(folder)


def update_record(folder: str | Path, **entries) -> None:
    """Change entries of a record that is there, such as `needs` (run -> its `result`), which only the runner knows."""
    write(Path(folder) / RECORD, storage.to_json(load_record(folder) | entries))


def _write(folder: Path, record: dict, predictions: bytes | None = None) -> None:
    text = storage.to_json(record)  # before anything is written: it refuses what a record cannot hold
    if predictions:
        write(folder / PREDICTIONS, predictions)
    write(folder / RECORD, text)
    if not predictions:
        (folder / PREDICTIONS).unlink(missing_ok=True)


def _record(folder: str | Path, notebook: str, parameters: dict) -> dict:
    """A record with all keys, filled as far as every run can."""
    versions: dict[str, str | None] = dict.fromkeys((*NETWORKS, *NUMBERS))
    for name in versions:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    torch = sys.modules.get("torch")  # not imported here: a process that has not used it ran on the CPU
    return dict.fromkeys(KEYS) | {
        **{key: [] for key in ("classes", "systems", "failed", "scores", "history")},
        **{key: {} for key in ("data", "extra", "files", "needs")},
        "schema": SCHEMA,
        "run": _name(folder),
        "notebook": Path(notebook).as_posix(),
        "parameters": fingerprints.plain_parameters(parameters),
        "seconds": round(time.monotonic() - _clock["begun"], 1),
        "environment": {
            "python": platform.python_version(),
            **versions,
            "device": torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else "cpu",
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        },
        "fingerprints": fingerprints.of_run(notebook, parameters, IMPORTED),
    }


def load_record(folder: str | Path) -> dict:
    """The record of a run. FileNotFoundError: there is none. ValueError: broken, edited, or of other predictions."""
    path, table = Path(folder) / RECORD, Path(folder) / PREDICTIONS
    if not path.is_file():
        raise FileNotFoundError(f"no record {path}: the run has not finished; python -m mmutils.reproduce runs it")
    try:
        if path.stat().st_size > LONGEST:
            raise ValueError(f"it has more than {LONGEST / 1e6:.0f} MB")
        record = json.loads(path.read_text(encoding="utf-8"))
        json.dumps(record, ensure_ascii=False, allow_nan=False).encode()  # refuses NaN and half surrogate pairs
        storage.check_record(record)
        if record["fingerprints"].get("record", storage.seal(record)) != storage.seal(record):
            raise ValueError("its content is not what was written: edited or damaged")
        if record["run"] != _name(folder):
            raise ValueError(f"of the run {record['run']!r}, in a folder with another name")
    except (ValueError, RecursionError) as error:  # the latter: lists within lists
        raise ValueError(f"broken record {path}: {error}; delete it and run again") from None
    expected = record["fingerprints"].get("predictions")
    if expected and (not table.is_file() or file_digest(table) != expected):
        raise ValueError(f"{table} is missing or not the one that {path} was written with; run again")
    return record


def _name(folder: str | Path) -> str:
    return Path(os.path.abspath(folder)).name


def load_predictions(folder: str | Path, record: dict | None = None) -> pd.DataFrame:
    """Predictions of a run, by its record if loaded: system, seed, split, id, group, label, p_0 ..; maybe no rows."""
    if "predictions" in (record or load_record(folder))["fingerprints"]:
        return pd.read_parquet(Path(folder) / PREDICTIONS)
    return pd.DataFrame(columns=["system", "seed", "split", "id", "group", "label"])


def load_records(root: str | Path) -> list[dict]:
    """Records, failed ones too, of the runs in `root`, by name; warns of each folder without a readable one."""
    records = []
    for folder in sorted(path for path in Path(root).iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            records.append(load_record(folder))
        except (OSError, ValueError) as error:
            warnings.warn(printable(f"run {folder.name} is left out: {error}"), stacklevel=2)
    return records
