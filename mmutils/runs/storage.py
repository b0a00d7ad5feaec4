"""What a record holds, and how records and predictions lie on disk: checked, the same bytes for the same content."""

import json
import re
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import to_jsonable_python

from mmutils.runs.fingerprints import digest
from mmutils.runs.parameters import printable

SCHEMA = 1
SPLITS = ("val", "test")
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"  # of a run, and so of its folder
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Text = Annotated[str, Field(max_length=100_000)]


class _Entries(BaseModel):
    """Entries of these types and any others; no text stands for a number."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Data(_Entries):
    name: Text
    fingerprint: Text
    splits: dict[Text, Any]
    built_in: bool
    language: Text | None = None


class _System(_Entries):
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
    variant: dict[Text, Text | Number] | None = None  # what tells it from the other forms of its run
    start: Text | None = None  # of a fine-tuning run
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    baseline: Text | None = None
    labels: Count | None = None
    val_labels: Count | None = None
    networks: Annotated[list[Text], Field(min_length=1)] | None = None


class _Failure(_Entries):
    system: Text
    seed: Seed
    reason: Text


class _Scores(_Entries):
    __pydantic_extra__: dict[str, Number | None]
    system: Text
    seed: Seed
    split: Literal[SPLITS]


class _Epoch(_Entries):
    __pydantic_extra__: dict[str, Number | Text | bool | None]
    system: Text | None = None
    seed: Seed = 0
    epoch: Count | None = None


class _Fingerprints(_Entries):
    notebook: Text
    files: dict[Text, Text]
    predictions: Text | None = None


class _Record(_Entries):
    """What every record has, in this order; this one is of a run that failed, so some of it is empty."""

    schema_: Literal[SCHEMA] = Field(alias="schema")
    run: Annotated[str, Field(pattern=f"^{NAME}$")]
    notebook: Text
    status: Literal["failed"]
    reason: Text
    study: Text | None
    data: dict[Text, Any]
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
    reason: Text | None
    study: Literal["crisis", "gap", "memes", "transfer"]
    data: _Data

    @model_validator(mode="after")
    def _fits(self) -> "_Done":
        names = [system.system for system in self.systems]
        if len(set(names)) < len(names):
            raise ValueError(f"the names of systems must differ within a run, given {names}")
        if other := {entry.system for entry in self.failed} - set(names):
            raise ValueError(f"failed needs system, one of {names}; given {sorted(other)}")
        if names and not self.classes:
            raise ValueError("give the names of the classes, in the order of the labels")
        return self


KEYS = tuple(field.alias or name for name, field in _Record.model_fields.items())


def check_record(record: Any) -> None:
    """ValueError names the first entry that no record has, or that is of another type."""
    failed = isinstance(record, dict) and record.get("status") == "failed"
    try:
        (_Record if failed else _Done).model_validate(record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) + ": " * bool(first["loc"])
        value = "" if isinstance(first["input"], dict) else f", given {first['input']!r:.100}"
        raise ValueError(printable(f"{where}{first['msg'].removeprefix('Value error, ')}{value}")) from None


def check_predictions(predictions, classes: int, systems: list[dict], failed: list[dict]) -> pd.DataFrame:
    """Predictions with their columns in order, without those that failed; ValueError where they break the contract.

    Every system and seed has each example of a split once, with the same label and group.
    """
    columns = ["system", "seed", "split", "id", "group", "label", *(f"p_{k}" for k in range(classes))]
    table = pd.DataFrame(columns=columns) if predictions is None else predictions
    if set(columns) != {name for name in table if name in columns or name.startswith("p_")}:
        raise ValueError(f"predictions for {classes} classes need the columns {columns}; given {list(table)}")
    table = table[columns]
    for entry in failed:
        table = table[(table["system"] != entry["system"]) | (table["seed"] != entry["seed"])]
    names, present = {system["system"] for system in systems}, set(table["system"])
    complete = names - {entry["system"] for entry in failed}
    if not complete <= present <= names:
        raise ValueError(f"systems are {sorted(complete)}, but predictions have {sorted(present)}")
    if other := set(table["split"]) - set(SPLITS):
        raise ValueError(f"predictions are of the splits {', '.join(SPLITS)}; given {sorted(other)}")
    pairs = table.groupby(["system", "seed"]).ngroups
    for split, rows in table.groupby("split"):
        from mmutils.statistics.panel import panels  # needs scikit-learn, which readers of records do not

        if rows.groupby(["system", "seed"]).ngroups < pairs:
            raise ValueError(f"not every system and seed has predictions for {split}: record them for all or for none")
        panels([part for _, part in rows.groupby("system", sort=False)])
    return table.reset_index(drop=True)


def to_parquet(table: pd.DataFrame) -> bytes:
    """The same bytes for the same table."""
    import pyarrow
    from pyarrow import parquet

    floats = [name for name in table if name.startswith("p_")]
    words = [name for name in table if name not in floats]
    table = table.astype(dict.fromkeys(floats, "float32") | {"label": "int16", "seed": "int32"})
    content = pyarrow.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    sink = pyarrow.BufferOutputStream()
    options = {"column_encoding": dict.fromkeys(floats, "BYTE_STREAM_SPLIT"), "use_dictionary": words}
    parquet.write_table(content, sink, compression="zstd", compression_level=19, **options)
    return sink.getvalue().to_pybytes()


def to_json(record: dict) -> bytes:
    """Readable JSON, rows of the history on a line each, with its own hash; ValueError names a wrong entry."""
    content = plain(record)
    content["fingerprints"]["record"] = seal(content)
    check_record(content)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    flat = re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda match: re.sub(r"\n *", " ", match[0]), text)  # what holds no other
    return f"{flat}\n".encode()


def seal(record: dict) -> str:
    """Hash of a record's content but for this hash: a number that changed on the disk is noticed."""
    prints = {name: value for name, value in record["fingerprints"].items() if name != "record"}
    return digest(record | {"fingerprints": prints})


def plain(record: dict) -> dict:
    """A record in JSON's types: numpy's and torch's unpacked, paths as text, nan and infinity as None."""

    def unpacked(value):  # of what is no type of Python's own
        if hasattr(value, "tolist"):
            return value.tolist()
        raise ValueError(f"a {type(value).__name__}")

    try:
        return to_jsonable_python(record, inf_nan_mode="null", fallback=unpacked)
    except ValueError as error:
        raise ValueError(f"the record has {error}: it holds numbers, texts, lists and dicts") from None
