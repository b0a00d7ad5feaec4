"""The fingerprint of a data set: what a record keeps, to tell later whether the data has changed."""

import hashlib
import os
from pathlib import Path

import pandas as pd

from mmutils.data.contract import COLUMNS, SPLITS
from mmutils.data.tools.loading import call, dataset, option_names

_seen: dict[tuple, str] = {}  # by name, root, and the state of the listed files


def fingerprint(name: str, root=None) -> str:
    """sha256 of what a data set's examples depend on: the files its module lists, or else the tables of its splits.

    Where the files lie does not matter, their content does; of pictures in a root, names and sizes do.
    FileNotFoundError for a listed file that is not there.
    """
    module, digest = dataset(name), hashlib.sha256(name.encode())
    files = [Path(path) for path in module.files(root)] if hasattr(module, "files") else []
    state = (name, str(root), *((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files))
    if files and state in _seen:
        return _seen[state]
    for path in files:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    if root or not files:
        for table in _tables(name, root, strict=not files):
            digest.update(_sizes(table["image"]).encode())
            if not files:
                names = [Path(path).name if isinstance(path, str) else None for path in table["image"]]
                content = table.assign(image=names)[list(COLUMNS)]
                digest.update(content.to_json(orient="values").encode())
    _seen[state] = digest.hexdigest()
    return _seen[state]


def _tables(name: str, root, strict: bool) -> list[pd.DataFrame]:
    """The tables of the splits, pictures may be missing; unless strict, without splits that cannot be read."""
    options, tables = ({"missing": "none"} if "missing" in option_names(name) else {}), []
    for split in SPLITS:
        try:
            tables.append(call(name, "examples", root, split, **options))
        except (ValueError, FileNotFoundError):  # a split that cannot be read is in no result
            if strict:
                raise
    return tables


def _sizes(pictures: pd.Series) -> str:
    """Path, relative to the folder that holds them all, and bytes of each picture that is there."""
    paths = sorted(os.path.abspath(path) for path in pictures.dropna().unique() if os.path.isfile(path))
    home = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    return repr([(os.path.relpath(path, home), os.path.getsize(path)) for path in paths])
