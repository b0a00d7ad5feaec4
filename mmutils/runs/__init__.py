"""Records: what a run did, with what, and what came out; `record.json` and `predictions.parquet` in the run's folder.

Every number of the report comes from here. The record is small readable JSON (nan is null); predictions hold one
float32 probability per class for every example, system and seed, so that any score, interval or test can be computed
later. Files are written whole or not at all, and a record knows the hash of its predictions. A notebook calls
`begin` after its parameters, `parameters` and `save` in its last cell; the report calls `all_records` and
`predictions`; the runner calls `stale`.
"""

import os
import platform
import re
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from mmutils.runs import fingerprints
from mmutils.runs.claim import claim
from mmutils.runs.files import write
from mmutils.runs.fingerprints import DISK, IMPORTED, Disk, digest, file_digest
from mmutils.runs.parameters import all_typed
from mmutils.runs.storage import NAME, RECORDS, check_types, checked, read_json, seal, to_json, to_parquet

SCHEMA = 1
RECORD, PREDICTIONS = "record.json", "predictions.parquet"
STUDIES = ("crisis", "memes", "transfer")
SYSTEM_KEYS = ("system", "inputs", "language", "method", "model", "weights", "trained", "chosen")
KEYS = ("schema", "run", "notebook", "status", "reason", "study", "data", "classes", "parameters", "systems", "failed")
KEYS += ("scores", "history", "extra", "files", "needs", "seconds", "environment", "fingerprints")
NETWORKS = ("torch", "torchvision", "timm", "transformers", "tokenizers", "sentencepiece", "safetensors", "accelerate")
NUMBERS = ("scikit-learn", "scipy", "statsmodels", "numpy", "pandas", "pyarrow", "pillow", "ftfy")
PACKAGES = (*NETWORKS, *NUMBERS)  # all that touch pixels, tokens or numbers
_clock = {"begun": time.monotonic()}  # of the run


def begin(notebook: str | Path, namespace: dict) -> None:
    """Begin a run: call with `globals()` right after the notebook's parameters.

    Converts every parameter in place by its declared type; makes the folder `out` ready and takes it for this process
    until that ends (`claim`); seeds torch with the first of `seeds`, so that networks with random weights that are
    built before a training are the same in every run; starts the clock of the record.

    Raises:
        ValueError: lists all parameters that are not what they are declared as; or `out` cannot be used.
    """
    _clock["begun"] = time.monotonic()
    declared = fingerprints.defaults(notebook, IMPORTED)
    values = _values(notebook, namespace, declared)
    try:
        namespace |= all_typed(values, declared)
    except ValueError as error:
        raise ValueError(f"{notebook}: {error}") from None
    if "out" in declared:
        if not namespace["out"] or not re.fullmatch(NAME, Path(namespace["out"]).resolve().name):
            raise ValueError(f"{notebook}: parameter out is {namespace['out']!r}: the name of a folder matches {NAME}")
        claim(namespace["out"])
    import torch  # takes seconds: not before the parameters are checked

    torch.manual_seed(next(iter(namespace.get("seeds") or ()), 0))


def _values(notebook: str | Path, namespace: dict, names: Iterable[str]) -> dict:
    missing = [name for name in names if name not in namespace]
    if missing:
        raise ValueError(f"{notebook}: no value for the parameters {', '.join(missing)}; give globals()")
    return {name: namespace[name] for name in names}


def parameters(notebook: str | Path, namespace: dict) -> dict:
    """Values that the notebook's parameters have now; call with `globals()`.

    `out` and `root` are left out: they say where, not what. ValueError: a parameter that the namespace lacks.
    """
    declared = fingerprints.defaults(notebook, IMPORTED)
    return _values(notebook, namespace, [name for name in declared if name not in fingerprints.LOCATIONS])


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
) -> dict:
    """Write predictions.parquet, then record.json, and return the record; its scores are computed here.

    predictions: columns system, seed, split ("val" or "test"), id, group, label, p_0 .. p_{K-1}; every system on the
    same examples of a split. None, with no systems, for a notebook that trains nothing. failed: dicts with system, seed
    and reason, for what collapsed or diverged; their predictions are left out, so that no mean can hold them.
    Weights (*.safetensors) in the folder are listed with their hash. ValueError says what breaks the contract.
    The hashes of notebook and package are those of the code that ran; a warning names files edited since.
    """
    folder, systems, failed = Path(folder), [dict(s) for s in systems], [dict(f) for f in failed]
    _check_description(study, data, classes, systems, failed)
    table = checked(predictions, len(classes), systems, failed)
    folder.mkdir(parents=True, exist_ok=True)
    record = _record(folder, notebook, parameters) | {
        "status": "ok",
        "study": study,
        "data": dict(data),
        "classes": list(classes),
        "systems": systems,
        "failed": failed,
        "scores": _scores(table),
        "history": list(history),
        "extra": dict(extra or {}),
        "files": {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))},
    }
    record["environment"]["precision"] = sorted({row["precision"] for row in history if row.get("precision")}) or None
    record["fingerprints"]["data"] = data["fingerprint"]
    text = to_json(record)  # before anything is written: it may refuse
    if len(table):
        content = to_parquet(table)
        write(folder / PREDICTIONS, content)
        record["fingerprints"]["predictions"] = digest(content)
        text = to_json(record)
    else:
        (folder / PREDICTIONS).unlink(missing_ok=True)
    write(folder / RECORD, text)
    if edited := _edited(record):
        warnings.warn(
            f"edited while this ran: {', '.join(edited)}; the record names the code that ran, and counts as stale",
            stacklevel=2,
        )
    return load_record(folder)


def save_failure(folder: str | Path, reason: str, *, notebook: str, parameters: dict, **known: Any) -> dict:
    """Write a record with status "failed" and the reason; predictions of an earlier run are removed.

    known: whatever else there is of study, data, classes, systems, history, extra; or other fingerprints than those of
    the code that this process imported.
    """
    unknown = set(known) - {"study", "data", "classes", "systems", "history", "extra", "fingerprints"}
    if unknown:
        raise ValueError(f"fail takes no {', '.join(sorted(unknown))}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    record = _record(folder, notebook, parameters) | {"status": "failed", "reason": str(reason)} | known
    write(folder / RECORD, to_json(record))
    (folder / PREDICTIONS).unlink(missing_ok=True)
    return load_record(folder)


def load_record(folder: str | Path) -> dict:
    """The record of a run. FileNotFoundError: there is none. ValueError: broken, or of other predictions."""
    path = Path(folder) / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"no record {path}: the run has not finished; python -m mmutils.reproduce runs it")
    try:
        record = read_json(path)
        _check_record(record, Path(folder).resolve().name)
    except ValueError as error:
        raise ValueError(f"broken record {path}: {error}; delete it and run again") from None
    expected = record["fingerprints"].get("predictions")
    table = path.with_name(PREDICTIONS)
    if expected and (not table.is_file() or file_digest(table) != expected):
        raise ValueError(f"{table} is missing or not the one that {path} was written with; run again")
    return record


def _check_record(record: Any, name: str) -> None:
    """ValueError where it is not the record of a run of that name, whoever wrote it."""
    missing = [key for key in KEYS if key not in record] if isinstance(record, dict) else KEYS
    if missing:
        raise ValueError(f"without {', '.join(missing)}")
    if record["schema"] != SCHEMA:
        raise ValueError(f"of schema {record['schema']!r}, not {SCHEMA}")
    check_types(RECORDS, record)
    if record["fingerprints"].get("record", seal(record)) != seal(record):
        raise ValueError("its content is not what was written: edited or damaged")
    if record["run"] != name:
        raise ValueError(f"of the run {record['run']!r}, in a folder with another name")
    if record["status"] == "ok":
        _check_description(*(record[key] for key in ("study", "data", "classes", "systems", "failed")))


def load_predictions(folder: str | Path) -> pd.DataFrame:
    """Predictions of a run: system, seed, split, id, group, label, p_0 ..; without rows for a run that has none."""
    record = load_record(folder)
    if "predictions" not in record["fingerprints"]:
        return pd.DataFrame(columns=["system", "seed", "split", "id", "group", "label"])
    return pd.read_parquet(Path(folder) / PREDICTIONS)


def load_records(root: str | Path) -> list[dict]:
    """Records, failed ones too, of the runs in `root`, by name; warns of each folder without a readable one."""
    root, records = Path(root), []
    if not root.is_dir():
        raise FileNotFoundError(f"no folder of runs {root}: python -m mmutils.reproduce makes it")
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        try:
            if not re.fullmatch(NAME, folder.name):
                raise ValueError("the name of a run is letters, digits, '-', '_', '.'")
            record = load_record(folder)
            if record["run"] != folder.name:
                raise ValueError(f"it is a link to the folder of the run {record['run']!r}")
        except (OSError, ValueError) as error:
            name = folder.name if folder.name.isprintable() else repr(folder.name)
            warnings.warn(f"run {name} is left out: {error}", stacklevel=2)
        else:
            records.append(record)
    return records


def fingerprint(notebook: str, parameters: dict, files: Disk = DISK) -> dict:
    """Hashes of what a run is made of: parameters, notebook, code, and the package's files that count, one by one."""
    plain = fingerprints.plain_parameters(parameters)
    modules = fingerprints.code_files(notebook, plain, files)
    code = digest(fingerprints.notebook_code(notebook, files))
    return {"parameters": digest(plain), "notebook": code, "code": digest([code, modules]), "files": modules}


def result(record: dict) -> str:
    """Hash of what other runs can read from this one: its predictions and its weights."""
    return digest([record["fingerprints"].get("predictions"), record["files"]])


def update_record(folder: str | Path, **entries: Any) -> None:
    """Change entries of a record that is there, such as `needs` (run -> its `result`), which only the runner knows."""
    record = load_record(folder) | entries
    write(Path(folder) / RECORD, to_json(record))


def changed_files(had: dict, notebook: str, wanted: dict, files: Disk) -> list[str]:
    now = fingerprints.code_files(notebook, wanted, files)
    return sorted(name for name in {*had["files"], *now} if had["files"].get(name) != now.get(name))


def _edited(record: dict) -> list[str]:
    """Files that are no longer what the record was made with."""
    had, notebook = record["fingerprints"], record["notebook"]
    try:
        changed = had["notebook"] != digest(fingerprints.notebook_code(notebook, DISK))
        return [notebook] * changed + changed_files(had, notebook, record["parameters"], DISK)
    except (FileNotFoundError, ValueError):
        return [notebook]


def _record(folder: Path, notebook: str, parameters: dict) -> dict:
    """A record with all keys, filled as far as every run can."""
    known = {
        "schema": SCHEMA,
        "run": folder.resolve().name,
        "notebook": Path(notebook).as_posix(),
        "parameters": fingerprints.plain_parameters(parameters),
        "seconds": round(time.monotonic() - _clock["begun"], 1),
        "environment": environment(),
        "fingerprints": fingerprint(notebook, parameters, IMPORTED),
    }
    lists = dict.fromkeys(("classes", "systems", "failed", "scores", "history"))
    empty = {key: [] if key in lists else {} for key in (*lists, "data", "extra", "files", "needs")}
    return dict.fromkeys(KEYS) | empty | known


def environment() -> dict:
    """Versions, device and number of cores of this process."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    torch = sys.modules.get("torch")  # not imported here: who has not used it ran on the CPU
    device = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else "cpu"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"python": platform.python_version(), **versions, "device": device, "cores": cores}


def _scores(table: pd.DataFrame) -> list[dict]:
    """One row per system, seed and split, in the order in which they come."""
    if not len(table):
        return []
    from mmutils.statistics.scores import scores  # needs torch and scikit-learn, which readers of records do not

    return [
        {"system": system, "seed": int(seed), "split": split, "examples": len(rows), **scores(rows)}
        for (system, seed, split), rows in table.groupby(["system", "seed", "split"], sort=False)
    ]


def _check_description(study, data, classes, systems, failed) -> None:
    if study not in STUDIES:
        raise ValueError(f"study must be one of {', '.join(STUDIES)}, given {study!r}")
    missing = [key for key in ("name", "fingerprint", "splits", "built_in") if key not in data]
    if missing:
        raise ValueError(f"data lacks {', '.join(missing)}; given {list(data)}")
    for system in systems:
        missing = [key for key in SYSTEM_KEYS if key not in system]
        if missing:
            raise ValueError(f"system {system.get('system')!r} lacks {', '.join(missing)}")
    names = [system["system"] for system in systems]
    if len(set(names)) < len(names):
        raise ValueError(f"the names of systems must differ within a run, given {names}")
    for entry in failed:
        if {"system", "seed", "reason"} - set(entry) or entry["system"] not in names:
            raise ValueError(f"failed needs system (one of {names}), seed and reason; given {entry}")
    if systems and not len(classes):
        raise ValueError("give the names of the classes, in the order of the labels")
