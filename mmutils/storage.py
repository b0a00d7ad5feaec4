"""How records and predictions lie on disk: checked, small, the same bytes for the same content."""

import json
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

SPLITS = ("val", "test")
LARGE = 1_000_000  # bytes of predictions above which there is a warning: they are committed


def checked(predictions, classes: int, systems: list[dict], failed: list[dict]) -> pd.DataFrame:
    """Predictions with their columns in order, without those that failed; ValueError where they break the contract."""
    columns = ["system", "seed", "split", "id", "group", "label", *(f"p_{k}" for k in range(classes))]
    table = pd.DataFrame(columns=columns) if predictions is None else predictions
    lacking, extra = set(columns) - set(table), {c for c in table if c.startswith("p_")} - set(columns)
    if lacking or extra:
        raise ValueError(f"predictions for {classes} classes need the columns {columns}; given {list(table)}")
    table = table[columns]
    gone = {(entry["system"], entry["seed"]) for entry in failed}
    kept = [pair not in gone for pair in zip(table["system"], table["seed"], strict=True)]
    table = table[pd.Series(kept, index=table.index, dtype=bool)]
    names = [system["system"] for system in systems if system["system"] not in {name for name, _ in gone}]
    if set(table["system"]) - {system["system"] for system in systems} or set(names) - set(table["system"]):
        raise ValueError(f"systems are {names}, but predictions have {sorted(set(table['system']))}")
    if set(table["split"]) - set(SPLITS):
        raise ValueError(f"predictions are of the splits {', '.join(SPLITS)}; given {sorted(set(table['split']))}")
    pairs = set(zip(table["system"], table["seed"], strict=True))
    for split, rows in table.groupby("split"):
        _check_split(split, rows)
        if pairs - set(zip(rows["system"], rows["seed"], strict=True)):
            raise ValueError(f"not every system and seed has predictions for {split}: record them for all or for none")
    return table.reset_index(drop=True)


def _check_split(split: str, rows: pd.DataFrame) -> None:
    """Every system and seed has each example of the split once, with the same label and group."""
    ids = set(rows["id"])
    for (system, seed), part in rows.groupby(["system", "seed"]):
        if part["id"].duplicated().any():
            raise ValueError(f"{system}, seed {seed}: an id occurs twice in {split}; is seed or split the right one?")
        if set(part["id"]) != ids:
            raise ValueError(f"{system}, seed {seed}: {len(part)} examples of {split}, other systems have {len(ids)}")
    if len(rows[["id", "label", "group"]].drop_duplicates()) > len(ids):
        raise ValueError(f"an example of {split} has two labels or groups: are the systems on the same data?")


def to_parquet(table: pd.DataFrame) -> bytes:
    """The same bytes for the same table."""
    import pyarrow
    from pyarrow import parquet

    floats = [name for name in table if name.startswith("p_")]
    table = table.astype(dict.fromkeys(floats, "float32") | {"label": "int16", "seed": "int32"})
    content = pyarrow.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    sink = pyarrow.BufferOutputStream()
    words = [name for name in table if name not in floats]
    options = {"column_encoding": dict.fromkeys(floats, "BYTE_STREAM_SPLIT"), "use_dictionary": words}
    parquet.write_table(content, sink, compression="zstd", compression_level=19, **options)
    if sink.tell() > LARGE:
        warnings.warn(f"predictions of {sink.tell() / 1e6:.1f} MB: record fewer systems or seeds", stacklevel=3)
    return sink.getvalue().to_pybytes()


def to_json(record: dict) -> bytes:
    """Readable JSON with the keys in their order; ValueError names the entry that JSON cannot hold."""
    return (_lines(_plain(record, "record"), "") + "\n").encode()


def _plain(value: Any, where: str) -> Any:
    """The value in JSON's types: numpy scalars and arrays unpacked, paths as text, nan and infinity as None."""
    if hasattr(value, "tolist"):  # numpy, torch
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(part, f"{where}.{key}") for key, part in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(part, f"{where}[{i}]") for i, part in enumerate(value)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return value.as_posix()
    if value is None or isinstance(value, str | bool | int):
        return value
    raise ValueError(f"{where} is a {type(value).__name__}: a record holds numbers, texts, lists and dicts")


def _lines(value: Any, indent: str) -> str:
    """JSON, indented, but what fits on a line, and each row of a list (such as the history), is one line."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or len(flat) <= 100:
        return flat
    inner = indent + " "
    if isinstance(value, dict):
        parts = [f"{inner}{json.dumps(k, ensure_ascii=False)}: {_lines(v, inner)}" for k, v in value.items()]
    else:
        rows = [part.values() if isinstance(part, dict) else [part] for part in value]
        simple = [not any(isinstance(part, dict | list) for part in row) for row in rows]
        pairs = zip(value, simple, strict=True)
        parts = [inner + (json.dumps(v, ensure_ascii=False) if one_line else _lines(v, inner)) for v, one_line in pairs]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n" + ",\n".join(parts) + f"\n{indent}{closing}"
