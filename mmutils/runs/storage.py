"""How records and predictions lie on disk: checked, small, the same bytes for the same content."""

import json
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mmutils.runs.fingerprints import digest

SPLITS = ("val", "test")
LARGE = 1_000_000  # bytes of predictions above which there is a warning: they are committed
LONGEST = 100_000_000  # bytes of a record that is read
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"  # of a run, and so of its folder
Number = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Text = Annotated[str, Field(max_length=100_000)]


class Entries(BaseModel):
    """Entries of these types and any others; no text stands for a number."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Data(Entries):
    name: Text
    fingerprint: Text
    splits: dict[Text, Any]
    built_in: bool
    language: Text | None = None


class _System(Entries):
    system: Text
    inputs: Text
    language: Text | None
    method: Text
    model: Text
    weights: Text
    trained: Text
    chosen: bool
    encoder: Text | None = None  # of a pretraining run
    probe: Literal["knn", "linear", None] = None
    kept: Text | None = None
    start: Text | None = None  # of a fine-tuning run
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    baseline: Text | None = None
    labels: Annotated[int, Field(ge=0)] | None = None
    val_labels: Annotated[int, Field(ge=0)] | None = None
    networks: Annotated[list[Text], Field(min_length=1)] | None = None


class _Failure(Entries):
    system: Text
    seed: Seed
    reason: Text


class _Scores(Entries):
    __pydantic_extra__: dict[str, Number | None]
    system: Text
    seed: Seed
    split: Literal["val", "test"]


class _Epoch(Entries):
    __pydantic_extra__: dict[str, Number | Text | bool | None]
    system: Text | None = None
    seed: Seed = 0
    epoch: Annotated[int, Field(ge=0)] | None = None


class _Fingerprints(Entries):
    notebook: Text
    files: dict[Text, Text]
    predictions: Text | None = None


class _Record(Entries):
    """What every record has; of a run that failed some of it is empty."""

    run: Annotated[str, Field(pattern=f"^{NAME}$")]
    notebook: Text
    study: Text | None
    classes: list[Text]
    parameters: dict[Text, Any]
    systems: list[_System]
    failed: list[_Failure]
    scores: list[_Scores]
    history: list[_Epoch]
    extra: dict[Text, Any]
    files: dict[Text, Text]
    needs: dict[Text, Any]
    seconds: Number | None
    environment: dict[Text, Any]
    fingerprints: _Fingerprints


class _Done(_Record):
    status: Literal["ok"]
    study: Text
    data: _Data


class _Failed(_Record):
    status: Literal["failed"]
    reason: Text
    data: dict[Text, Any]


RECORDS = TypeAdapter(Annotated[_Done | _Failed, Field(discriminator="status")])


def read_json(path: Path) -> Any:
    """What a JSON file holds. ValueError: too large, too deep, not JSON, or texts that cannot be written again."""
    if path.stat().st_size > LONGEST:
        raise ValueError(f"it has more than {LONGEST / 1e6:.0f} MB")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
        json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair can be read, but not written
    except RecursionError:
        raise ValueError("lists within lists too deep to be read") from None
    return content


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def check_types(model: TypeAdapter | type[BaseModel], content: Any) -> None:
    """ValueError names the first entry that is not of the model's types."""
    try:
        model.validate_python(content) if isinstance(model, TypeAdapter) else model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise ValueError(f"{where if where.isprintable() else repr(where)}: {first['msg']}") from None


def checked(predictions, classes: int, systems: list[dict], failed: list[dict]) -> pd.DataFrame:
    """Predictions with their columns in order, without those that failed; ValueError where they break the contract."""
    columns = ["system", "seed", "split", "id", "group", "label", *(f"p_{k}" for k in range(classes))]
    table = pd.DataFrame(columns=columns) if predictions is None else predictions
    lacking, extra = set(columns) - set(table), {c for c in table if c.startswith("p_")} - set(columns)
    if lacking or extra:
        raise ValueError(f"predictions for {classes} classes need the columns {columns}; given {list(table)}")
    table = table[columns]
    gone = {(entry["system"], entry["seed"]) for entry in failed}
    for system, seed in gone:
        table = table[(table["system"] != system) | (table["seed"] != seed)]
    there = set(table["system"].unique())
    names = [system["system"] for system in systems if system["system"] not in {name for name, _ in gone}]
    if there - {system["system"] for system in systems} or set(names) - there:
        raise ValueError(f"systems are {names}, but predictions have {sorted(there)}")
    if other := set(table["split"].unique()) - set(SPLITS):
        raise ValueError(f"predictions are of the splits {', '.join(SPLITS)}; given {sorted(other)}")
    pairs = len(table[["system", "seed"]].drop_duplicates())
    for split, rows in table.groupby("split"):
        _check_split(split, rows)
        if len(rows[["system", "seed"]].drop_duplicates()) < pairs:
            raise ValueError(f"not every system and seed has predictions for {split}: record them for all or for none")
    return table.reset_index(drop=True)


def _check_split(split: str, rows: pd.DataFrame) -> None:
    """Every system and seed has each example of the split once, with the same label and group."""
    count, sizes = rows["id"].nunique(), rows.groupby(["system", "seed"], sort=False).size()
    if rows.duplicated(["system", "seed", "id"]).any():
        system, seed = rows[rows.duplicated(["system", "seed", "id"])].iloc[0][["system", "seed"]]
        raise ValueError(f"{system}, seed {seed}: an id occurs twice in {split}; is seed or split the right one?")
    if (sizes != count).any():
        system, seed = sizes.index[sizes != count][0]
        size = sizes[system, seed]
        raise ValueError(f"{system}, seed {seed}: {size} examples of {split}, other systems have {count}")
    if len(rows[["id", "label", "group"]].drop_duplicates()) > count:
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
    """Readable JSON with the keys in their order, and with a hash of itself among its `fingerprints`.

    ValueError names the entry that a record cannot hold.
    """
    plain = _plain(record, "record")
    plain["fingerprints"]["record"] = seal(plain)
    check_types(RECORDS, plain)
    return (_lines(plain, "") + "\n").encode()


def seal(record: dict) -> str:
    """Hash of a record's content but for this hash: a number that changed on the disk is noticed."""
    prints = {name: value for name, value in record["fingerprints"].items() if name != "record"}
    return digest(record | {"fingerprints": prints})


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
